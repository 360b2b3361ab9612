package outbox_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

// newSmallQueueBench is one on a server of its own, whose notification queue has half a megabyte. fill fills it:
// nothing leaves it while a listener stays in its transaction.
func newSmallQueueBench(t *testing.T) (b *bench, fill func()) {
	t.Helper()
	if one[int](newEmptyBench(t), `SELECT current_setting('server_version_num')::int`) < 170000 {
		t.Skip("max_notify_queue_pages came with Postgres 17: before that it takes 8 GB to fill the notification queue")
	}
	server, err := localpg.Start(t.Context(),
		localpg.Options{Settings: map[string]string{"fsync": "off", "max_notify_queue_pages": "64"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	if _, err := schema.Up(t.Context(), server.URL(), false); err != nil {
		t.Fatal(err)
	}
	b = &bench{t: t, url: server.URL(), settler: &toySettler{}, kinds: &outbox.Kinds{}}
	b.pool, b.workers = testdb.Pool(t, b.url), testdb.Pool(t, b.url)
	b.kinds.Register(b.settler, outbox.Kind{Name: "toy", OrderBy: "note"})
	b.exec(`CREATE TABLE public.toy (n bigserial, key text)`)

	listener, err := pgx.Connect(t.Context(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close(context.WithoutCancel(t.Context())) })
	for _, sql := range []string{`LISTEN nothing`, `BEGIN`, `SELECT 1`} {
		if _, err := listener.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return b, func() {
		for err == nil {
			_, err = b.pool.Exec(context.WithoutCancel(t.Context()), `SELECT pg_notify('nothing', repeat('x', 7900) || n)
				FROM generate_series(1, 10) n`)
		}
		if sqlState(err) != "54000" {
			t.Errorf("the queue is not full: %v", err)
		}
	}
}

// Nobody stands still because the server's notification queue is full: neither who asks while the lane sleeps, nor the
// lane.
func TestFullNotificationQueue(t *testing.T) {
	t.Parallel()
	b, fill := newSmallQueueBench(t)
	b.start(outbox.Settings{Poll: 50 * time.Millisecond})
	b.eventually("the lane sleeps", b.laneSleeps)
	fill()
	want := numbered("k", 20)
	b.enqueue(want...)
	b.eventually("all are played", func() bool { return slices.Equal(b.played(), want) })
	if n := one[int](b, `SELECT max(attempts) FROM lastseat.requests`); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// The queue fills after the lane has looked how full it is.
func TestNotificationQueueFillsBeforeCommit(t *testing.T) {
	t.Parallel()
	b, fill := newSmallQueueBench(t)
	b.workers = hookedPool(b, "commit\x00", sync.OnceFunc(func() {
		b.exec(`CREATE TABLE public.filled ()`) // proves that it came to this
		fill()
	}))
	want := numbered("k", 20)
	b.enqueue(want...)
	stats := b.drain(outbox.Settings{})
	if !slices.Equal(b.played(), want) || stats.Failures != 0 || one[int](b, `SELECT count(*) FROM public.filled`) != 0 {
		t.Errorf("%+v, played %v", stats, b.played())
	}
}

// failCommits has the first n COMMITs that have written to a table fail, as if the notification queue were full.
func (b *bench) failCommits(n int, table string) {
	b.t.Helper()
	b.exec(`CREATE SEQUENCE public.commits`)
	b.exec(strings.NewReplacer("$n", strconv.Itoa(n), "$table", table).Replace(`
		CREATE FUNCTION public.fail_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('public.commits') <= $n THEN
				RAISE 'too many notifications in the NOTIFY queue' USING ERRCODE = '54000';
			END IF;
			RETURN NULL;
		END $$;
		CREATE CONSTRAINT TRIGGER fail_commit AFTER INSERT OR UPDATE ON $table DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION public.fail_commit()`))
}

// After a COMMIT that fails so, the same batch is settled again, and nobody is told of it.
func TestCommitWithoutNotification(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.failCommits(1, "public.toy")
	listener, err := pgx.Connect(t.Context(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close(context.WithoutCancel(t.Context())) }()
	if _, err := listener.Exec(t.Context(), `LISTEN lastseat_outcome`); err != nil {
		t.Fatal(err)
	}
	want := numbered("k", 20)
	b.enqueue(want...)
	stats := b.drain(outbox.Settings{})
	if !slices.Equal(b.played(), want) || stats.Failures != 0 || stats.Conflicts != 0 {
		t.Errorf("%+v, played %v", stats, b.played())
	}
	if n := one[int](b, `SELECT count(DISTINCT xmin::text) FROM public.toy`); n != 1 {
		t.Errorf("settled in %d batches: the same one again would have done", n)
	}
	b.exec(`SELECT pg_notify('lastseat_outcome', 'the first that comes')`)
	heard, err := listener.WaitForNotification(t.Context())
	if err != nil || heard.Payload != "the first that comes" {
		t.Errorf("heard %+v, %v", heard, err)
	}
}

// If it fails without a notification as well, that is the doing of a job.
func TestCommitFailsWithoutNotificationToo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.enqueue(numbered("k", 20)...)
	b.failCommits(1, "public.toy")
	b.exec(`CREATE OR REPLACE FUNCTION public.fail_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.key = 'k-0007' THEN RAISE 'too much' USING ERRCODE = '54000'; END IF;
		RETURN NULL;
	END $$`)
	b.drain(outbox.Settings{})
	if n := len(b.played()); n != 19 || b.outcome("k-0007").Attempts != 1 {
		t.Errorf("%d played, %+v", n, b.outcome("k-0007"))
	}
}

func TestCommitOfASweepWithoutNotification(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	b.perish("-1 hour", "p")
	b.failCommits(1, "public.perishable")
	var limits []int // written by the lane alone
	s.before = func(_ context.Context, _ pgx.Tx, sweep outbox.Sweep) error {
		limits = append(limits, sweep.Limit)
		return nil
	}
	b.drain(outbox.Settings{})
	if b.wantSweptOnce(); len(limits) < 2 || limits[0] != limits[1] {
		t.Errorf("limits %v: the same sweep again would have done", limits)
	}
}
