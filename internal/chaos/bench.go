package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

var background = context.Background()

// Bench is a place where plans are carried out: a server and the programs. One plan at a time.
type Bench struct {
	Log io.Writer // what is done, a line each

	programs string
	server   *server
	runs     int
}

// NewBench starts a server. programs is the directory of [Build].
func NewBench(ctx context.Context, programs string, log io.Writer) (*Bench, error) {
	server, err := newServer(ctx)
	if err != nil {
		return nil, err
	}
	return &Bench{Log: log, programs: programs, server: server}, nil
}

// Close ends the server.
func (b *Bench) Close() { b.server.close() }

func (b *Bench) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(b.Log, format+"\n", args...)
}

// run is a plan that is carried out.
type run struct {
	*Bench
	plan     Plan
	sabotage Sabotage
	since    time.Time
	points   string // the directory in which a file makes a worker end or freeze; own/ in it: the own worker

	history History
	sampler *sampler
	follow  *follower
	workers []*process // of the queue lastseat
	own     []*process
	admin   *pgxpool.Pool // through the side door
	setting sync.Mutex    // held by whoever has programs started in another way
	network sync.Mutex    // held by whoever has a toxic in place: toxiproxy bears one at a time

	mu      sync.Mutex
	started []Happened
	start   start // how programs are started
	seen    []Violation
	losses  []loss
}

// Happened is a fault that was carried out.
type Happened struct {
	Step
	From, To time.Duration // as it really was
	Error    string        // it could not be carried out
	Recovery time.Duration // after its end, until the next batch was settled
	Seen     bool          // Recovery was seen, and no other fault was in the way
}

// Result is what came of a run.
type Result struct {
	Plan       Plan
	Happened   []Happened
	Calls      map[Status]int
	Refusals   map[string]int // by SQLSTATE, or "no connection"
	Requests   int
	Outcomes   int
	Longest    Gap
	Violations []Violation
	Lost       []string // keys that were answered with ok and lost with a primary whose standby was asynchronous
	Took       time.Duration
	Logs       string // of the workers, if there are violations
}

// Violation is something that must not be.
type Violation struct {
	Check, What string
}

func (v Violation) String() string { return v.Check + ": " + v.What }

// Run carries out a plan and checks everything. The error is about the bench: what it found out about the system is in
// the result.
func (b *Bench) Run(ctx context.Context, plan Plan, sabotage Sabotage) (*Result, error) {
	b.runs++
	if b.server.moves > 0 { // a failover leaves a server behind that is not like the first
		b.server.close()
		var err error
		if b.server, err = newServer(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.server.deceive(ctx, plan.has("clock-server")); err != nil {
		return nil, err
	}
	b.server.twoHosts = plan.has("failover") || plan.has("failover-lossy")
	r := &run{Bench: b, plan: plan, sabotage: sabotage, since: time.Now(),
		points: filepath.Join(b.server.dir, "points")}
	statements := append(domainSQL(), sabotage.SQL...)
	if err := b.server.prepare(ctx, statements...); err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(r.points), os.MkdirAll(filepath.Join(r.points, ownPoints), 0o700)); err != nil {
		return nil, err
	}
	var err error
	side := b.server.urlOf(b.server.network.side, "", "")
	if r.admin, err = pgxpool.New(ctx, side); err != nil {
		return nil, err
	}
	defer r.admin.Close()
	r.since = time.Now()
	r.sampler = &sampler{url: func() string { return side }, since: r.since, lanes: max(1, plan.Lanes)}
	r.follow = &follower{url: func() string { return side }, since: r.since}
	return r.all(ctx)
}

func (r *run) all(ctx context.Context) (*Result, error) {
	looking, stopLooking := context.WithCancel(ctx)
	var lookers sync.WaitGroup
	lookers.Go(func() { r.sampler.run(looking) })
	lookers.Go(func() { r.follow.run(looking) })
	stopWorkers := r.startWorkers()

	var violations []Violation
	r.load(ctx)
	ended := time.Since(r.since)
	drained, err := r.drain(ctx)
	violations = append(violations, drained...)
	violations = append(violations, stopWorkers()...)
	violations = append(violations, r.alarms()...)
	if err == nil {
		err = r.catchUp(ctx)
	}
	stopLooking()
	lookers.Wait()
	if err != nil {
		return nil, err
	}
	return r.judge(ctx, ended, append(violations, r.seen...))
}

// startWorkers starts the workers, and returns how to stop them for good.
func (r *run) startWorkers() (stop func() []Violation) {
	for n := range r.plan.Workers {
		r.workers = append(r.workers, r.newProcess(fmt.Sprintf("worker %d", n), "worker", "run"))
	}
	r.own = append(r.own, r.newProcess("own worker", "ownworker"))
	var kept sync.WaitGroup
	for _, p := range slices.Concat(r.workers, r.own) {
		kept.Go(p.keep)
	}
	return func() (violations []Violation) {
		for _, p := range slices.Concat(r.workers, r.own) {
			if err := p.stop(40 * time.Second); err != nil {
				violations = append(violations, Violation{"stop", err.Error()})
			}
		}
		kept.Wait()
		return violations
	}
}

func (r *run) newProcess(name, program string, args ...string) *process {
	url := r.server.urlOf(r.server.network.workers, "bench_worker", "secret")
	environ := r.environ()
	if program == "worker" {
		environ = append(environ, "CHAOS_DIR="+r.points, "LASTSEAT_LANES="+strconv.Itoa(r.plan.Lanes),
			"LASTSEAT_BATCH="+strconv.Itoa(r.plan.Batch), "LASTSEAT_ISOLATION="+r.plan.Isolation,
			"LASTSEAT_AUDIT_EVERY=5s")
	} else {
		environ = append(environ, "CHAOS_DIR="+filepath.Join(r.points, ownPoints))
	}
	return &process{name: name, command: func() *exec.Cmd {
		cmd := exec.Command(filepath.Join(r.programs, program), args...)
		cmd.Env = r.environment(environ, url)
		return cmd
	}}
}

// environ is the environment of every program.
func (r *run) environ() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "CHAOS_SABOTAGE=" + string(r.sabotage.Program)}
}

// ownPoints is the directory of the points that are for the own worker, so that it is not ended in a worker's place.
const ownPoints = "own"

// load lets the clients ask and the nemesis work. When it returns everything is healed.
func (r *run) load(ctx context.Context) {
	asking, stop := context.WithTimeout(ctx, r.plan.For)
	defer stop()
	ending, end := context.WithTimeout(ctx, r.plan.For+20*time.Second)
	defer end()
	var clients, nemesis sync.WaitGroup
	for n := range r.plan.Clients {
		clients.Go(func() { r.newClient(n).run(ending, asking) })
	}
	if r.plan.Alone {
		nemesis.Go(func() { r.oneByOne(ctx) })
	} else {
		for _, step := range r.plan.Steps {
			nemesis.Go(func() { r.carryOut(ctx, step) })
		}
	}
	nemesis.Wait()
	r.thaw()
	for _, point := range pointNames() {
		_ = os.Remove(filepath.Join(r.points, point))
	}
	clients.Wait()
}

func (r *run) newClient(n int) *client {
	return &client{
		number: n, url: r.server.urlOf(r.server.network.clients, "bench_producer", "secret"), dir: r.programs, since: r.since,
		pause: r.plan.Pause, history: &r.history, asker: newAsker(r.plan.Seed, n, fmt.Sprintf("k%d/", r.runs)),
		random: rand.New(rand.NewPCG(r.plan.Seed, uint64(n))), dualWrite: r.sabotage.DualWrite,
		forgetful: r.plan.has("failover-lossy"), prompt: r.plan.has("clock-server"),
		environ: func(address string) []string { return r.environment(r.environ(), address) },
	}
}

// carryOut waits for the step's time and carries it out.
func (r *run) carryOut(ctx context.Context, step Step) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(step.At - time.Since(r.since)):
	}
	r.awaitServer(ctx)
	happened := Happened{Step: step, From: time.Since(r.since)}
	err := byName(step.Fault).do(ctx, r, step)
	happened.To = time.Since(r.since)
	if err != nil {
		happened.Error = err.Error()
	}
	r.logf("%8v %v", happened.To.Round(time.Millisecond), strings.TrimSpace(step.String()+" "+happened.Error))
	r.mu.Lock()
	r.started = append(r.started, happened)
	r.mu.Unlock()
}

// oneByOne carries out the steps, each when the system has recovered from the one before and a second has passed: what
// one holds up says nothing about the next.
func (r *run) oneByOne(ctx context.Context) {
	for _, step := range r.plan.Steps {
		if time.Since(r.since)+step.For > r.plan.For {
			continue
		}
		r.carryOut(ctx, step)
		ended := time.Since(r.since)
		for give := time.Now().Add(40 * time.Second); ctx.Err() == nil && time.Now().Before(give); {
			time.Sleep(apart)
			if _, seen := recovery(r.sampler.all(), ended); seen {
				break
			}
		}
	}
}

// apart is how long after a fault another one has to begin, for its recovery to say something.
const apart = time.Second

// awaitServer waits for the server to be there, unless it is away for long: most faults need it to begin.
func (r *run) awaitServer(ctx context.Context) {
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end) &&
		ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if r.admin.Ping(ctx) == nil {
			return
		}
	}
}

// drain waits until nothing is due any more.
func (r *run) drain(ctx context.Context) ([]Violation, error) {
	var left []string
	for deadline := time.Now().Add(r.plan.Drain); time.Now().Before(deadline) && ctx.Err() == nil; {
		rows, err := r.admin.Query(ctx, `SELECT key FROM lastseat.requests r WHERE status = 'pending'
			AND NOT EXISTS (SELECT FROM lastseat.river_job j WHERE j.id = r.job_id AND j.state = 'retryable')
			UNION ALL SELECT id FROM lastseat.reservations WHERE status IN ('held', 'waiting') AND expires_at < now()
			UNION ALL SELECT id FROM lastseat.payments WHERE status = 'authorized' AND expires_at < now() LIMIT 20`)
		if err == nil {
			left, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err == nil && len(left) == 0 {
			return nil, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	if len(left) == 0 {
		return nil, errors.Join(errors.New("the database does not come back"), ctx.Err(), errors.New(r.server.log()))
	}
	return []Violation{
		{"progress", fmt.Sprintf("%v after the last fault these are not settled: %v\n%s", r.plan.Drain, left,
			r.logs())},
	}, nil
}

// catchUp waits until the follower has read everything.
func (r *run) catchUp(ctx context.Context) error {
	var cursor string
	if err := r.admin.QueryRow(ctx, `SELECT count(*)::text FROM lastseat.outcomes_since('', 1000000000)`).
		Scan(&cursor); err != nil {
		return fmt.Errorf("count the outcomes: %w", err)
	}
	all, err := strconv.Atoi(cursor)
	for deadline := time.Now().Add(10 * time.Second); err == nil && len(r.follow.all()) < all &&
		time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// alarms are what the workers' own audit told. It has to tell of what was lost with a primary.
func (r *run) alarms() (told []Violation) {
	if len(r.losses) > 0 {
		return nil
	}
	for _, p := range r.workers {
		for line := range strings.Lines(p.log.String()) {
			if strings.Contains(line, "invariant violated") {
				told = append(told, Violation{"alarm", p.name + ": " + line})
			}
		}
	}
	return told[:min(len(told), 5)]
}

func (r *run) logs() string {
	text := &strings.Builder{}
	for _, p := range slices.Concat(r.workers, r.own) {
		fmt.Fprintf(text, "--- %s (%d starts)\n%s\n", p.name, p.starts, lastLines(p.log.String(), 25))
	}
	return text.String()
}

// sabotageTime is the length of a plan that is to bring a sabotage to light.
const sabotageTime = 6 * time.Second

// Try carries out plans on a sabotaged system until a check sees the sabotage, for a minute at most.
func (b *Bench) Try(ctx context.Context, sabotage Sabotage) (Catch, error) {
	began := time.Now()
	for seed := uint64(1); ; seed++ {
		result, err := b.Run(ctx, sabotage.plan(seed, sabotageTime), sabotage)
		if err != nil {
			return Catch{}, fmt.Errorf("%s: %w", sabotage.Name, err)
		}
		for _, v := range result.Violations {
			b.logf("%.300v", v)
			if slices.Contains(sabotage.Checks, v.Check) {
				return Catch{Check: v.Check, Seconds: time.Since(began).Round(time.Second).Seconds()}, nil
			}
		}
		if time.Since(began) > time.Minute {
			return Catch{}, fmt.Errorf("%s: not seen within a minute: %s", sabotage.Name, sabotage.Breaks)
		}
	}
}
