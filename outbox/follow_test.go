package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// consumer is a service with a database of its own, in which it writes down every outcome.
func consumer(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := testdb.Pool(t, testdb.Empty(t))
	testdb.Exec(t, pool, outbox.FollowTable)
	testdb.Exec(t, pool, `CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY, key text)`)
	return pool
}

func noteEffects(ctx context.Context, tx pgx.Tx, outcomes []outbox.Outcome) error {
	for _, outcome := range outcomes {
		if _, err := tx.Exec(ctx, `INSERT INTO effects (key) VALUES ($1)`, outcome.Key); err != nil {
			return err
		}
	}
	return nil
}

func effects(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	return testdb.Scalar[[]string](t, pool, `SELECT coalesce(array_agg(key ORDER BY n), '{}') FROM effects`)
}

func options(into *pgxpool.Pool) outbox.FollowOptions {
	return outbox.FollowOptions{Into: into, Batch: 7, Poll: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
}

// Followers of one name come and go, are cut off in the middle of a transaction, lose their connections and fail:
// each outcome takes effect once, in order.
func TestFollowOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	into := consumer(t)
	const n = 200
	all := numbered("k", n)
	var wrecks atomic.Int32
	do := func(ctx context.Context, tx pgx.Tx, outcomes []outbox.Outcome) error {
		half := len(outcomes) / 2
		if err := noteEffects(ctx, tx, outcomes[:half]); err != nil {
			return err
		}
		switch rand.IntN(6) {
		case 0:
			wrecks.Add(1)
			return errBroken
		case 1: // as when its process is killed here
			wrecks.Add(1)
			_ = tx.Conn().PgConn().Conn().Close()
		}
		return noteEffects(ctx, tx, outcomes[half:])
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 3)
	for range cap(ended) {
		go func() {
			for {
				err := outbox.Follow(ctx, b.pool, "billing", do, options(into))
				if !errors.Is(err, errBroken) {
					ended <- err
					return
				}
			}
		}()
	}
	for i := range 10 {
		b.enqueue(all[i*n/10 : (i+1)*n/10]...)
		b.drain(outbox.Settings{Batch: 9})
	}
	clitest.Eventually(t, "every outcome to take effect", func() bool { return len(effects(t, into)) >= n })
	cancel()
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Errorf("a follower ends with %v", err)
		}
	}
	if got := effects(t, into); !slices.Equal(got, b.played()) {
		t.Errorf("the effects are %v, the outcomes were settled as %v", got, b.played())
	}
	if wrecks.Load() == 0 {
		t.Error("nothing went wrong: the test has not tried it")
	}
}

var errBroken = errors.New("broken")

// Two names follow on their own, and one may work in the database of the outcomes.
func TestFollowInTheSameDatabase(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, sql := range []string{outbox.FollowTable,
		`CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY, key text)`} {
		b.exec(sql)
	}
	b.enqueue("a", "b")
	b.drain(outbox.Settings{})
	for i, name := range []string{"one", "two"} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- outbox.Follow(ctx, b.pool, name, noteEffects, outbox.FollowOptions{}) }()
		clitest.Eventually(t, "the outcomes to take effect", func() bool { return len(effects(t, b.pool)) >= 2*(i+1) })
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if got := strings.Join(effects(t, b.pool), ""); got != "abab" {
		t.Errorf("the effects are %q", got)
	}
}

// What does not pass by itself ends it, and says what to do.
func TestFollowEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.enqueue("a")
	b.drain(outbox.Settings{})
	follow := func(into *pgxpool.Pool, do func(context.Context, pgx.Tx, []outbox.Outcome) error) error {
		ctx, cancel := context.WithTimeout(t.Context(), clitest.Patience)
		defer cancel()
		return outbox.Follow(ctx, b.pool, "billing", do, options(into))
	}
	if err := follow(
		testdb.Pool(t, testdb.Empty(t)),
		noteEffects,
	); err == nil ||
		!strings.Contains(err.Error(), "lastseat_follow") {
		t.Errorf("without the table: %v", err)
	}
	into := consumer(t)
	if err := follow(
		into,
		func(context.Context, pgx.Tx, []outbox.Outcome) error { return errBroken },
	); !errors.Is(
		err,
		errBroken,
	) {
		t.Errorf("an error of the function: %v", err)
	}
	conflicts := 0
	err := follow(into, func(ctx context.Context, tx pgx.Tx, _ []outbox.Outcome) error {
		if conflicts++; conflicts < 3 {
			_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$`)
			return fmt.Errorf("charge: %w", err)
		}
		return errBroken
	})
	if !errors.Is(err, errBroken) || conflicts != 3 {
		t.Errorf("after %d conflicts: %v", conflicts, err)
	}
	testdb.Exec(t, into, `UPDATE lastseat_follow SET cursor = 'bbbbbbbbbbbb.1.1.1'`)
	if err := follow(
		into,
		noteEffects,
	); !errors.Is(err, outbox.ErrInvalid) ||
		!strings.Contains(err.Error(), "outcomes_since") {
		t.Errorf("a cursor of another database: %v", err)
	}
	if got := effects(t, into); len(got) != 0 {
		t.Errorf("effects of transactions that failed: %v", got)
	}
}
