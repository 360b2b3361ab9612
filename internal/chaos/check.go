package chaos

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lastseat/lastseat/internal/audit"
)

// evidence is what the checks look at.
type evidence struct {
	lanes   int
	calls   []Call
	keys    map[string]*asked
	state   *State
	read    []Outcome // by the follower, as they came
	samples []sample
	bound   time.Duration
	losses  []loss
	lost    []string // keys that a failover has lost, as it may
}

// takeLosses sets aside what was answered with ok and may be lost: shortly before an asynchronous standby took over.
func (e *evidence) takeLosses() {
	for key, a := range sorted(e.keys) {
		may := slices.ContainsFunc(e.losses, func(l loss) bool { return a.until >= l.from && a.until <= l.to })
		if _, is := e.state.Requests[key]; !is && a.ok > 0 && may {
			e.lost = append(e.lost, key)
			delete(e.keys, key)
		}
	}
}

// check is one of the things that must hold. It is a function of the evidence.
type check struct {
	name, rule string
	find       func(*evidence) []string
	byClock    bool // it looks at an order that the server's clock gives, so it says nothing where that was set
}

// checks are all of them. The audit's own are besides.
var checks = []check{
	{"lost", "what was answered with ok is there and settled", findLost, false},
	{"refused", "what was refused has not happened", findRefused, false},
	{"misuse", "a key that was used for something else is refused", findMisuse, false},
	{"row", "a business row is there exactly if its request is, once", findRows, false},
	{"feed", "the feed is complete, in order and unchanging, for one who follows it", findFeed, false},
	{"order", "what was answered before another was asked for is settled before it, if they share a row", findOrder, true},
	{"account", "each outcome of money is the one that its place in the order gives", findAccounts, false},
	{"balance", "each balance is the sum of the outcomes, each once", findBalances, false},
	{"money", "all balances sum to zero", findMoney, false},
	{"places", "no place is given twice", findPlaces, false},
	{"expiry", "nothing is refused as expired that was asked for in time", findExpiry, true},
	{"points", "effects of a kind of one's own happen once", findPoints, false},
	{
		"linear",
		"the history of each closed account and of each seat is one that a single clerk could have made",
		findLinear, true,
	},
	{"progress", "something settles within the bound, while there is something to settle", findStandstill, false},
}

const mostFound = 5

// judge runs every check.
func (r *run) judge(ctx context.Context, ended time.Duration, violations []Violation) (*Result, error) {
	state, err := readState(ctx, r.admin)
	if err != nil {
		return nil, err
	}
	e := &evidence{
		lanes: r.plan.Lanes, calls: r.history.Calls(), state: state, read: r.follow.all(), samples: r.sampler.all(),
		bound: progressBound, losses: r.losses,
	}
	e.keys = byKey(e.calls)
	e.takeLosses()
	for _, c := range checks {
		if c.byClock && r.plan.has("clock-server") {
			continue
		}
		found := c.find(e)
		for _, what := range found[:min(len(found), mostFound)] {
			violations = append(violations, Violation{c.name, what})
		}
	}
	_, err = audit.Run(ctx, r.admin, func(f audit.Finding) {
		if !f.OK {
			violations = append(
				violations,
				Violation{"audit", fmt.Sprintf("%s: %v", f.Check, f.Violations[:min(len(f.Violations), 3)])},
			)
		}
	})
	result := &Result{
		Plan:       r.plan,
		Happened:   r.happened(e.samples),
		Calls:      count(e.calls),
		Refusals:   refusals(e.calls),
		Requests:   len(state.Requests),
		Outcomes:   len(state.Feed),
		Longest:    r.explain(longestGap(e.samples)),
		Violations: violations,
		Lost:       e.lost,
		Took:       ended,
	}
	if len(violations) > 0 {
		result.Logs = r.logs()
	}
	return result, err
}

// progressBound is how long nothing may be settled while something is due: Postgres ends the transaction of a frozen
// worker after 30 s, and a busy machine is slow.
const progressBound = 75 * time.Second

func count(calls []Call) map[Status]int {
	n := make(map[Status]int)
	for _, c := range calls {
		n[c.Status]++
	}
	return n
}

// refusals counts why calls were refused.
func refusals(calls []Call) map[string]int {
	n := make(map[string]int)
	for _, c := range calls {
		if c.Status != Refused {
			continue
		}
		why := "no connection"
		if _, state, is := strings.Cut(c.Error, "(SQLSTATE "); is {
			why = state[:min(5, len(state))]
		}
		n[why]++
	}
	return n
}

// happened are the faults in order, with the time that it took to recover from each.
func (r *run) happened(samples []sample) []Happened {
	slices.SortFunc(r.started, func(a, b Happened) int { return cmp.Compare(a.From, b.From) })
	for i := range r.started {
		h := &r.started[i]
		if byName(h.Fault).Early {
			h.Recovery, h.Seen = recovery(samples, h.From+apart)
			h.Recovery += apart
		} else {
			h.Recovery, h.Seen = recovery(samples, h.To)
		}
		for j, other := range r.started {
			// what another fault holds up says nothing about this one
			h.Seen = h.Seen && (i == j || other.To < h.From-apart || other.From > h.To+h.Recovery)
		}
	}
	return r.started
}

// explain names the faults of a gap.
func (r *run) explain(g Gap) Gap {
	var causes []string
	for _, h := range r.started {
		if h.From < g.To && h.To+2*time.Second > g.From {
			causes = append(causes, strings.TrimSpace(h.Fault+" "+h.Arg))
		}
	}
	g.Cause = strings.Join(causes, ", ")
	if g.Cause == "" {
		g.Cause = "no fault of the plan"
	}
	return g
}

func findLost(e *evidence) (found []string) {
	for key, a := range sorted(e.keys) {
		r, is := e.state.Requests[key]
		switch {
		case a.ok > 0 && !is:
			found = append(found, fmt.Sprintf("%s %s was answered with ok at %v and is not there", a.op.Kind, key, a.until))
		case is && r.Status == "pending":
			found = append(found, fmt.Sprintf("%s %s is pending", a.op.Kind, key))
		}
	}
	return append(found, e.state.Left...)
}

func findRefused(e *evidence) (found []string) {
	for key, a := range sorted(e.keys) {
		if _, is := e.state.Requests[key]; is && a.ok == 0 && a.unknown == 0 {
			found = append(found, fmt.Sprintf("%s %s was refused each time (%s), and is there", a.op.Kind, key, a.lastError))
		}
	}
	return found
}

func findMisuse(e *evidence) (found []string) {
	for _, c := range e.calls {
		if c.Misuse && c.Status == OK {
			found = append(found, fmt.Sprintf("%s was asked for with %s, although it was used before", c.Op.Key, c.Op.Args))
		}
	}
	return found
}

func findRows(e *evidence) (found []string) {
	for key, a := range sorted(e.keys) {
		_, is := e.state.Requests[key]
		want := 0
		if is && a.mayRow {
			want = 1
		}
		if a.mayRow && !a.row && a.without {
			want = min(1, e.state.Rows[key]) // which of the calls came first is unknown
		}
		if n := e.state.Rows[key]; n != want {
			found = append(found, fmt.Sprintf("%s: %d business rows, want %d; the request is there: %v", key, n, want, is))
		}
	}
	return found
}

// sorted walks a map in the order of its keys.
func sorted[V any](m map[string]V) func(yield func(string, V) bool) {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// findFeed compares what the follower read, row by row as it came, with the whole feed in the end and with the
// requests.
func findFeed(e *evidence) (found []string) {
	last := make(map[string]int) // key -> its place in the feed
	for i, o := range e.state.Feed {
		if before, twice := last[o.Key]; twice {
			found = append(found, fmt.Sprintf("%s is in the feed twice, at %d and %d", o.Key, before, i))
		}
		last[o.Key] = i
		if r := e.state.Requests[o.Key]; !same(r, o) {
			found = append(found, fmt.Sprintf("the feed says %+v, the request is %+v", o, r))
		}
	}
	for key, r := range sorted(e.state.Requests) {
		if _, is := last[key]; !is && r.settled() {
			found = append(found, fmt.Sprintf("%s is %s (%s) and not in the feed", key, r.Status, r.Code))
		}
	}
	return append(found, findFollower(e, last)...)
}

// findFollower compares what the follower was told with the feed, where each key has its place. The follower may have
// read outcomes of failed requests that were settled again.
func findFollower(e *evidence, last map[string]int) (found []string) {
	place, seen := -1, make(map[string]bool)
	for _, o := range e.read {
		at, is := last[o.Key]
		switch {
		case !is || !same(e.state.Feed[at], o):
			if o.Status != "failed" {
				found = append(found, fmt.Sprintf("the follower was told %+v; it is %+v now", o, e.state.Requests[o.Key]))
			}
		case seen[o.Key]:
			found = append(found, fmt.Sprintf("the follower was told of %s twice", o.Key))
		case at < place:
			found = append(found, fmt.Sprintf("the follower was told of %s after what comes after it", o.Key))
		default:
			seen[o.Key], place = true, at
		}
	}
	for _, o := range e.state.Feed {
		if !seen[o.Key] {
			found = append(found, fmt.Sprintf("the follower was never told of %s (%s)", o.Key, o.Cursor))
		}
	}
	return found
}

func same(a, b Outcome) bool {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return a.Key == b.Key && a.Status == b.Status && a.Code == b.Code && a.Attempts == b.Attempts &&
		text(a.Detail) == text(b.Detail) && a.SettledAt.Equal(b.SettledAt)
}

// findOrder looks for pairs that were settled in another order than that of their clients' intervals. With several
// lanes the order is promised within what a kind is ordered by only.
func findOrder(e *evidence) (found []string) {
	byRow := make(map[string][]int) // places in the feed
	for i, o := range e.state.Feed {
		a := e.keys[o.Key]
		if a == nil || a.op.Later || o.Attempts > 1 || a.op.Queue != "lastseat" && a.op.Queue != "points" {
			continue
		}
		for _, row := range a.op.rows(o, e.lanes) {
			byRow[row] = append(byRow[row], i)
		}
	}
	told := make(map[string]bool)
	for row, places := range sorted(byRow) {
		first := time.Duration(1<<63 - 1) // the earliest answer of those that come after
		firstKey := ""
		for _, i := range slices.Backward(places) {
			a := e.keys[e.state.Feed[i].Key]
			if pair := firstKey + " " + e.state.Feed[i].Key; first < a.from && !told[pair] {
				told[pair] = true
				found = append(
					found,
					fmt.Sprintf("%s: %s was answered at %v, before %s was asked for at %v, and settled after it: %+v, %+v",
						row, firstKey, first, e.state.Feed[i].Key, a.from, e.state.Requests[firstKey], e.state.Feed[i]),
				)
			}
			if a.ok > 0 && a.until < first {
				first, firstKey = a.until, e.state.Feed[i].Key
			}
		}
	}
	return found
}

// rows are those by which a request has its place. A refusal for the state of a payment, a reservation or a transfer
// looks at nothing else: while accounts or places are locked it may come before requests that wait for them.
func (op *Op) rows(o Outcome, lanes int) []string {
	switch {
	case lanes > 1 && op.Kind != "payment.transfer":
		return nil
	case lanes > 1:
		return op.Rows[:1]
	case o.Status != "rejected" || o.Code == "insufficient_funds":
		return op.Rows
	}
	switch op.Kind {
	case "payment.reverse":
		return nil
	case "payment.capture", "payment.void", "payment.refund", "reservation.cancel", "reservation.confirm":
		return op.Rows[:1]
	}
	return op.Rows
}

func findStandstill(e *evidence) (found []string) {
	if g := longestGap(e.samples); g.To-g.From-g.Down > e.bound {
		found = append(
			found,
			fmt.Sprintf("nothing was settled for %v from %v on, and something was due", g.To-g.From, g.From),
		)
	}
	return found
}
