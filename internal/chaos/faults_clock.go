package chaos

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"
)

var clockFaults = []Fault{
	{
		Name: "clock-server", Does: "the clock of Postgres is set forward by 2 hours, or back, and right again (libfaketime)",
		Asked: true, Least: 2500 * time.Millisecond, Most: 4 * time.Second, Args: []string{"+7200", "-7200"},
		Holds: "No effect twice. What was asked for before the clock was set back is settled within seconds, and order and " +
			"expiry are by the clock as it was.",
		do: func(ctx context.Context, r *run, s Step) error {
			if !r.server.fakeClock {
				return errSkipped
			}
			defer func() { _ = r.server.setClock("+0") }()
			if err := r.server.setClock(s.Arg); err != nil {
				return err
			}
			s.wait(ctx)
			if err := r.server.setClock("+0"); err != nil {
				return err
			}
			return r.expectNoneAhead(ctx)
		},
	},
}

// faketimeLibrary is what deceives Postgres. It looks into its file once a second.
func faketimeLibrary() string {
	found, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(found) == 0 {
		return ""
	}
	return slices.Max(found)
}

// clockFile says by how many seconds the server's clock is off.
func (s *server) clockFile() string { return filepath.Join(s.dir, "clock") }

func (s *server) setClock(by string) error {
	next := s.clockFile() + ".new"
	err := os.WriteFile(next, []byte(by+"\n"), 0o644) //nolint:gosec // for the server's user
	return errors.Join(err, os.Rename(next, s.clockFile()))
}

// deceive has the server started under a clock that can be set, from its next start on, or not.
func (s *server) deceive(ctx context.Context, is bool) error {
	if is = is && faketimeLibrary() != ""; is == s.fakeClock {
		return nil
	}
	s.fakeClock = is
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.setClock("+0"), s.revive(ctx))
}

// fakeEnvironment is what has a server believe in the file. It is set for this whole process while the server starts.
func (s *server) fakeEnvironment() (undo func()) {
	undo = func() {}
	if !s.fakeClock {
		return undo
	}
	for name, value := range map[string]string{
		"LD_PRELOAD": faketimeLibrary(), "FAKETIME_TIMESTAMP_FILE": s.clockFile(), "FAKETIME_CACHE_DURATION": "1",
		"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DISABLE_SHM": "1",
	} {
		before := undo
		_ = os.Setenv(name, value)
		undo = func() { _ = os.Unsetenv(name); before() }
	}
	return undo
}

// settledWithin is how soon what was asked for before a step back has to be settled.
const settledWithin = 15 * time.Second

// expectNoneAhead waits until nothing is left that was asked for at a time that is now ahead.
func (r *run) expectNoneAhead(ctx context.Context) error {
	const aheadSQL = `SELECT count(*), coalesce(min(key), '') FROM lastseat.requests
		WHERE status = 'pending' AND EXISTS (SELECT FROM lastseat.river_job j WHERE j.id = job_id AND j.state = 'available')
		  AND requested_at > clock_timestamp() + interval '10 s'`
	left, key := 0, ""
	for give := time.Now().Add(settledWithin); time.Now().Before(give) && ctx.Err() == nil; {
		if err := r.admin.QueryRow(ctx, aheadSQL).Scan(&left, &key); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.violate("clock", "%v after the clock was set back %d requests that were asked for before wait, one is %s",
		settledWithin, left, key)
	return nil
}
