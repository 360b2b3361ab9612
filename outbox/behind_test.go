package outbox_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// has tells whether one line has all the parts.
func (l *lines) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.all, func(line string) bool {
		return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) })
	})
}

// age has all jobs wait for an hour already, so that no test of what is late takes long.
func (b *bench) age() {
	b.t.Helper()
	b.exec(`UPDATE lastseat.river_job
		SET scheduled_at = scheduled_at - interval '1 h', created_at = created_at - interval '1 h'`)
}

// stranger is another session that does something and leaves its transaction open.
func (b *bench) stranger(sql string) (pid uint32, end func()) {
	b.t.Helper()
	ctx := context.WithoutCancel(b.t.Context())
	conn, err := pgx.ConnectConfig(ctx, b.pool.Config().ConnConfig.Copy())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close(ctx) })
	if _, err := conn.Exec(ctx, `BEGIN; `+sql); err != nil {
		b.t.Fatal(err)
	}
	return conn.PgConn().PID(), func() {
		if _, err := conn.Exec(ctx, `ROLLBACK`); err != nil {
			b.t.Error(err)
		}
	}
}

// While a lane is behind, one line says which job has waited longest, how many are behind it, why, and on whom they
// wait; another line says when it has caught up.
func TestLaneThatIsBehindSaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lock   string // what another session does, and leaves open
		stuck  string // the job that is first then; empty: none can be seen
		behind int
		says   []string
	}{
		"a row": {`SELECT FROM public.counters WHERE id = 1 FOR UPDATE`, "k-0000", 5,
			[]string{"another session has locked a row", "row=\"counters (0,1)\""}},
		"a job": {`SELECT FROM lastseat.river_job WHERE args ->> 'key' = 'k-0003' FOR UPDATE`, "k-0003", 0,
			[]string{"another session has locked the job"}},
		"a table": {`LOCK TABLE lastseat.requests IN SHARE MODE`, "k-0000", 5,
			[]string{"another session has locked a table", "table=lastseat.requests"}},
		"the jobs": {`LOCK TABLE lastseat.river_job IN ACCESS EXCLUSIVE MODE`, "", 0,
			[]string{"another session has locked a table", "table=lastseat.river_job"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBothForms(t, func(t *testing.T, b *bench) {
				b.counters(1)
				b.settler.set(func(ctx context.Context, tx pgx.Tx, job outbox.Job) error {
					if job.Key != "k-0000" {
						return nil
					}
					return bump(ctx, tx, 1)
				})
				b.enqueue(numbered("k", 6)...)
				b.age()
				pid, end := b.stranger(c.lock)
				told := &lines{}
				b.start(outbox.Settings{Logger: told.logger()})
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("the log: %q", told.all)
					}
				})
				parts := append(slices.Clone(c.says), "the lane is behind", fmt.Sprint("pid=", pid), "role=",
					"state=\"idle in transaction\"",
					strings.Fields(c.lock)[0])
				if c.stuck != "" {
					parts = append(parts, "kind=toy", "key="+c.stuck, "duration=1h0m", fmt.Sprint("behind=", c.behind, " "))
				}
				b.eventually("the log says who it is", func() bool { return told.has(parts...) })
				end()
				b.eventually("all are played", func() bool { return len(b.played()) == 6 })
				b.eventually("the log says that it has caught up", func() bool { return told.has("the lane has caught up") })
			})
		})
	}
}

// Nobody is to blame: a queue that is paused, and jobs that have gathered. Each lane speaks of its own jobs.
func TestLanesThatAreBehind(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.exec(`INSERT INTO lastseat.river_queue (name, created_at, updated_at, paused_at)
		VALUES ('lastseat', now(), now(), now())`)
	b.enqueue(numbered("k", 40)...)
	b.age()
	told := &lines{}
	stop := b.start(outbox.Settings{Lanes: 2, Logger: told.logger()})
	for lane := range 2 {
		b.eventually("each lane says that the queue is paused", func() bool {
			return told.has("the lane is behind", fmt.Sprint("lane=", lane), `reason="the queue is paused"`)
		})
	}
	stop()
	jobs, said := 0, regexp.MustCompile(`the lane is behind.* behind=(\d+) `)
	for _, line := range told.all {
		if found := said.FindStringSubmatch(line); found != nil {
			n, _ := strconv.Atoi(found[1])
			jobs += 1 + n
		}
	}
	if jobs != 40 {
		t.Errorf("the lanes speak of %d jobs, want 40:\n%s", jobs, told.all)
	}
	b.exec(`UPDATE lastseat.river_queue SET paused_at = NULL`)
	told = &lines{}
	b.settler.set(func(context.Context, pgx.Tx, outbox.Job) error {
		if !told.has("the lane is behind") {
			time.Sleep(50 * time.Millisecond) // so that they are not settled before the lane looks again
		}
		return nil
	})
	b.start(outbox.Settings{Batch: 1, Logger: told.logger()})
	b.eventually("the log says that it has caught up", func() bool { return told.has("the lane has caught up") })
	says := func(reason string) bool { return told.has("the lane is behind", "kind=toy key=k-00", reason) }
	// A commit may wait too long for another test's notification.
	conflict := told.has("conflict with another session") && says("conflicts with other sessions")
	if !says("more is due than could be settled so far") && !conflict {
		t.Errorf("the log does not say that the lane was behind: %q", told.all)
	}
}
