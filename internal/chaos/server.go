package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/schema"
)

// server is the bench's Postgres. It may stop and start again, each time on another port; the proxies know which.
type server struct {
	dir     string
	network *network
	login   string // the address of the database, as whoever may do all: of its first port

	tables    string   // the directory of the tablespace bench; empty: there is none
	data      string   // the directory in dir that is the server's: another one after a failover
	twoHosts  bool     // addresses name the server's second proxy, too
	moves     int      // how often it has moved
	fakeClock bool     // its clock can be set
	small     bool     // it has disks that can be filled
	unmounts  []func() // of these

	mu      sync.Mutex // held by whoever stops or starts it
	running *localpg.Server
}

// settings trade away what only a crash of the machine could take. Few connections, so that they can run out.
var serverSettings = map[string]string{
	"fsync": "off", "max_connections": "60", "shared_buffers": "64MB", "autovacuum_naptime": "5s", "log_statement": "none",
	"max_wal_size": "96MB", "min_wal_size": "32MB",
}

func newServer(ctx context.Context) (*server, error) {
	dir, err := os.MkdirTemp("", "lastseat-chaos-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, data: "pg"}
	if err = os.Chmod(dir, 0o711); err == nil { // the server's user has to get in
		s.running, err = s.launch(ctx)
	}
	if err == nil {
		s.login = localpg.WithDatabase(s.running.URL(), database)
		err = s.miniaturize(ctx)
	}
	if err == nil {
		s.network, err = newNetwork(s.host())
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *server) launch(ctx context.Context) (*localpg.Server, error) {
	defer s.fakeEnvironment()()
	return localpg.Start(ctx, localpg.Options{Dir: filepath.Join(s.dir, s.data), Settings: serverSettings})
}

func (s *server) host() string {
	at, err := url.Parse(s.running.URL())
	if err != nil {
		panic(err) // localpg made it
	}
	return at.Host
}

// close ends the server. What it wrote into its log is lost with it.
func (s *server) close() {
	if s.network != nil {
		s.network.close()
	}
	if s.running != nil {
		_ = s.running.Stop()
	}
	for _, unmount := range s.unmounts {
		unmount()
	}
	_ = os.RemoveAll(s.dir)
}

// log is the end of what the server wrote since its last start.
func (s *server) log() string {
	all, err := os.ReadFile(filepath.Join(s.dir, s.data, "server.log"))
	if err != nil {
		return err.Error()
	}
	return string(all[max(0, len(all)-4000):])
}

// urlOf is the address of the database through a proxy.
func (s *server) urlOf(p *proxy, user, password string) string {
	at, err := url.Parse(s.login)
	if err != nil {
		panic(err) // localpg made it
	}
	at.Host = p.address
	if p.second != nil && s.twoHosts {
		at.Host += "," + p.second.address
	}
	if user != "" {
		at.User = url.UserPassword(user, password)
	}
	return at.String()
}

const database = "bench"

// empty makes the database anew, with nothing in it.
func (s *server) empty(ctx context.Context) error {
	admin, err := pgsession.Open(ctx, s.running.URL())
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(ctx) }()
	create := `CREATE DATABASE ` + database
	if s.tables != "" {
		create += ` TABLESPACE bench`
		_, _ = admin.Exec(ctx, `CREATE TABLESPACE bench LOCATION '`+s.tables+`'`) // once
	}
	for _, sql := range []string{
		`DROP DATABASE IF EXISTS ` + database + ` WITH (FORCE)`, create,
		`DROP ROLE IF EXISTS bench_worker, bench_producer`, `ALTER SYSTEM RESET ALL`, `SELECT pg_reload_conf()`,
	} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("make the database: %w", err)
		}
	}
	return nil
}

// prepare makes the database of a run.
func (s *server) prepare(ctx context.Context, statements ...string) error {
	if err := s.empty(ctx); err != nil {
		return err
	}
	url := s.urlOf(s.network.side, "", "")
	if _, err := schema.Up(ctx, url, false); err != nil {
		return err
	}
	db, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, sql := range append([]string{rolesSQL}, statements...) {
		if _, err := db.Exec(ctx, sql); err != nil {
			return fmt.Errorf("prepare the database: %w", err)
		}
	}
	return nil
}

const rolesSQL = `
	CREATE ROLE bench_worker LOGIN PASSWORD 'secret' IN ROLE lastseat_worker;
	CREATE ROLE bench_producer LOGIN PASSWORD 'secret' IN ROLE lastseat_producer;
	CREATE SCHEMA bench;
	CREATE TABLE bench.orders (key text NOT NULL, client int NOT NULL);
	CREATE TABLE bench.members (id text PRIMARY KEY, points bigint NOT NULL DEFAULT 0);
	GRANT USAGE ON SCHEMA bench TO bench_worker, bench_producer;
	GRANT INSERT ON bench.orders TO bench_producer;
	GRANT SELECT, UPDATE ON bench.members TO bench_worker`

// postmaster is the process id of the server.
func (s *server) postmaster() (int, error) {
	all, err := os.ReadFile(filepath.Join(s.dir, s.data, "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := bytes.Cut(all, []byte("\n"))
	return strconv.Atoi(string(first))
}

// restart stops the server by a signal (SIGQUIT: at once, as in a crash; SIGINT: fast), leaves it down for a while and
// starts it again.
func (s *server) restart(ctx context.Context, signal syscall.Signal, down time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.end(signal); err != nil {
		return err
	}
	time.Sleep(down)
	return s.revive(ctx)
}

// end stops the server by a signal. mu is held.
func (s *server) end(signal syscall.Signal) error {
	pid, err := s.postmaster()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, signal); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	for deadline := time.Now().Add(time.Minute); syscall.Kill(pid, 0) == nil && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// revive starts the server after it has ended. Whatever happens to the run, it has to come back. mu is held.
func (s *server) revive(ctx context.Context) error {
	if err := s.running.Stop(); err != nil {
		return err
	}
	again, err := s.launch(context.WithoutCancel(ctx))
	if err != nil {
		return errors.Join(err, errors.New(s.log()))
	}
	s.running = again
	return s.network.lead(s.host())
}
