package outbox_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// trap has the claim fail whenever it comes to a raw job with a certain note.
func (b *bench) trap(code string) {
	b.t.Helper()
	b.exec(`ALTER FUNCTION lastseat.fingerprint(text, jsonb) RENAME TO true_fingerprint`)
	b.exec(fmt.Sprintf(`CREATE FUNCTION lastseat.fingerprint(kind text, args jsonb)
		RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN
		IF args ->> 'note' = 'trap' THEN RAISE 'trapped' USING ERRCODE = '%s'; END IF;
		RETURN lastseat.true_fingerprint(kind, args);
	END $$`, code))
	b.exec(`GRANT EXECUTE ON FUNCTION lastseat.fingerprint TO PUBLIC`)
}

// A job whose row fails the claim gets its failed attempt, and all others settle, in order.
func TestJobThatCannotBeClaimed(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"22003", "54001", "XX001"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			good := numbered("k", 200)
			b.enqueue(good[:120]...)
			id := b.raw(`{"key": "trapped", "note": "trap"}`)
			b.enqueue(good[120:]...)
			b.trap(code)
			stats := b.drain(outbox.Settings{Batch: 100})
			if !slices.Equal(b.played(), good) {
				t.Errorf("%d played, want the %d good ones in order", len(b.played()), len(good))
			}
			left := b.keys(`SELECT id || ' ' || (errors[1] ->> 'error') FROM lastseat.river_job WHERE attempt = cardinality(errors)`)
			if len(left) != 1 || !strings.HasPrefix(left[0], fmt.Sprintf("%d ", id)) || !strings.Contains(left[0], "trapped") {
				t.Errorf("left: %q; %+v", left, stats)
			}
		})
	}
}

// cutAfter cuts a connection that has read more than so many bytes.
type cutAfter struct {
	net.Conn
	left int
}

func (c *cutAfter) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.left -= n; c.left < 0 {
		_ = c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// A connection that breaks under too much is given less.
func TestConnectionThatBreaksUnderMuch(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	want := numbered("k", 60)
	b.enqueue(want...)
	breaking := *b
	breaking.workers = wrappedPool(b, func(conn net.Conn) net.Conn { return &cutAfter{Conn: conn, left: 9 << 10} })
	breaking.start(outbox.Settings{Batch: 64})
	b.eventually("all are played", func() bool { return len(b.played()) == 60 })
	if n := one[int](b, `SELECT max(attempts) FROM lastseat.requests`); n != 1 || !slices.Equal(b.played(), want) {
		t.Errorf("%d attempts, played %v", n, b.played())
	}
}

// bigEnder is a settler whose session is ended by an operator's watchdog whenever a batch is big.
type bigEnder struct{ toySettler }

func (s *bigEnder) Settle(ctx context.Context, tx pgx.Tx, batch outbox.Batch) ([]outbox.Result, error) {
	if len(batch.Jobs) > 8 {
		_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)`)
		return nil, err
	}
	return s.toySettler.Settle(ctx, tx, batch)
}

// 57P01 with every big batch: the next ones are smaller, and no job is blamed.
func TestSessionEndedWithEveryBigBatch(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	b.kinds.Register(&bigEnder{}, outbox.Kind{Name: "toy"})
	want := numbered("k", 24)
	b.enqueue(want...)
	b.start(outbox.Settings{Batch: 24})
	b.eventually("all are played", func() bool { return len(b.played()) == 24 })
	if n := one[int](b, `SELECT max(attempts) FROM lastseat.requests`); n != 1 || !slices.Equal(b.played(), want) {
		t.Errorf("%d attempts, played %v", n, b.played())
	}
}

// A raw job whose request the database refuses to write is charged, though it has no request, and all others settle.
func TestJobWhoseRequestIsRefused(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"23514", "P0001"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.exec(fmt.Sprintf(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				RAISE 'not this one' USING ERRCODE = '%s'; END $$`, code))
			b.exec(`CREATE TRIGGER refuse BEFORE INSERT ON lastseat.requests FOR EACH ROW WHEN (NEW.key = 'bad')
				EXECUTE FUNCTION public.refuse()`)
			good := numbered("k", 40)
			b.enqueue(good[:20]...)
			id := b.raw(`{"key": "bad"}`)
			b.raw(`{"key": "fine"}`)
			b.enqueue(good[20:]...)
			b.exec(`UPDATE lastseat.river_job SET max_attempts = 1 WHERE id = $1`, id)
			b.drain(outbox.Settings{})
			if got := b.played(); !slices.Equal(got, slices.Concat(good[:20], []string{"fine"}, good[20:])) {
				t.Errorf("played %v", got)
			}
			left := b.keys(`SELECT id || ' ' || state || ' ' || (errors[1] ->> 'error') FROM lastseat.river_job`)
			if len(left) != 1 || !strings.HasPrefix(left[0], fmt.Sprint(id, " discarded")) ||
				!strings.Contains(left[0], "not this one") {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// A job that fails and whose row takes no change at all stays where it is, is named, and holds up nobody.
func TestJobThatCannotEvenBeDiscarded(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		b.settler.set(misbehave(map[string]func(context.Context, pgx.Tx) error{"bad": failing}))
		b.enqueue("before", "bad", "after")
		b.exec(`ALTER TABLE lastseat.river_job ADD CONSTRAINT stuck CHECK (args ->> 'key' <> 'bad' OR state = 'available'
			AND attempt = 0)`)
		told := &lines{}
		b.drain(outbox.Settings{Logger: told.logger()})
		if got := b.played(); !slices.Equal(got, []string{"before", "after"}) {
			t.Errorf("played %v", got)
		}
		b.wantOutcome("bad", outbox.Pending, "")
		if !told.with("job left out", "key=bad") {
			t.Errorf("no line names the job: %v", told.all)
		}
	})
}

// A job whose arguments are damaged on the disk, in a queue of one lane and of several: no lane can read its lane from
// it. It is charged with a failed attempt, like every job that fails, and all others settle.
func TestJobWithDamagedArguments(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 3} {
		t.Run(fmt.Sprint("lanes ", lanes), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if _, err := b.pool.Exec(t.Context(), `CREATE EXTENSION pg_surgery SCHEMA public`); err != nil {
				t.Skipf("nothing to damage a row with: %v", err)
			}
			good := numbered("k", 60)
			b.enqueue(good[:30]...)
			b.exec(`SELECT lastseat.enqueue('toy', 'damaged', jsonb_build_object('note', (
				SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300) n)))`)
			b.enqueue(good[30:]...)
			toast := one[string](b, `SELECT reltoastrelid::regclass::text FROM pg_class
				WHERE oid = 'lastseat.river_job'::regclass`)
			b.exec(fmt.Sprintf(`SELECT public.heap_force_kill('%s', ARRAY(SELECT ctid FROM %s))`, toast, toast))
			told := &lines{}
			b.drain(outbox.Settings{Lanes: lanes, Batch: 16, Logger: told.logger()})
			played := b.played()
			if slices.Sort(played); !slices.Equal(played, good) {
				t.Errorf("%d played: %v", len(played), played)
			}
			if !told.with("job failed", "job_id=31") {
				t.Errorf("no line names the job: %v", told.all)
			}
			// A slow drain meets it again when its second attempt is due. Each attempt has the same error.
			left := b.keys(`SELECT concat_ws(' ', id, attempt = cardinality(errors),
				(SELECT bool_and(e ->> 'error' LIKE 'claim: %') FROM unnest(errors) AS e), state, attempt, errors)
				FROM lastseat.river_job`)
			if len(left) != 1 || !strings.HasPrefix(left[0], "31 t t ") {
				t.Errorf("left: %q", left)
			}
		})
	}
}
