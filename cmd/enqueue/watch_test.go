package main

import (
	"context"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// watched runs enqueue watch until stop.
func watched(t *testing.T, url string, args ...string) (out, errs *clitest.Buffer, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	out, errs = &clitest.Buffer{}, &clitest.Buffer{}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"watch"}, args...), cli.Streams{In: strings.NewReader(""), Out: out, Err: errs,
			Environ: []string{"DATABASE_URL=" + url}})
	}()
	return out, errs, func() int { cancel(); return <-ended }
}

// listening waits until a watch has its connection and has looked.
func (s *shop) listening(t *testing.T) {
	t.Helper()
	const sql = `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'
		AND application_name = 'lastseat enqueue' AND query LIKE '%lastseat.outcomes_since(%')`
	clitest.Eventually(t, "the watch to listen", func() bool { return testdb.Scalar[bool](t, s.pool, sql) })
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.transfer(t, "before").Succeeds(t)
	s.drain(t)
	out, errs, stop := watched(t, testdb.As(t, s.pool, "lastseat_producer"))
	rejected, _, stopRejected := watched(t, s.url, "--status", "rejected", "-o", "json")
	clitest.Eventually(t, "both to listen", func() bool {
		return testdb.Scalar[int](t, s.pool, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database()
			AND state = 'idle' AND query LIKE '%lastseat.outcomes_since(%'`) == 2
	})
	s.transfer(t, "paid").Succeeds(t)
	s.transfer(t, "poor", "--from", "ben").Succeeds(t)
	s.drain(t)
	clitest.Eventually(t, "the outcomes", func() bool {
		return strings.Count(out.String(), "\n") == 2 && strings.Count(rejected.String(), "\n") == 1
	})
	if code := stop(); code != 0 || errs.String() != "" {
		t.Errorf("stopped: exit code %d, %q", code, errs.String())
	}
	if text := out.String(); !strings.Contains(text, "paid  payment.transfer  applied  transferred\n") ||
		!strings.Contains(text, "poor  payment.transfer  rejected  insufficient_funds") || strings.Contains(text, "before") {
		t.Errorf("it shows %q", text)
	}
	if stopRejected(); !strings.Contains(rejected.String(), `"key":"poor"`) {
		t.Errorf("only the rejected one: %q", rejected.String())
	}

	all := s.enqueue(t, "watch", "--from-beginning", "--limit", "2", "-o", "json")
	all.Succeeds(t)
	type line struct{ Key, Cursor string }
	lines := clitest.Lines[line](t, all)
	if len(lines) != 2 || lines[0].Key != "before" || lines[1].Key != "paid" {
		t.Fatalf("from the beginning: %+v", lines)
	}
	rest := s.enqueue(t, "watch", "--after", lines[1].Cursor, "--limit", "1", "-o", "json")
	rest.Succeeds(t)
	if got := clitest.Lines[line](t, rest); got[0].Key != "poor" {
		t.Errorf("after a cursor: %+v", got)
	}
	s.enqueue(t, "watch", "--after", "nonsense").Fails(t, 65, `"nonsense" is no cursor`)
	s.enqueue(t, "watch", "--status", "pending").Fails(t, 64, "enqueue list --status pending")
	s.enqueue(t, "watch", "--limit", "-1").Fails(t, 64, "--limit is -1")
}

// A watch whose connection is lost connects again, and misses and repeats nothing.
func TestWatchGoesOn(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	out, errs, stop := watched(t, s.url)
	s.listening(t)
	s.transfer(t, "k1").Succeeds(t)
	s.drain(t)
	clitest.Eventually(t, "the first outcome", func() bool { return strings.Contains(out.String(), "k1") })
	testdb.Scalar[int](t, s.pool, `SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'lastseat enqueue'`)
	s.transfer(t, "k2").Succeeds(t)
	s.drain(t)
	clitest.Eventually(t, "the second outcome", func() bool { return strings.Contains(out.String(), "k2") })
	if code := stop(); code != 0 {
		t.Errorf("stopped: exit code %d", code)
	}
	if text := out.String(); strings.Count(text, "\n") != 2 {
		t.Errorf("it shows %q", text)
	}
	if said := errs.String(); strings.Count(said, "\n") != 2 || !strings.Contains(said, "it is tried again") ||
		!strings.Contains(said, "connected again") {
		t.Errorf("of the lost connection it says %q", said)
	}
}
