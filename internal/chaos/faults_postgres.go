package chaos

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

var postgresFaults = []Fault{
	{
		Name: "pg-crash", Does: "Postgres is stopped at once (SIGQUIT) and comes back through recovery",
		Most: 700 * time.Millisecond,
		do: func(ctx context.Context, r *run, s Step) error {
			return r.server.restart(ctx, syscall.SIGQUIT, s.For)
		},
	},
	{
		Name: "pg-fast", Does: "Postgres is stopped fast (SIGINT) and started again", Most: 700 * time.Millisecond,
		do: func(ctx context.Context, r *run, s Step) error {
			return r.server.restart(ctx, syscall.SIGINT, s.For)
		},
	},
	{
		Name: "pg-flap", Does: "Postgres goes and comes three times in a row", Most: 200 * time.Millisecond,
		do: func(ctx context.Context, r *run, s Step) error {
			for _, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGINT, syscall.SIGQUIT} {
				if err := r.server.restart(ctx, signal, s.For); err != nil {
					return err
				}
				time.Sleep(time.Duration(s.N%300) * time.Millisecond)
			}
			return nil
		},
	},
	{
		Name: "backend-crash", Does: "SIGKILL to one process of Postgres, which then restarts all the others",
		do: func(ctx context.Context, r *run, _ Step) error {
			r.server.mu.Lock()
			defer r.server.mu.Unlock()
			var pid int
			err := r.admin.QueryRow(ctx, `SELECT pid FROM pg_stat_activity WHERE datname = $1
				AND application_name LIKE 'lastseat%' ORDER BY application_name = 'lastseat lane' DESC, random()`,
				database).Scan(&pid)
			if err != nil {
				return err
			}
			return syscall.Kill(pid, syscall.SIGKILL)
		},
	},
	{
		Name: "terminate", Does: "pg_terminate_backend of sessions at random, in a loop", Least: 300 * time.Millisecond,
		Most: 1500 * time.Millisecond, Args: []string{"bench_worker", "bench_producer", "%"},
		do: func(ctx context.Context, r *run, s Step) error { return r.harass(ctx, s, "pg_terminate_backend") },
	},
	{
		Name: "cancel", Does: "pg_cancel_backend of sessions at random, in a loop", Least: 300 * time.Millisecond,
		Most: 1500 * time.Millisecond, Args: []string{"bench_worker", "bench_producer", "%"},
		do: func(ctx context.Context, r *run, s Step) error { return r.harass(ctx, s, "pg_cancel_backend") },
	},
	{
		Name: "connections", Does: "strangers take all the connections there are, while sessions are ended",
		Least: 500 * time.Millisecond, Most: 2 * time.Second,
		do: exhaust,
	},
}

// harass ends or cancels half of the sessions of a role, again and again. The bench's own superuser is left alone.
func (r *run) harass(ctx context.Context, s Step, function string) error {
	for end := time.Now().Add(s.For); time.Now().Before(end) && ctx.Err() == nil; {
		_, err := r.admin.Exec(ctx, `SELECT `+function+`(pid) FROM pg_stat_activity
			WHERE datname = $1 AND usename LIKE $2 AND usename LIKE 'bench%' AND random() < 0.5`, database, s.Arg)
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(5+s.N%80) * time.Millisecond)
	}
	return nil
}

// exhaust takes every connection that an ordinary role can get, and ends the sessions that are in the way.
func exhaust(ctx context.Context, r *run, s Step) error {
	url := r.server.urlOf(r.server.network.side, "bench_producer", "secret")
	var taken []*pgx.Conn
	defer func() {
		for _, conn := range taken {
			limited, cancel := context.WithTimeout(background, time.Second)
			_ = conn.Close(limited)
			cancel()
		}
	}()
	for end := time.Now().Add(s.For); time.Now().Before(end) && ctx.Err() == nil; {
		limited, cancel := context.WithTimeout(ctx, time.Second)
		conn, err := pgx.Connect(limited, url)
		cancel()
		if err == nil {
			taken = append(taken, conn)
			continue
		}
		_, _ = r.admin.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = $1 AND usename = 'bench_worker' AND random() < 0.3`, database)
		time.Sleep(30 * time.Millisecond)
	}
	if len(taken) == 0 {
		return fmt.Errorf("no connection could be taken")
	}
	return nil
}
