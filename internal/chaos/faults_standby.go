package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/localpg"
)

var standbyFaults = []Fault{
	{
		Name: "standby-missing", Does: "every COMMIT waits for a synchronous standby that is not there",
		Least: 1500 * time.Millisecond, Most: 3 * time.Second,
		Holds: "Nothing is lost. `worker doctor` says what every commit waits for.", do: missStandby,
	},
	{
		Name: "failover", Does: "a synchronous standby is made, the primary is stopped at once, and the standby is promoted",
		Least: 200 * time.Millisecond, Most: time.Second, Asked: true,
		Args:  []string{"one host", "two hosts", "one host, the old one returns", "two hosts, the old one returns"},
		Holds: "Nothing is lost. If the old primary comes back, `worker doctor` says that two servers accept writes.",
		do:    func(ctx context.Context, r *run, s Step) error { return r.failover(ctx, s, true) },
	},
	{
		Name: "failover-lossy", Does: "the same with an asynchronous standby, which lacks the last 0.3 s or a little more",
		Least: 200 * time.Millisecond, Most: time.Second, Asked: true, Args: []string{"one host", "two hosts"},
		Holds: "Lost is only what was answered in that time. A reader that knows lost outcomes is told so (`LS002`), and " +
			"where to go on.",
		do: func(ctx context.Context, r *run, s Step) error { return r.failover(ctx, s, false) },
	},
}

// standbyLag is how far an asynchronous standby may be behind on a busy machine, before it is cut off.
const standbyLag = 500 * time.Millisecond

// loss is a time in which what was answered with ok may be lost: an asynchronous standby took over.
type loss struct{ from, to time.Duration }

// setServer changes a setting of the server. It is nothing that a standby has to confirm.
func (r *run) setServer(ctx context.Context, change string) (err error) {
	for range 100 {
		if _, err = r.admin.Exec(ctx, `ALTER SYSTEM `+change); err == nil {
			if _, err = r.admin.Exec(ctx, `SELECT pg_reload_conf()`); err == nil {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

func missStandby(ctx context.Context, r *run, s Step) error {
	defer func() { _ = r.setServer(background, `RESET synchronous_standby_names`) }()
	if err := r.setServer(ctx, `SET synchronous_standby_names = 'nobody'`); err != nil {
		return err
	}
	began := time.Now()
	if said := r.doctor(ctx, r.server.urlOf(r.server.network.side, "", "")); r.plan.Alone &&
		!strings.Contains(said, "waits for a synchronous standby that is missing") {
		r.violate("doctor", "no synchronous standby is there, and the doctor says: %s", said)
	}
	s.For -= time.Since(began)
	s.wait(ctx)
	return nil
}

// failover makes a standby and has it take over.
func (r *run) failover(ctx context.Context, s Step, synchronous bool) error {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	network, old := r.server.network, r.server.running
	oldDir := r.server.data
	standby, err := r.server.makeStandby(ctx, r, synchronous)
	if err != nil {
		return err
	}
	s.wait(ctx)
	lost := loss{from: time.Since(r.since) - standbyLag}
	if !synchronous {
		if err := network.standby.set("", false); err != nil {
			return err
		}
		time.Sleep(300 * time.Millisecond)
	}
	if err := r.server.end(syscall.SIGQUIT); err != nil {
		return err
	}
	if lost.to = time.Since(r.since); !synchronous {
		r.mu.Lock()
		r.losses = append(r.losses, lost)
		r.mu.Unlock()
	}
	if err := errors.Join(old.Stop(), promote(ctx, standby)); err != nil {
		return err
	}
	if r.server.tables != "" {
		r.server.tables = filepath.Join(r.server.dir, r.server.nextData(), "tables")
	}
	r.server.running, r.server.data, r.server.small = standby, r.server.nextData(), false
	if err := r.server.network.moveTo(r.server.host(), strings.HasPrefix(s.Arg, "two")); err != nil {
		return err
	}
	if strings.HasSuffix(s.Arg, "returns") {
		return r.oldReturns(ctx, oldDir)
	}
	return nil
}

// oldReturns starts the old primary again, fenced off by nobody, and asks the doctor.
func (r *run) oldReturns(ctx context.Context, dir string) error {
	old, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(r.server.dir, dir), Settings: serverSettings})
	if err != nil {
		return err
	}
	defer func() { _ = old.Stop() }()
	for _, hosts := range [][]*localpg.Server{{old, r.server.running}, {r.server.running, old}} {
		address := localpg.WithDatabase(hosts[0].URL(), database)
		at, err := url.Parse(address)
		if err != nil {
			return err
		}
		other, err := url.Parse(hosts[1].URL())
		if err != nil {
			return err
		}
		at.Host += "," + other.Host
		if said := r.doctor(ctx, at.String()); !strings.Contains(said, "2 servers accept writes") {
			r.violate("doctor", "the old primary is back, and the doctor says: %s", said)
		}
	}
	return nil
}

// nextData is the directory in dir of the standby that takes over next.
func (s *server) nextData() string { return fmt.Sprintf("pg%d", s.moves) }

// makeStandby makes a standby of the server and waits until it follows. mu is held.
func (s *server) makeStandby(ctx context.Context, r *run, synchronous bool) (*localpg.Server, error) {
	s.moves++
	dir := filepath.Join(s.dir, s.nextData())
	if err := s.copyTo(ctx, dir); err != nil {
		return nil, err
	}
	if err := s.network.standby.set(s.host(), true); err != nil {
		return nil, err
	}
	through, err := url.Parse(s.urlOf(s.network.standby, "", ""))
	if err != nil {
		return nil, err
	}
	password, _ := through.User.Password()
	settings := map[string]string{"primary_conninfo": fmt.Sprintf("host=%s port=%s user=%s password=%s "+
		"application_name=standby", through.Hostname(), through.Port(), through.User.Username(), password)}
	maps.Copy(settings, serverSettings)
	standby, err := localpg.Start(ctx, localpg.Options{Dir: dir, Settings: settings})
	if err != nil {
		return nil, err
	}
	if synchronous {
		if err := r.setServer(ctx, `SET synchronous_standby_names = 'standby'`); err != nil {
			return nil, errors.Join(err, standby.Stop())
		}
	}
	const followsSQL = `SELECT count(*) FROM pg_stat_replication WHERE application_name = 'standby'
		AND state = 'streaming' AND (sync_state = 'sync' OR NOT $1)`
	for give := time.Now().Add(20 * time.Second); time.Now().Before(give); time.Sleep(20 * time.Millisecond) {
		n := 0
		if r.admin.QueryRow(ctx, followsSQL, synchronous).Scan(&n) == nil && n == 1 {
			return standby, nil
		}
	}
	return nil, errors.Join(errors.New("the standby does not follow"), standby.Stop())
}

// copyTo makes a copy of the server by pg_basebackup, for localpg to start.
func (s *server) copyTo(ctx context.Context, dir string) error {
	program, err := serverProgram("pg_basebackup")
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	args := []string{"-d", s.running.URL(), "-D", data, "-X", "stream", "-c", "fast"}
	if s.tables != "" {
		args = append(args, "-T", s.tables+"="+filepath.Join(dir, "tables"))
	}
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // the server's user has to get in
		return err
	}
	if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	password, err := os.ReadFile(filepath.Join(s.dir, s.data, "password"))
	if err != nil {
		return err
	}
	err = errors.Join(os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "password"), password, 0o600),
		os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o600))
	if err != nil {
		return err
	}
	owner, err := os.Stat(filepath.Join(s.dir, s.data, "data"))
	if err != nil {
		return err
	}
	stat, is := owner.Sys().(*syscall.Stat_t)
	if !is {
		return nil
	}
	for _, of := range []string{data, filepath.Join(dir, "tables")} {
		err := filepath.WalkDir(of, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, int(stat.Uid), int(stat.Gid))
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// serverProgram finds a program of Postgres beside the server's.
func serverProgram(name string) (string, error) {
	if program, err := exec.LookPath(name); err == nil {
		return program, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		return "", errSkipped
	}
	return slices.Max(found), nil
}

// promote has a standby become a primary that waits for nobody.
func promote(ctx context.Context, standby *localpg.Server) error {
	conn, err := pgx.Connect(ctx, standby.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range []string{
		`ALTER SYSTEM RESET synchronous_standby_names`, `SELECT pg_reload_conf()`, `SELECT pg_promote()`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("promote the standby: %w", err)
		}
	}
	return nil
}
