package chaos

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// start is how the programs are started while a fault lasts.
type start struct {
	query   url.Values // of the URL of the database
	environ []string
}

// set has the programs started in another way from now on.
func (r *run) set(change func(*start)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.start)
}

// started is the environment of a program that is started now.
func (r *run) environment(base []string, address string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, err := url.Parse(address)
	if err != nil {
		panic(err) // server made it
	}
	query := at.Query()
	maps.Copy(query, r.start.query)
	at.RawQuery = query.Encode()
	return slices.Concat(base, []string{"DATABASE_URL=" + at.String()}, r.start.environ)
}

// renew has every worker stop and start again.
func (r *run) renew() {
	for _, p := range slices.Concat(r.workers, r.own) {
		p.signal(sigterm)
	}
}

// startedSo has the workers run with other settings for as long as the step lasts.
func (r *run) startedSo(ctx context.Context, s Step, change func(*start)) {
	r.setting.Lock()
	defer r.setting.Unlock()
	r.set(change)
	r.renew()
	s.wait(ctx)
	r.set(func(now *start) { *now = start{} })
	r.renew()
}

// violate notes that something was seen that must not be, while a fault lasted.
func (r *run) violate(check, what string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, Violation{check, fmt.Sprintf(what, args...)})
}

// doctor is what `worker doctor` says at an address.
func (r *run) doctor(ctx context.Context, address string) string {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(r.programs, "worker"), "doctor", "--patience", "1s")
	cmd.Env = append(r.environ(), "DATABASE_URL="+address)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(fmt.Sprintf("%s (%v)", out, err))
}

// clockSteps are how far a program's clock is off, and after how much of its life: most programs have one that is set
// while they run.
var clockSteps = []string{"7200 0s", "-7200 0s", "7200 400ms", "-7200 400ms"}

var settingFaults = []Fault{
	{
		Name: "clock-worker", Does: "the clocks of workers and of `enqueue` are off by 2 hours, or are set by so much " +
			"while they run", Least: 500 * time.Millisecond, Most: 2 * time.Second, Args: clockSteps,
		do: func(ctx context.Context, r *run, s Step) error {
			if _, err := os.Stat(filepath.Join(r.programs, overlayFile)); err != nil {
				return errSkipped
			}
			by, after, _ := strings.Cut(s.Arg, " ")
			off := []string{"CHAOS_CLOCK=" + by, "CHAOS_CLOCK_AFTER=" + after}
			r.startedSo(ctx, s, func(now *start) { now.environ = off })
			return nil
		},
	},
	{
		Name: "pool-of-1", Does: "workers may open one connection for all but the lanes (pool_max_conns=1)",
		Least: 500 * time.Millisecond, Most: 2 * time.Second,
		do: func(ctx context.Context, r *run, s Step) error {
			r.startedSo(ctx, s, func(now *start) { now.query = url.Values{"pool_max_conns": {"1"}} })
			return nil
		},
	},
	{
		Name: "old-kinds", Does: "a worker of an older version, which lacks a kind, runs instead of the new one, then " +
			"beside it", Least: 500 * time.Millisecond, Most: 2 * time.Second,
		Holds: "Jobs of the kind wait, and no attempt is burned.",
		do: func(ctx context.Context, r *run, s Step) error {
			r.setting.Lock()
			defer r.setting.Unlock()
			r.set(func(now *start) { now.environ = []string{"CHAOS_LACKS=points.add"} })
			older := r.newProcess("older own worker", "ownworker")
			ended := make(chan struct{})
			go func() { older.keep(); close(ended) }()
			for _, p := range r.own {
				p.signal(sigterm)
			}
			s.wait(ctx)
			r.set(func(now *start) { *now = start{} })
			for _, p := range r.own {
				p.signal(sigterm)
			}
			s.wait(ctx)
			err := older.stop(40 * time.Second)
			<-ended
			return err
		},
	},
	{
		Name: "migrate", Does: "`worker migrate up` of the version that is there, again and again",
		Least: 300 * time.Millisecond, Most: time.Second, do: migrateAgain,
	},
}

// migrateAgain must change nothing and hold nobody up. An error counts only if nothing else was going on.
func migrateAgain(ctx context.Context, r *run, s Step) error {
	for end := time.Now().Add(s.For); time.Now().Before(end) && ctx.Err() == nil; {
		cmd := exec.CommandContext(ctx, filepath.Join(r.programs, "worker"), "migrate", "up")
		cmd.Env = append(r.environ(), "DATABASE_URL="+r.server.urlOf(r.server.network.side, "", ""))
		if out, err := cmd.CombinedOutput(); err != nil {
			if r.plan.Alone {
				r.violate("migrate", "worker migrate up: %v: %s", err, out)
			}
			return fmt.Errorf("worker migrate up: %w", err)
		}
	}
	return nil
}
