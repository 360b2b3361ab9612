package chaos

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A seed repeats its plan, and the plan's JSON repeats it too.
func TestPlanRepeats(t *testing.T) {
	t.Parallel()
	a, b := NewPlan(7, time.Minute, time.Second), NewPlan(7, time.Minute, time.Second)
	if !reflect.DeepEqual(a, b) {
		t.Errorf("two plans of one seed differ:\n%v\n%v", a, b)
	}
	if c := NewPlan(8, time.Minute, time.Second); reflect.DeepEqual(a.Steps, c.Steps) {
		t.Error("two seeds have one plan")
	}
	var again Plan
	if err := json.Unmarshal([]byte(a.JSON()), &again); err != nil || !reflect.DeepEqual(a, again) {
		t.Errorf("%v: the JSON of a plan is another one:\n%v\n%v", err, a, again)
	}
	if long := NewPlan(1, time.Hour, time.Second); len(long.Steps) < 3000 {
		t.Errorf("an hour has %d steps", len(long.Steps))
	}
	seen := make(map[string]bool)
	for _, step := range NewPlan(1, time.Minute, time.Second).Steps {
		seen[step.Fault] = true
	}
	for _, f := range Faults() {
		if !seen[f.Name] && !f.Asked {
			t.Errorf("a minute has no %s", f.Name)
		}
	}
}

// Delta debugging finds the two steps out of many that fail together.
func TestReduce(t *testing.T) {
	t.Parallel()
	plan := Plan{}
	for i := range 40 {
		plan.Steps = append(plan.Steps, Step{N: i})
	}
	tries := 0
	got := Reduce(plan, 100, func(p Plan) bool {
		tries++
		has := make(map[int]bool)
		for _, step := range p.Steps {
			has[step.N] = true
		}
		return has[7] && has[31]
	})
	if len(got.Steps) != 2 || got.Steps[0].N != 7 || got.Steps[1].N != 31 {
		t.Errorf("reduced to %v in %d tries, want the steps 7 and 31", got.Steps, tries)
	}
}

func TestGapAndRecovery(t *testing.T) {
	t.Parallel()
	at := func(ms int, up, due bool, settled int64) sample {
		return sample{at: time.Duration(ms) * time.Millisecond, up: up, due: due, settled: settled}
	}
	samples := []sample{
		at(0, true, true, 1),
		at(10, true, true, 2),
		at(20, true, true, 2),
		at(30, false, false, 0),
		at(50, true, true, 2),
		at(
			60,
			true,
			true,
			3,
		),
		at(70, true, false, 3),
		at(500, true, false, 3),
		at(510, true, true, 3),
		at(520, true, true, 4),
	}
	if g := longestGap(
		samples,
	); g.From != 10*time.Millisecond || g.To != 50*time.Millisecond ||
		g.Down != 10*time.Millisecond {
		t.Errorf("the longest gap is %v to %v, %v down", g.From, g.To, g.Down)
	}
	if took, ok := recovery(samples, 25*time.Millisecond); !ok || took != 35*time.Millisecond {
		t.Errorf("recovered after %v, %v", took, ok)
	}
	if _, ok := recovery(samples, 600*time.Millisecond); ok {
		t.Error("recovered after the end")
	}
}

// story is a small history in which everything is right, and what a check finds when one thing is changed.
func story() *evidence {
	op := func(key, from, to string, amount int64) *Op {
		return &Op{Key: key, Kind: "payment.transfer", Queue: "lastseat", Asks: Asks{From: from, To: to, Amount: amount},
			Rows: []string{from, to}}
	}
	hold := func(key, kind, id string) *Op {
		return &Op{Key: key, Kind: kind, Queue: "lastseat", Asks: Asks{ID: id, Items: map[string]int64{"seat0": 1}},
			Rows: []string{id, "seat0"}}
	}
	ops := []*Op{
		op(
			"k1",
			"bank",
			"c0",
			10,
		),
		op("k2", "c0", "shop", 7),
		op("k3", "c0", "shop", 7),
		hold("k4", "reservation.hold", "r1"),
		hold("k5", "reservation.hold", "r2"),
		hold("k6", "reservation.cancel", "r1"),
	}
	codes := []string{"transferred", "transferred", "insufficient_funds", "held", "sold_out", "cancelled"}
	e := &evidence{lanes: 1, state: &State{Requests: make(map[string]Outcome), Rows: make(map[string]int),
		Balances:  map[string]int64{"bank": -10, "c0": 3, "shop": 7},
		Held:      map[string]int64{},
		Resources: map[string]Resource{"seat0": {Capacity: 1}}}}
	for i, op := range ops {
		status := "applied"
		if codes[i] == "insufficient_funds" || codes[i] == "sold_out" {
			status = "rejected"
		}
		o := Outcome{Key: op.Key, Kind: op.Kind, Status: status, Code: codes[i], Attempts: 1}
		e.state.Requests[op.Key], e.state.Rows[op.Key] = o, 1
		e.state.Feed = append(e.state.Feed, o)
		e.calls = append(
			e.calls,
			Call{Op: op, Asked: time.Duration(10 * i), Answered: time.Duration(10*i + 5), Status: OK, Row: true},
		)
	}
	e.read = append(e.read, e.state.Feed...)
	e.keys = byKey(e.calls)
	return e
}

// Each check finds nothing in a right story, and something in one that is wrong in its way.
func TestChecks(t *testing.T) {
	t.Parallel()
	wrong := map[string]func(*evidence){
		"lost":    func(e *evidence) { delete(e.state.Requests, "k2") },
		"refused": func(e *evidence) { e.calls[1].Status = Refused },
		"misuse":  func(e *evidence) { e.calls = append(e.calls, Call{Op: e.calls[0].Op, Misuse: true, Status: OK}) },
		"row":     func(e *evidence) { e.state.Rows["k1"] = 2 },
		"feed":    func(e *evidence) { e.read = e.read[1:] },
		"order":   func(e *evidence) { e.state.Feed[1], e.state.Feed[2] = e.state.Feed[2], e.state.Feed[1] },
		"account": func(e *evidence) { e.state.Feed[2].Code = "transferred" },
		"balance": func(e *evidence) { e.state.Balances["c0"]++ },
		"money":   func(e *evidence) { e.state.Balances["bank"]++ },
		"places":  func(e *evidence) { e.state.Resources["seat0"] = Resource{Capacity: 1, Taken: 2} },
		"expiry": func(e *evidence) {
			o := e.state.Requests["k6"]
			o.Code, o.Status = "hold_expired", "rejected"
			e.state.Requests["k6"] = o
			e.calls[5].Op.Asks.Expires = o.RequestedAt.Add(time.Second)
		},
		"points": func(e *evidence) { e.state.Points = map[string]int64{"m0": 1} },
		"linear": func(e *evidence) {
			o := e.state.Requests["k5"]
			o.Status = "applied"
			e.state.Requests["k5"] = o
		},
		"progress": func(e *evidence) {
			e.bound = time.Second
			look := func(at time.Duration) sample { return sample{at: at, up: true, due: true, settled: 1} }
			e.samples = []sample{look(0), look(time.Second), look(3 * time.Second)}
		},
	}
	for _, c := range checks {
		if found := c.find(story()); len(found) > 0 {
			t.Errorf("%s finds something in a right story: %v", c.name, found)
		}
		spoil := wrong[c.name]
		if spoil == nil {
			t.Errorf("no story is wrong for the check %s", c.name)
			continue
		}
		e := story()
		spoil(e)
		e.keys = byKey(e.calls)
		if found := c.find(e); len(found) == 0 {
			t.Errorf("%s finds nothing in a story that is wrong", c.name)
		} else {
			t.Logf("%s: %s", c.name, strings.Join(found, "; "))
		}
	}
}
