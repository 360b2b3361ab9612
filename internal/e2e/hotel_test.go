package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
)

// hotel is a file of requests for rooms, with what has to become of each when they are taken strictly in the file's
// order. Requests, their order and the audit are proven as those of a bank that moves no money.
type hotel struct {
	*bank
	resources string           // CSV file
	confirmed map[string]int64 // of every resource, by night; what is left in the end
}

func newHotel(t *testing.T, resources, requests string) *hotel {
	t.Helper()
	till := filepath.Join(t.TempDir(), "accounts.csv")
	if err := os.WriteFile(till, []byte("account,currency,overdraft\ntill,EUR,0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &hotel{
		bank: &bank{accounts: till, transfers: requests, outcomes: make(map[string]string),
			balances: map[string]int64{"till": 0}},
		resources: resources, confirmed: make(map[string]int64),
	}
}

// request is a line of the file.
type request struct {
	Kind string      `json:"kind"`
	Key  string      `json:"key"`
	Args requestArgs `json:"args"`
}

type requestArgs struct {
	Reservation string `json:"reservation"`
	Items       []stay `json:"items,omitempty"`
	Customer    string `json:"customer,omitempty"`
	ExpiresAt   string `json:"expires_at,omitempty"`
}

type stay struct {
	Resource string `json:"resource"`
	Quantity int64  `json:"quantity,omitempty"`
	During   string `json:"during,omitempty"`
}

// realHotel is two years of a resort hotel, with outcomes that were computed apart from this project.
func realHotel(t *testing.T) *hotel {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "data")
	h := newHotel(t, filepath.Join(dir, "hotel_resources.csv"), filepath.Join(dir, "hotel_requests.jsonl"))
	file, err := os.Open(h.transfers)
	if err != nil {
		t.Skipf("the real data is not here (%v); the generated hotel stands in", err)
	}
	defer func() { _ = file.Close() }()
	for _, row := range readCSV(t, filepath.Join(dir, "hotel_outcomes.csv")) {
		h.outcomes[row[0]] = row[1] + " " + row[2]
	}
	for _, row := range readCSV(t, h.resources) {
		h.confirmed[row[0]] = 0
	}
	stays := make(map[string][]stay)
	lines := json.NewDecoder(file)
	for lines.More() {
		var r request
		if err := lines.Decode(&r); err != nil {
			t.Fatal(err)
		}
		h.lines++
		h.keys = append(h.keys, r.Key)
		sign := int64(0)
		switch h.outcomes[r.Key] {
		case "applied held":
			stays[r.Args.Reservation] = r.Args.Items
		case "applied confirmed":
			sign = 1
		case "applied cancelled":
			sign = -1 // in these data only what is confirmed is cancelled
		}
		for _, s := range stays[r.Args.Reservation] {
			h.confirmed[s.Resource] += sign * s.Quantity
		}
	}
	if h.lines != 26_171 || len(h.outcomes) != h.lines {
		t.Fatalf("%d lines with %d outcomes, want 26,171", h.lines, len(h.outcomes))
	}
	return h
}

// generatedHotel is small, and harder than real life: few rooms, so that the order of two requests decides which of
// them is refused, a meeting room by the hour, the same night twice in a request, and some lines twice.
func generatedHotel(t *testing.T) *hotel {
	t.Helper()
	dir := t.TempDir()
	h := newHotel(t, filepath.Join(dir, "resources.csv"), filepath.Join(dir, "requests.jsonl"))
	random := rand.New(rand.NewPCG(2015, 7))
	desk := &frontDesk{capacity: make(map[string]int64), taken: make(map[string]int64), stays: make(map[string][]stay),
		status: make(map[string]string)}
	const nights = 60
	night := func(n int) string { return fmt.Sprintf("room/%02d", n) }
	opened := "resource,capacity,overbook\nmeeting,1,0\n"
	desk.capacity["meeting"] = 0
	for n := range nights {
		desk.capacity[night(n)] = int64(1 + n%4 + n%3)
		opened += fmt.Sprintf("%s,%d,%d\n", night(n), 1+n%4, n%3)
	}
	file, err := os.Create(h.transfers)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	out := json.NewEncoder(file)
	var asked, held []request
	for n := range testdb.Soak(3000, 12_000) {
		h.lines++
		if len(asked) > 10 && random.IntN(30) == 0 { // a line once more
			if err := out.Encode(asked[random.IntN(len(asked))]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		// Keys in no order of their own: nothing may sort by them.
		r := request{Kind: "reservation.hold", Key: fmt.Sprintf("%08x-%d", random.Uint32(), n)}
		switch kind := random.IntN(12); {
		case len(asked) < 2 || kind < 5:
			r.Args = requestArgs{Reservation: "r" + r.Key, ExpiresAt: "2099-01-01T00:00:00Z"}
			first := random.IntN(nights)
			for length := 1 + random.IntN(5); length > 0 && first < nights; length-- {
				r.Args.Items = append(r.Args.Items, stay{Resource: night(first), Quantity: int64(1 + random.IntN(4)/3)})
				first += random.IntN(4) / 3 * 2 // the same night again, or another one
			}
			if random.IntN(3) == 0 {
				if random.IntN(2) == 0 {
					r.Args.Items = nil // nothing but the meeting room
				}
				hour := random.IntN(300)
				start := time.Date(2026, 12, 1, hour, 0, 0, 0, time.UTC)
				r.Args.Items = append(r.Args.Items, stay{Resource: "meeting", During: fmt.Sprintf("[%s,%s)",
					start.Format(time.RFC3339), start.Add(time.Duration(1+random.IntN(3))*time.Hour).Format(time.RFC3339))})
			}
		default:
			r.Kind = "reservation.confirm"
			if kind > 8 {
				r.Kind = "reservation.cancel"
			}
			from, back := asked, 40
			if len(held) > 0 && random.IntN(5) > 0 {
				from, back = held, 100
			}
			r.Args.Reservation = from[max(0, len(from)-1-random.IntN(back))].Args.Reservation
		}
		if err := out.Encode(r); err != nil {
			t.Fatal(err)
		}
		asked, h.keys = append(asked, r), append(h.keys, r.Key)
		if h.outcomes[r.Key] = desk.asks(r); h.outcomes[r.Key] == "applied held" {
			held = append(held, r)
		}
	}
	seen := make(map[string]int)
	for _, outcome := range h.outcomes {
		seen[outcome]++
	}
	for _, outcome := range []string{"applied held", "applied confirmed", "applied cancelled", "rejected sold_out",
		"rejected overlap", "rejected not_held"} {
		if seen[outcome] < 50 {
			t.Fatalf("the hotel is too easy: %v", seen)
		}
	}
	t.Logf("%v", seen)
	for id := range desk.capacity {
		h.confirmed[id] = 0
	}
	for id, stays := range desk.stays {
		for _, s := range stays {
			if desk.status[id] == "confirmed" {
				h.confirmed[s.Resource] += s.Quantity
			}
		}
	}
	if err := os.WriteFile(h.resources, []byte(opened), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

// frontDesk says what has to become of requests: slowly, one by one, and by other means than the code under test.
type frontDesk struct {
	capacity map[string]int64  // with what may be overbooked
	taken    map[string]int64  // of nights, and of hours of the meeting room
	stays    map[string][]stay // of every reservation that was held
	status   map[string]string // of every reservation
}

func (d *frontDesk) asks(r request) string {
	id := r.Args.Reservation
	switch status := d.status[id]; {
	case r.Kind == "reservation.hold":
		for i, s := range r.Args.Items {
			if refused := d.take(s); refused != "" {
				d.giveBack(r.Args.Items[:i])
				d.status[id] = "rejected"
				return "rejected " + refused
			}
		}
		d.status[id], d.stays[id] = "held", r.Args.Items
		return "applied held"
	case r.Kind == "reservation.confirm" && status == "held":
		d.status[id] = "confirmed"
		return "applied confirmed"
	case r.Kind == "reservation.cancel" && (status == "held" || status == "confirmed"):
		d.status[id] = "cancelled"
		d.giveBack(d.stays[id])
		return "applied cancelled"
	}
	return "rejected not_held"
}

// take takes a stay, or says why it can't be.
func (d *frontDesk) take(s stay) string {
	if s.During != "" {
		for _, hour := range hours(s) {
			if d.taken[hour] > 0 {
				return "overlap"
			}
		}
		for _, hour := range hours(s) {
			d.taken[hour]++
		}
		return ""
	}
	if d.taken[s.Resource]+s.Quantity > d.capacity[s.Resource] {
		return "sold_out"
	}
	d.taken[s.Resource] += s.Quantity
	return ""
}

func (d *frontDesk) giveBack(stays []stay) {
	for _, s := range stays {
		d.taken[s.Resource] -= s.Quantity
		for _, hour := range hours(s) {
			d.taken[hour]--
		}
	}
}

// hours are those of a time range, each by its start.
func hours(s stay) (all []string) {
	if s.During == "" {
		return nil
	}
	from, to, _ := strings.Cut(strings.Trim(s.During, "[)"), ",")
	for from < to {
		all = append(all, s.Resource+from)
		at, err := time.Parse(time.RFC3339, from)
		if err != nil {
			panic(err)
		}
		from = at.Add(time.Hour).Format(time.RFC3339)
	}
	return all
}

// proves demands the rooms that the outcomes leave, after prove has demanded the outcomes.
func (h *hotel) proves(prove func(*testing.T, string, *pgxpool.Pool)) func(*testing.T, string, *pgxpool.Pool) {
	return func(t *testing.T, url string, pool *pgxpool.Pool) {
		prove(t, url, pool)
		if got := pairs[int64](t, pool, `SELECT id, confirmed FROM lastseat.resources`); !maps.Equal(got, h.confirmed) {
			t.Errorf("what is confirmed is not what it has to be: %d resources are there, want %d", len(got), len(h.confirmed))
		}
		// and not by the counters, but by the items: never more than there is, and no hour twice
		if got := testdb.Scalar[string](t, pool, `
			SELECT format('%s oversold, %s ranges overlap',
			    (SELECT count(*) FROM lastseat.resources r JOIN (
			         SELECT resource_id, sum(quantity) AS live FROM lastseat.reservation_items i JOIN lastseat.reservations v
			           ON v.id = i.reservation_id
			         WHERE i.during IS NULL AND v.status IN ('held', 'confirmed') GROUP BY resource_id) s ON s.resource_id = r.id
			     WHERE s.live > r.capacity + r.overbook),
			    (SELECT count(*) FROM lastseat.reservation_items a JOIN lastseat.reservation_items b
			     ON a.occupies AND b.occupies AND a.resource_id = b.resource_id AND a.during && b.during
			       AND a.reservation_id < b.reservation_id))`); got != "0 oversold, 0 ranges overlap" {
			t.Error(got)
		}
	}
}

// importInParts imports the requests, no more at a time than a busy machine has the clitest.Patience for.
func (h *hotel) importInParts(t *testing.T, url string) {
	t.Helper()
	file, err := os.ReadFile(h.transfers)
	if err != nil {
		t.Fatal(err)
	}
	var all importCounts
	for part := range slices.Chunk(slices.Collect(strings.Lines(string(file))), 5000) {
		p := startWith(t, strings.NewReader(strings.Join(part, "")), on(url), "enqueue", "import", "-", "-o", "json")
		p.exits(t, 0)
		var got importCounts
		if err := json.Unmarshal([]byte(p.out.String()), &got); err != nil {
			t.Fatalf("import prints %q: %v", p.out.String(), err)
		}
		all.Requests += got.Requests
		all.Duplicates += got.Duplicates
	}
	if want := (importCounts{Requests: h.lines, Duplicates: h.lines - len(h.keys)}); all != want {
		t.Errorf("imported %+v, want %+v", all, want)
	}
}

// drainedOnce is drained without importing all of it again.
func (h *hotel) drainedOnce(t *testing.T, url string, pool *pgxpool.Pool) {
	p := start(t, on(url), "worker", "run", "--drain", "-o", "json")
	p.exits(t, 0)
	p.quiet(t)
	if got := p.did(t); got.Applied+got.Rejected != len(h.keys) {
		t.Errorf("the worker says %+v, want %d in all", got, len(h.keys))
	}
	h.bank.proves(t, url, pool)
}

// A file of requests is imported once. On copies of that database a worker drains it, workers that are killed drain
// it, and four workers at once: each time every status and code is what the file's order makes it, and no night is
// oversold.
func TestHotel(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(*testing.T) *hotel{"generated": generatedHotel, "real": realHotel} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := build(t)
			url := testdb.New(t)
			enqueue(t, url, "import", h.accounts).exits(t, 0)
			enqueue(t, url, "import", h.resources).exits(t, 0)
			h.importInParts(t, url)
			small, few, drained := "LASTSEAT_BATCH=20", "LASTSEAT_BATCH=10", h.drained
			if h.lines > 20_000 {
				small, few, drained = "LASTSEAT_BATCH=500", "LASTSEAT_BATCH=200", h.drainedOnce
			}
			for name, prove := range map[string]func(*testing.T, string, *pgxpool.Pool){
				"drain":                        drained,
				"killed three times":           h.killed(few),
				"killed at read committed":     h.killed(few, "LASTSEAT_ISOLATION=read committed"),
				"four at once":                 h.shared(small),
				"four at once, read committed": h.shared(small, "LASTSEAT_ISOLATION=read committed"),
			} {
				if h.lines > 20_000 && name != "killed three times" && !testdb.Soaks() {
					continue // the generated one is enough
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					copied := copyOf(t, url)
					h.proves(prove)(t, copied, testdb.Pool(t, copied))
				})
			}
		})
	}
}
