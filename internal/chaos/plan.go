package chaos

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Plan is what happens in a run. It is a function of its seed, and repeatable: the faults come at the same times with
// the same parameters. What the machine makes of them is not.
type Plan struct {
	Seed    uint64
	For     time.Duration // how long the clients ask
	Workers int           // processes of `worker run`
	Lanes   int
	Batch   int // LASTSEAT_BATCH
	// Isolation is LASTSEAT_ISOLATION.
	Isolation string
	Clients   int
	Pause     time.Duration // of a client between two calls, on average
	Drain     time.Duration // how long everything may take that is left when the faults are over
	Alone     bool          // a step begins when the system has recovered from the one before
	Steps     []Step
}

// Step is one fault: from At on, for a while.
type Step struct {
	At    time.Duration
	Fault string
	For   time.Duration
	N     int    // what it means depends on the fault
	Arg   string // too
}

func (s Step) String() string {
	return strings.TrimSpace(fmt.Sprintf("%8v %s for %v n=%d %s", s.At, s.Fault, s.For, s.N, s.Arg))
}

// has tells whether a step is this fault.
func (p Plan) has(fault string) bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Fault == fault })
}

// String is for the log; the plan's JSON repeats it.
func (p Plan) String() string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "seed %d: %v, %d workers, %d lanes, batches of %d, %s, %d clients\n",
		p.Seed, p.For, p.Workers, p.Lanes, p.Batch, p.Isolation, p.Clients)
	for _, step := range p.Steps {
		fmt.Fprintf(text, "  %v\n", step)
	}
	return text.String()
}

// JSON is what CHAOS_PLAN and soak -plan take.
func (p Plan) JSON() string {
	text, err := json.Marshal(p) //nolint:musttag // names as in Go
	if err != nil {
		panic(err) // nothing in it can't be encoded
	}
	return string(text)
}

// NewPlan makes the plan of a seed, out of these faults (all, if there are none): one every pause or so, whether the
// one before is over or not.
func NewPlan(seed uint64, length, pause time.Duration, faults ...string) Plan {
	return newPlan(seed, length, pause, false, faults)
}

// NewCalmPlan is NewPlan with one fault at a time, and a pause after each: it shows how long it takes to recover. Steps
// for which no time is left are left out.
func NewCalmPlan(seed uint64, length, pause time.Duration, faults ...string) Plan {
	return newPlan(seed, length, pause, true, faults)
}

func newPlan(seed uint64, length, pause time.Duration, alone bool, faults []string) Plan {
	random := rand.New(rand.NewPCG(seed, 14))
	if len(faults) == 0 {
		for _, f := range Faults() {
			if !f.Asked {
				faults = append(faults, f.Name)
			}
		}
	}
	p := Plan{
		Seed: seed, For: length, Workers: 2, Lanes: 1, Batch: 2000, Isolation: "serializable", Clients: 6,
		Pause: 40 * time.Millisecond, Drain: 90 * time.Second, Alone: alone,
	}
	if random.IntN(3) == 0 && !alone { // the recovery of one lane is measured, which others would hide
		p.Lanes = 3
	}
	if random.IntN(2) == 0 {
		p.Batch = 5 + random.IntN(40)
	}
	if random.IntN(4) == 0 {
		p.Isolation = "read committed"
	}
	deck := shuffled(random, faults)
	for at := pause; at < length-pause/2; {
		if len(deck) == 0 { // each fault comes once before one comes twice
			deck = shuffled(random, faults)
		}
		f := byName(deck[0])
		deck = deck[1:]
		step := f.step(random, at.Round(time.Millisecond))
		p.Steps = append(p.Steps, step)
		at += pause/2 + time.Duration(random.Int64N(int64(pause)))
		if alone {
			at = max(at, step.At+step.For)
		}
	}
	return p
}

func shuffled(random *rand.Rand, all []string) []string {
	deck := append([]string(nil), all...)
	random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

// step draws the parameters of a fault.
func (f Fault) step(random *rand.Rand, at time.Duration) Step {
	s := Step{At: at, Fault: f.Name, For: f.Least}
	if f.Most > f.Least {
		s.For += time.Duration(random.Int64N(int64(f.Most - f.Least))).Round(time.Millisecond)
	}
	s.N = random.IntN(1000)
	if len(f.Args) > 0 {
		s.Arg = f.Args[random.IntN(len(f.Args))]
	}
	return s
}
