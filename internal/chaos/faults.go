package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/lastseat/lastseat/internal/faultpoint"
)

const sigcont, sigterm = syscall.SIGCONT, syscall.SIGTERM

// Fault is something that is done to the system.
type Fault struct {
	Name        string
	Does        string        // for docs/reliability.md
	Holds       string        // what is promised; empty: everything
	Least, Most time.Duration // how long it lasts
	Args        []string      // one of these
	Asked       bool          // only in plans that name it: it takes long
	Early       bool          // the system recovers while it lasts: that is counted from its beginning
	do          func(context.Context, *run, Step) error
}

// Faults are all that the bench knows, in the order of docs/reliability.md.
func Faults() []Fault {
	return slices.Concat(processFaults, postgresFaults, standbyFaults, clockFaults, diskFaults, networkFaults,
		poolerFaults, databaseFaults, settingFaults, poisonFaults, memoryFaults, restoreFaults)
}

func byName(name string) Fault {
	all := Faults()
	i := slices.IndexFunc(all, func(f Fault) bool { return f.Name == name })
	if i < 0 {
		panic("there is no fault " + name)
	}
	return all[i]
}

// wait lasts for as long as the step does.
func (s Step) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(s.For):
	}
}

var processFaults = []Fault{
	{
		Name: "kill", Does: "SIGKILL to a worker at any moment, mostly to the one with the lane",
		do: func(_ context.Context, r *run, s Step) error {
			r.target(s).signal(syscall.SIGKILL)
			return nil
		},
	},
	{
		Name: "kill-at", Does: "SIGKILL at a point of a batch, a sweep or a grant", Most: 1500 * time.Millisecond,
		Args: pointNames(), do: func(ctx context.Context, r *run, s Step) error { return r.atPoint(ctx, s, "kill") },
	},
	{
		Name: "freeze", Does: "SIGSTOP to a worker at any moment, mostly to the one with the lane, then SIGCONT",
		Least: 200 * time.Millisecond, Most: 2 * time.Second,
		Holds: "The woken worker writes nothing that is not its own. Another one takes over when Postgres ends the session.",
		do: func(ctx context.Context, r *run, s Step) error {
			p := r.target(s)
			p.signal(syscall.SIGSTOP)
			s.wait(ctx)
			p.signal(sigcont)
			return nil
		},
	},
	{
		Name:  "freeze-at",
		Does:  "SIGSTOP at a point of a batch, a sweep or a grant, then SIGCONT",
		Least: 200 * time.Millisecond,
		Most:  2 * time.Second,
		Args:  pointNames(),
		Holds: "As before. A worker that is frozen in a batch keeps the lane until Postgres ends its transaction, after " +
			"30 s.",
		do: func(ctx context.Context, r *run, s Step) error {
			err := r.atPoint(ctx, s, "stop")
			r.thaw()
			return err
		},
	},
	{
		Name:  "freeze-long",
		Does:  "SIGSTOP in the middle of a batch, for longer than Postgres waits",
		Asked: true, Early: true,
		Least: 36 * time.Second,
		Most:  40 * time.Second,
		Args:  []string{string(faultpoint.AfterClaim), string(faultpoint.BeforeCommit)},
		Holds: "Another worker takes the lane when Postgres has ended the transaction, after 30 s: the recovery counts " +
			"from the freeze. The woken one writes nothing.",
		do: func(ctx context.Context, r *run, s Step) error {
			err := r.atPoint(ctx, s, "stop")
			r.thaw()
			return err
		},
	},
	{
		Name: "term", Does: "SIGTERM to a worker, which is then started again",
		do: func(_ context.Context, r *run, s Step) error {
			r.target(s).signal(syscall.SIGTERM)
			return nil
		},
	},
	{
		Name: "term-twice", Does: "SIGTERM twice, a moment apart", Most: 30 * time.Millisecond,
		do: func(ctx context.Context, r *run, s Step) error {
			p := r.target(s)
			p.signal(syscall.SIGTERM)
			s.wait(ctx)
			p.signal(syscall.SIGTERM)
			return nil
		},
	},
	{
		Name: "kill-all", Does: "SIGKILL to every worker at once",
		do: func(_ context.Context, r *run, _ Step) error {
			for _, p := range slices.Concat(r.workers, r.own) {
				p.signal(syscall.SIGKILL)
			}
			return nil
		},
	},
	{
		Name: "absent", Does: "every worker is killed whenever it comes back", Least: 500 * time.Millisecond,
		Most: 2 * time.Second,
		do: func(ctx context.Context, r *run, s Step) error {
			for end := time.Now().Add(s.For); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
				for _, p := range slices.Concat(r.workers, r.own) {
					p.signal(syscall.SIGKILL)
				}
			}
			return nil
		},
	},
}

// pointNames are the points of the workers, and some of the own worker.
func pointNames() (names []string) {
	for _, point := range faultpoint.Points() {
		names = append(names, string(point))
	}
	return append(names, filepath.Join(ownPoints, string(faultpoint.AfterClaim)),
		filepath.Join(ownPoints, string(faultpoint.BeforeCommit)))
}

// target is the worker that a step is about: three times out of four the one that took a lane last.
func (r *run) target(s Step) *process {
	p := r.workers[s.N%len(r.workers)]
	if s.N%4 == 0 {
		return p
	}
	for _, other := range r.workers {
		if other.tookLane() > p.tookLane() {
			p = other
		}
	}
	return p
}

// thaw wakes every worker that is frozen.
func (r *run) thaw() {
	for _, p := range slices.Concat(r.workers, r.own) {
		p.signal(sigcont)
	}
}

// atPoint ends or freezes the next worker that comes to a point. If none does for as long as the step lasts, nothing
// happens.
func (r *run) atPoint(ctx context.Context, s Step, what string) error {
	file := filepath.Join(r.points, s.Arg)
	if err := os.WriteFile(file+".new", []byte(what), 0o600); err != nil {
		return err
	}
	if err := os.Rename(file+".new", file); err != nil {
		return err
	}
	end := time.Now().Add(s.For)
	for time.Now().Before(end) && ctx.Err() == nil {
		if _, err := os.Stat(file); err != nil {
			if what == "stop" {
				time.Sleep(time.Until(end)) // it is frozen
			}
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	if os.Remove(file) == nil {
		return errNotReached
	}
	return nil
}

var errNotReached = fmt.Errorf("no worker came to the point")
