package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
)

// busyWorker is a worker with a batch of 10 in hand that can't go on before release, and 20 requests more behind it.
func busyWorker(t *testing.T, environ ...string) (p *process, pool *pgxpool.Pool, release func()) {
	t.Helper()
	url := testdb.New(t)
	pool = testdb.Pool(t, url)
	open(t, pool)
	var keys []string
	for n := range 30 {
		keys = append(keys, fmt.Sprintf("k%d", n))
	}
	give(t, pool, keys...)
	release = holdBatch(t, pool)
	p = start(t, on(url, append(environ, "LASTSEAT_BATCH=10")...), "worker", "run", "-o", "json")
	held(t, pool)
	return p, pool, release
}

// Told to stop, a worker finishes the batch in hand, begins no other, and exits with 0.
func TestStopFinishesBatch(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p, pool, release := busyWorker(t)
			p.signal(t, sig)
			time.Sleep(300 * time.Millisecond) // long enough to leave, if it were to leave at once
			if !p.running() {
				t.Fatal("the worker left its batch")
			}
			release()
			p.exits(t, 0)
			if got := settled(t, pool); got != 10 {
				t.Errorf("%d requests are settled, want the batch of 10", got)
			}
			if got := p.did(t); got.Batches != 1 || got.Applied != 10 {
				t.Errorf("the worker says %+v, want one batch of 10", got)
			}
			p.quiet(t)
			nobodyLeft(t, pool)
		})
	}
}

// A batch that does not end in time is given up: none of it is done, and the worker leaves all the same.
func TestStopGivesUp(t *testing.T) {
	t.Parallel()
	p, pool, release := busyWorker(t, "LASTSEAT_STOP_TIMEOUT=500ms")
	p.signal(t, syscall.SIGTERM)
	p.exits(t, 0)
	release()
	if got := settled(t, pool); got != 0 {
		t.Errorf("%d requests are settled by a batch that was given up", got)
	}
	nobodyLeft(t, pool)
}

// The second signal ends it at once; the batch is rolled back by Postgres.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	p, pool, release := busyWorker(t)
	p.signal(t, syscall.SIGTERM)
	time.Sleep(300 * time.Millisecond)
	p.signal(t, syscall.SIGTERM)
	if p.wait(t); p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("the second signal did not end it: %v", p.cmd.ProcessState)
	}
	release()
	nobodyLeft(t, pool)
	if got := settled(t, pool); got != 0 {
		t.Errorf("%d requests are settled", got)
	}
}

// A worker that stands by takes over when the one that holds the lane stops, or is killed.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	open(t, pool)
	transfer := func(key string) {
		t.Helper()
		began := time.Now()
		enqueue(t, url, "transfer", "--key", key, "--from", "bank", "--to", "ada", "--amount", "0.01", "--currency", "EUR",
			"--wait", "45s").exits(t, 0)
		t.Logf("%s: settled within %v", key, time.Since(began).Round(time.Millisecond))
	}
	doctor := func(code int) {
		t.Helper()
		start(t, on(url), "worker", "doctor").exits(t, code)
	}
	doctor(1)
	first := start(t, on(url), "worker", "run")
	transfer("with one")
	second := start(t, on(url), "worker", "run")
	third := start(t, on(url), "worker", "run")
	connected(t, pool, 3)
	transfer("with three")
	doctor(0)
	first.signal(t, syscall.SIGTERM)
	first.exits(t, 0)
	transfer("after SIGTERM")
	second.killed(t)
	transfer("after SIGKILL")
	doctor(0)
	third.signal(t, syscall.SIGTERM)
	third.exits(t, 0)
	if got := balance(t, pool, "ada"); got != 4 {
		t.Errorf("ada has %d, want 4: each once", got)
	}
	nobodyLeft(t, pool)
	doctor(1)
}
