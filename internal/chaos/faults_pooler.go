package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

var poolerFaults = []Fault{
	{
		Name: "pooler-session", Does: "PgBouncer in session mode is put before workers and clients, then taken away",
		Least: time.Second, Most: 3 * time.Second,
		do: func(ctx context.Context, r *run, s Step) error {
			return r.pooled(ctx, "session", r.proxies(both), func() { s.wait(ctx) })
		},
	},
	{
		Name: "pooler-transaction", Does: "PgBouncer in transaction mode is put before clients, or before workers, then " +
			"taken away", Least: time.Second, Most: 3 * time.Second, Args: []string{"clients", "workers"},
		Holds: "Clients are served. A worker refuses to start, and says why; one that runs already is right, or idle.",
		do: func(ctx context.Context, r *run, s Step) error {
			return r.pooled(ctx, "transaction", r.proxies(s.Arg), func() {
				starts := s.Arg == "workers" && s.N%2 == 0
				if starts {
					r.renew()
				}
				s.wait(ctx)
				if starts && r.plan.Alone {
					r.expectRefusal(ctx)
				}
			})
		},
	},
}

// expectRefusal waits for every worker to have said that it can't work behind a pooler like this one.
func (r *run) expectRefusal(ctx context.Context) {
	const words = "pooler"
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && ctx.Err() == nil; {
		refused := 0
		for _, p := range r.workers {
			if strings.Contains(lastLines(p.log.String(), 8), words) {
				refused++
			}
		}
		if refused == len(r.workers) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.violate("refusal", "workers behind PgBouncer in transaction mode do not say so: %s", r.logs())
}

// pooled puts PgBouncer between proxies and the server, while something is done.
func (r *run) pooled(ctx context.Context, mode string, proxies []*proxy, work func()) error {
	r.network.Lock()
	defer r.network.Unlock()
	address, end, err := r.startPooler(ctx, mode)
	if err != nil {
		return err
	}
	defer end()
	for _, p := range proxies {
		if err := p.through(address); err != nil {
			return err
		}
		defer func() { _ = p.through("") }()
	}
	work()
	return nil
}

// startPooler starts PgBouncer before the side door, which stays where it is when the server moves.
func (r *run) startPooler(ctx context.Context, mode string) (address string, end func(), err error) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			return "", nil, errSkipped
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address = listener.Addr().String()
	_ = listener.Close()
	dir := filepath.Join(r.server.dir, "pooler")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // for nobody
		return "", nil, err
	}
	host, port, _ := net.SplitHostPort(r.server.network.side.address)
	_, own, _ := net.SplitHostPort(address)
	ini := fmt.Sprintf("[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %s\n"+
		"unix_socket_dir =\nauth_type = plain\nauth_file = %s\npool_mode = %s\ndefault_pool_size = 20\n"+
		"server_login_retry = 1\nignore_startup_parameters = extra_float_digits\n", host, port, own,
		filepath.Join(dir, "users"), mode)
	if os.Geteuid() == 0 {
		ini += "user = nobody\n" // it refuses to run as root
	}
	users := "\"bench_worker\" \"secret\"\n\"bench_producer\" \"secret\"\n"
	err = errors.Join(os.WriteFile(filepath.Join(dir, "ini"), []byte(ini), 0o644), //nolint:gosec // for nobody
		os.WriteFile(filepath.Join(dir, "users"), []byte(users), 0o644)) //nolint:gosec // for nobody
	if err != nil {
		return "", nil, err
	}
	p := &process{name: "pgbouncer", command: func() *exec.Cmd {
		return exec.Command(program, filepath.Join(dir, "ini"))
	}}
	kept := make(chan struct{})
	go func() { p.keep(); close(kept) }()
	end = func() { p.signal(sigkill); _ = p.stop(time.Second); <-kept }
	for give := time.Now().Add(10 * time.Second); time.Now().Before(give) && ctx.Err() == nil; {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return address, end, conn.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	end()
	return "", nil, fmt.Errorf("PgBouncer does not answer: %s", p.log.String())
}
