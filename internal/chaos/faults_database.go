package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

var databaseFaults = []Fault{
	{
		Name: "statistics",
		Does: "the statistics say that every table is empty, and the sessions plan anew",
		do:   forgetStatistics,
	},
	{
		Name:  "snapshot",
		Does:  "a transaction with a snapshot and an id stays open",
		Least: time.Second,
		Most:  5 * time.Second,
		Args:  []string{"repeatable read", "serializable"},
		Holds: "Outcomes are settled meanwhile. Followers see them when the transaction has ended.",
		do: func(ctx context.Context, r *run, s Step) error {
			return r.aside(ctx, func(conn *pgx.Conn) error {
				_, err := conn.Exec(
					ctx,
					`BEGIN ISOLATION LEVEL `+s.Arg+`; SELECT pg_current_xact_id(), count(*) FROM lastseat.requests`,
				)
				s.wait(ctx)
				return err
			})
		},
	},
	{
		Name: "locks", Does: "strangers lock rows of accounts, resources and payments, again and again",
		Least: 500 * time.Millisecond, Most: 3 * time.Second,
		Holds: "What needs a locked row waits in the queue, in order; the rest goes on.",
		do:    lockStorm,
	},
	{
		Name: "advisory", Does: "a login without rights takes the advisory locks of the lane and the doorbell",
		Least: 500 * time.Millisecond, Most: 3 * time.Second, do: takeAdvisoryLocks,
	},
	{
		Name: "notify", Does: "a flood of notifications of 7 kB on the worker's channel", Least: 300 * time.Millisecond,
		Most: time.Second, do: func(ctx context.Context, r *run, s Step) error {
			return r.aside(ctx, func(conn *pgx.Conn) error {
				for end := time.Now().Add(s.For); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
					_, err := conn.Exec(ctx, `SELECT pg_notify('lastseat.river_insert', n || repeat('x', 7000))
						FROM generate_series(1, 50) n`)
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	},
	{
		Name: "settings", Does: "settings of a role or the database that nobody would choose, and new sessions",
		Least: 500 * time.Millisecond, Most: 2 * time.Second, Args: settingNames(),
		Holds: "Right, or refused in plain words. Nothing is settled while a setting leaves no room for it.",
		do:    changeSetting,
	},
}

// aside runs work on a connection of its own, through the side door.
func (r *run) aside(ctx context.Context, work func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, r.server.urlOf(r.server.network.side, "", ""))
	if err != nil {
		return err
	}
	defer func() {
		limited, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		_ = conn.Close(limited)
	}()
	return work(conn)
}

// forgetStatistics has the planner believe what it believes of a table that was analyzed when it was empty.
func forgetStatistics(ctx context.Context, r *run, _ Step) error {
	return r.aside(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SET allow_system_table_mods = on;
			DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'lastseat'::regnamespace);
			UPDATE pg_class SET reltuples = 0, relpages = 0 WHERE relnamespace = 'lastseat'::regnamespace
			  AND relkind IN ('r', 'i');
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bench_worker'`)
		return err
	})
}

// lockStorm takes the locks of a few rows at a time, in no order, and gives them back.
func lockStorm(ctx context.Context, r *run, s Step) error {
	random := rand.New(rand.NewPCG(uint64(s.N), 1))
	return r.aside(ctx, func(conn *pgx.Conn) error {
		for end := time.Now().Add(s.For); time.Now().Before(end) && ctx.Err() == nil; {
			table := []string{"accounts", "resources", "payments", "reservations"}[random.IntN(4)]
			_, err := conn.Exec(ctx, fmt.Sprintf(`BEGIN; SELECT FROM lastseat.%s WHERE id IN (
				SELECT id FROM lastseat.%s ORDER BY random() LIMIT 3) FOR UPDATE SKIP LOCKED`, table, table))
			if err != nil {
				return err
			}
			time.Sleep(time.Duration(20+random.IntN(400)) * time.Millisecond)
			if _, err := conn.Exec(ctx, `ROLLBACK`); err != nil {
				return err
			}
		}
		return nil
	})
}

// takeAdvisoryLocks takes them as a login that has no right but to connect, as soon as they are free.
func takeAdvisoryLocks(ctx context.Context, r *run, s Step) error {
	var locks []int64
	rows, err := r.admin.Query(ctx, `SELECT lastseat.lane_lock('lastseat', lane, $1) FROM generate_series(0, $1 - 1) lane
		UNION ALL SELECT lastseat.doorbell('lastseat')`, r.plan.Lanes)
	if err != nil {
		return err
	}
	if locks, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
		return err
	}
	stranger, err := pgx.Connect(ctx, r.server.urlOf(r.server.network.side, "bench_producer", "secret"))
	if err != nil {
		return err
	}
	defer func() { _ = stranger.Close(background) }()
	for end := time.Now().Add(s.For); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if s.N%2 == 0 {
			r.workers[s.N%len(r.workers)].signal(sigkill)
		}
		left := locks[:0]
		for _, lock := range locks {
			var taken bool
			if err := stranger.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, lock).Scan(&taken); err != nil {
				return err
			}
			if !taken {
				left = append(left, lock)
			}
		}
		if locks = left; len(locks) == 0 {
			s.wait(ctx)
			return nil
		}
	}
	return nil
}

// oddSettings are for the workers' role, the clients', or both.
var oddSettings = []string{
	"statement_timeout='5ms'",
	"statement_timeout='50ms'",
	"lock_timeout='5ms'",
	"idle_in_transaction_session_timeout='5ms'",
	"idle_session_timeout='20ms'",
	"default_transaction_isolation=serializable",
	"default_transaction_isolation='repeatable read'",
	"default_transaction_read_only=on",
	"default_transaction_deferrable=on",
	"DateStyle='SQL, DMY'",
	"IntervalStyle=sql_standard",
	"search_path=bench",
	"standard_conforming_strings=off",
	"TimeZone='Australia/Lord_Howe'",
	"jit=on",
	"client_encoding=latin1",
	"bytea_output=escape",
	"extra_float_digits=-15",
	"work_mem='64kB'",
	"enable_indexscan=off",
	"plan_cache_mode=force_custom_plan",
	"row_security=off",
	"quote_all_identifiers=on",
	"array_nulls=off",
	"transform_null_equals=on",
	"xmloption=document",
	"synchronous_commit=local",
	"backslash_quote=off",
	"lc_messages=C",
}

func settingNames() (names []string) {
	for _, setting := range oddSettings {
		names = append(names, setting+" for bench_worker", setting+" for bench_producer")
	}
	return names
}

func changeSetting(ctx context.Context, r *run, s Step) error {
	setting, role, _ := strings.Cut(s.Arg, " for ")
	renew := `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '` + role + `'`
	defer func() {
		// Whatever happens to the run, the setting has to go.
		for range 100 {
			if _, err := r.admin.Exec(background, `ALTER ROLE `+role+` RESET ALL; `+renew); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	if _, err := r.admin.Exec(
		ctx,
		`ALTER ROLE `+role+` SET `+setting+`; `+renew,
		pgx.QueryExecModeSimpleProtocol,
	); err != nil {
		return err
	}
	s.wait(ctx)
	return nil
}
