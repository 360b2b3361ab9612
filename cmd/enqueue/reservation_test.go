package main

import (
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/jobs"
)

// newHall is a shop with seats A1, A2, A3 and A=1 (one each, four per customer), stock (10, and 2 more), and a room.
func newHall(t *testing.T) *shop {
	t.Helper()
	s := newShop(t)
	s.enqueue(t, "limit", "--group", "hall", "--per-customer", "4").Succeeds(t)
	for _, seat := range []string{"A1", "A2", "A3", "A=1"} {
		s.enqueue(t, "resource", "--id", seat, "--capacity", "1", "--group", "hall").Succeeds(t)
	}
	s.enqueue(t, "resource", "--id", "stock", "--capacity", "10", "--overbook", "2").Succeeds(t)
	s.enqueue(t, "resource", "--id", "room", "--capacity", "1").Succeeds(t)
	return s
}

// hold asks for 2 of stock as "r-"+key, but for what change says.
func (s *shop) hold(t *testing.T, key string, change ...string) clitest.Result {
	t.Helper()
	return s.enqueue(t, append([]string{"hold", "--key", key, "--reservation", "r-" + key, "--item", "stock=2"},
		change...)...)
}

// Every kind, waited for: what is done is exit code 0, what is refused 3.
func TestReservationKinds(t *testing.T) {
	t.Parallel()
	s := newHall(t)
	s.works(t)
	for _, step := range []struct{ args, want string }{ // "refused code", or what stdout says
		{"hold --key h1 --reservation r1 --item A1 --item A2=1 --customer ada", "h1  reservation.hold  applied  held"},
		{"hold --key h2 --reservation r2 --item A3 --item A1 --customer ben",
			`refused sold_out  {"asked": 1, "resource": "A1", "available": 0}`},
		{"hold --key h3 --reservation r3 --item A1 --customer ben --wait-in-line --expires-in 1h",
			"h3  reservation.hold  applied  waiting"},
		{"hold --key h4 --reservation r4 --item A3", "refused customer_limit"},
		{"hold --key h5 --reservation r5 --item A=1=1 --customer ada", "h5  reservation.hold  applied  held"},
		{"hold --key h6 --reservation r6 --item stock=12", "held"},
		{"hold --key h7 --reservation r7 --item stock", "refused sold_out"},
		{"hold --key h8 --reservation r8 --item room --during 2026-12-01T10:00:00Z/2026-12-01T11:30:00Z", "held"},
		{"hold --key h9 --reservation r9 --item room --during [2026-12-01T12:00:00+01:00,2026-12-01T13:00:00+01:00)",
			"refused overlap"},
		{"hold --key h10 --reservation r10 --item room --during 2026-12-01T11:30Z/2026-12-01T12:00Z", "held"},
		{"hold --key h11 --reservation r11 --item stock --expires-at 2020-01-01T00:00:00+02:00", "refused hold_expired"},
		{"confirm --key c1 --reservation r1", "c1  reservation.confirm  applied  confirmed"},
		{"confirm --key c1b --reservation r1", "refused not_held"},
		{"confirm --key c2 --reservation r2", "refused not_held"},
		{"extend --key e1 --reservation r8 --expires-at 2099-01-01T01:00:00+01:00",
			`e1  reservation.extend  applied  extended  {"expires_at": "2099-01-01T00:00:00Z"}`},
		{"extend --key e2 --reservation r8 --expires-in 2h", "extended"},
		{"extend --key e3 --reservation r1 --expires-in 2h", "refused not_held"},
		{"extend --key e4 --reservation r8 --expires-at 2020-01-01T00:00:00Z", "refused hold_expired"},
		{"cancel --key x1 --reservation r1", "x1  reservation.cancel  applied  cancelled"},
		{"cancel --key x1b --reservation r1", "refused not_held"},
		{"confirm --key c3 --reservation r3", "confirmed"}, // it was granted
		{"book --key b1 --reservation r12 --item A2 --item A3 --customer ada --from bank --to ada --amount 45.00 " +
			"--currency EUR --description seats --metadata {\"row\":1}",
			"b1  booking.book  applied  booked"},
		{"book --key b2 --reservation r13 --item A2 --customer ben --from bank --to ada --amount 45.00 --currency EUR",
			"refused sold_out"},
		{"book --key b3 --reservation r14 --item room --during 2027-01-01T00:00Z/2027-01-02T00:00Z --from ben --to ada " +
			"--amount 0.01 --currency EUR", "refused insufficient_funds"},
		{"reverse --key u1 --transfer b1", "reversed"},
		{"cancel --key x12 --reservation r12", "cancelled"},
	} {
		got := s.enqueue(t, append(strings.Fields(step.args), "--wait", "30s")...)
		if code, refused := strings.CutPrefix(step.want, "refused "); refused {
			wantRefused(t, got, code)
		} else if got.Succeeds(t); !strings.Contains(got.Out, step.want) {
			t.Errorf("%s: stdout %q, want %q", step.args, got.Out, step.want)
		}
	}
	var noted string
	if err := s.pool.QueryRow(t.Context(),
		`SELECT concat(description, metadata) FROM lastseat.transfers WHERE key = 'b1'`).Scan(&noted); err != nil ||
		noted != `seats{"row": 1}` {
		t.Errorf("the booking's transfer has %q (%v)", noted, err)
	}
	if ada := s.balance(t, "ada"); ada != 0 {
		t.Errorf("ada has %d, want 0: the booking was reversed", ada)
	}
	if got := s.enqueue(t, "outcome", "lastseat:reservation.grant:r3").Out; !strings.Contains(got, "applied  held") {
		t.Errorf("the grant is recorded as %q", got)
	}
	again := s.enqueue(t, "cancel", "--key", "x12", "--reservation", "r12", "--wait", "30s", "-o", "json")
	expectMembers(t, again.Out, map[string]any{"key": "x12", "kind": "reservation.cancel", "status": "applied",
		"code": "cancelled", "duplicate": true})
}

// What is wrong has exit code 65 and its reason on one line, and nothing is written.
func TestReservationBadInput(t *testing.T) {
	t.Parallel()
	s := newHall(t)
	s.hold(t, "a").Succeeds(t)
	s.transfer(t, "t").Succeeds(t)
	hold := "hold --key k --reservation r --item stock "
	book := "book --key k --reservation r --item stock --from bank --to ada --amount 1 --currency EUR "
	resource := "resource --id new --capacity 1 "
	long := strings.Repeat("x", 201)
	s.refuses(t, map[string]badInput{
		"reservation taken":       {hold + "--reservation r-a", `reservation "r-a" was asked for with the key "a"`},
		"empty reservation":       {hold + "--reservation=", "--reservation is empty"},
		"long reservation":        {hold + "--reservation " + long, "201 characters"},
		"reservation with NUL":    {hold + "--reservation a\x00b", ""},
		"reservation not UTF-8":   {hold + "--reservation a\xff", "UTF-8"},
		"unknown resource":        {hold + "--item nothing", `there is no resource "nothing"`},
		"resource with a comma":   {hold + "--item A1,A2", `there is no resource "A1,A2"`},
		"resource in capitals":    {hold + "--item STOCK", `there is no resource "STOCK"`},
		"A=1 is one of A":         {hold + "--item A=1", `there is no resource "A"`},
		"no resource":             {hold + "--item=", "the resource of --item number 2 is empty"},
		"quantity of no resource": {hold + "--item ==3", `there is no resource "="`},
		"no digits":               {hold + "--item stock=-1", `there is no resource "stock=-1"`},
		"no number":               {hold + "--item stock=", `there is no resource "stock="`},
		"quantity 0":              {hold + "--item stock=0", `--item "stock=0": a quantity`},
		"quantity beyond int64":   {hold + "--item stock=9223372036854775808", "a quantity is a whole number"},
		"two of a range":          {hold + "--item room=2 --during 2026-12-01T10:00Z/2026-12-01T11:00Z", "as a whole"},
		"long customer":           {hold + "--customer " + long, "201 characters"},
		"year after 9999":         {hold + "--expires-at 9999-12-31T23:59:59-14:00", "year"},
		"empty key":               {hold + "--key=", "the key is empty"},
		"reserved key":            {hold + "--key lastseat:k", "lastseat:"},
		"key of a transfer":       {hold + "--key t", `key "t" was used`},
		"confirm of none":         {"confirm --key k --reservation none", `there is no reservation "none"`},
		"cancel of none":          {"cancel --key k --reservation none", `there is no reservation "none"`},
		"extend of none":          {"extend --key k --reservation none --expires-in 1m", `there is no reservation "none"`},
		"cancel of escape":        {"cancel --key k --reservation a\x1b[31m", "--reservation has U+001B"},
		"confirm, key of a hold":  {"confirm --key a --reservation r-a", `key "a" was used`},
		"reverse of a hold":       {"reverse --key k --transfer a", "it is a reservation.hold"},
		"book, unknown giver":     {book + "--from nobody", `there is no account "nobody"`},
		"book, the same account":  {book + "--to bank", "same account"},
		"book, unknown resource":  {book + "--item nothing", `there is no resource "nothing"`},
		"book, quantity 0":        {book + "--item stock=00", "a quantity"},
		"book, too many decimals": {book + "--amount 1.005", "3 decimals"},
		"book, amount 0":          {book + "--amount 0", "--amount is 0"},
		"book, no currency":       {book + "--currency XQQ", `"XQQ"`},
		"book, bad metadata":      {book + "--metadata {", "--metadata is \"{\""},
		"book, metadata a list":   {book + "--metadata []", "Metadata is a JSON object"},
		"book, taken":             {book + "--reservation r-a", `reservation "r-a" was asked for`},
		"resource, capacity < 0":  {resource + "--capacity -1", "capacity of -1"},
		"resource, overbook < 0":  {resource + "--overbook -1", "allowance of -1"},
		"resource, too many":      {resource + "--capacity 9223372036854775807 --overbook 1", "together at most"},
		"resource, empty":         {"resource --id= --capacity 1", "empty"},
		"resource, long":          {"resource --id " + long + " --capacity 1", "201 characters"},
		"resource, NUL":           {"resource --id a\x00 --capacity 1", ""},
		"resource, no group":      {resource + "--group none", `there is no limit group "none"`},
		"resource, other group":   {"resource --id stock --capacity 10 --overbook 2 --group hall", "no limit group"},
		"limit, no number":        {"limit --group g --per-customer many", `"many"`},
		"limit, nothing":          {"limit --group g --per-customer=", `""`},
		"limit, decimals":         {"limit --group g --per-customer 1.5", `"1.5"`},
		"limit, negative":         {"limit --group g --per-customer -1", "is -1"},
		"limit, empty":            {"limit --group= --per-customer 1", "empty"},
		"reservation none":        {"reservation none", `there is no reservation "none"`},
		"occupied none":           {"occupied none", `there is no resource "none"`},
		"occupied none, CSV":      {"occupied none -o csv", `there is no resource "none"`},
		"availability of NUL":     {"availability a\x00b", ""},
	})
}

// The same again is a duplicate, with other arguments exit code 65. When a hold ends is no such argument, when it is
// to be extended to is.
func TestReservationKeyReused(t *testing.T) {
	t.Parallel()
	s := newHall(t)
	duplicate := func(got clitest.Result, want bool) {
		t.Helper()
		got.Succeeds(t)
		if decodeOutcome(t, got.Out)["duplicate"] != want {
			t.Errorf("printed %s, want duplicate: %v", got.Out, want)
		}
	}
	expires := func() (at time.Time) {
		t.Helper()
		if err := s.pool.QueryRow(t.Context(),
			`SELECT expires_at FROM lastseat.reservations WHERE id = 'r-a'`).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	before := time.Now()
	duplicate(s.hold(t, "a", "--expires-in", "1h", "-o", "json"), false)
	first := expires()
	if first.Before(before.Add(59*time.Minute)) || first.After(time.Now().Add(61*time.Minute)) {
		t.Errorf("asked for at %v, it expires at %v: want an hour later", before, first)
	}
	s.hold(t, "quarter").Succeeds(t)
	if got, err := jobs.ReservationOf(t.Context(), s.pool, "r-quarter"); err != nil ||
		got.ExpiresAt.Sub(got.CreatedAt).Round(time.Minute) != 15*time.Minute {
		t.Errorf("without a time it expires at %v, made at %v (%v)", got.ExpiresAt, got.CreatedAt, err)
	}
	for _, later := range []string{"pending", "settled"} {
		for _, again := range [][]string{{"--expires-in", "1h"}, {"--expires-in", "2h"},
			{"--expires-at", "2099-01-01T00:00:00Z"}, {"--expires-at", "2020-01-01T00:00:00+01:00"}, {}} {
			duplicate(s.hold(t, "a", append(again, "-o", "json")...), true)
			if got := expires(); !got.Equal(first) {
				t.Errorf("asked again with %v, it expires at %v, not %v", again, got, first)
			}
		}
		for _, change := range [][]string{
			{"--item", "stock"}, {"--customer", "ada"}, {"--reservation", "other"}, {"--wait-in-line"},
			{"--during", "2026-12-01T10:00Z/2026-12-01T11:00Z", "--item", "room"},
		} {
			s.hold(t, "a", change...).Fails(t, 65)
		}
		for command, change := range map[string][]string{
			"extend --key e --reservation r-quarter --expires-at 2099-01-01T00:00:00Z": {"--expires-at",
				"2099-01-01T00:00:01Z"},
			"confirm --key c --reservation r-a": {"--reservation", "r-quarter"},
			"cancel --key x --reservation r-a":  {"--reservation", "r-quarter"},
			"book --key b --reservation r-b --item stock=2 --from bank --to ada --amount 1 --currency EUR": {"--amount", "2"},
		} {
			args := append(strings.Fields(command), "-o", "json")
			if later == "pending" {
				duplicate(s.enqueue(t, args...), false)
			}
			duplicate(s.enqueue(t, args...), true)
			s.enqueue(t, append(args, change...)...).Fails(t, 65, "was used", "LS001")
		}
		s.enqueue(t, "extend", "--key", "e", "--reservation", "r-quarter", "--expires-in", "1h").Fails(t, 65,
			`key "e" was used`, "--expires-in gives a new time with every run")
		s.drain(t)
	}
	s.expect(t, "4 accounts, 6 requests, 0 jobs")
}

// A resource and a limit are defined at once. The same again is a duplicate, another capacity a change.
func TestResource(t *testing.T) {
	t.Parallel()
	s := newHall(t)
	for _, step := range []struct {
		args      string
		text      string
		duplicate bool
	}{
		{"resource --id stock --capacity 10 --overbook 2", "stock  defined", true},
		{"resource --id stock --capacity 8", "stock  defined", false},
		{"resource --id A1 --capacity 1", "A1  defined", true}, // it keeps its group
		{"resource --id none --capacity 0", "none  defined", false},
		{"limit --group hall --per-customer 4", "hall  4 per customer", true},
		{"limit --group hall --per-customer unlimited", "hall  unlimited per customer", false},
		{"limit --group hall --per-customer 0", "hall  0 per customer", false},
	} {
		if got := s.enqueue(t, strings.Fields(step.args)...); got.Code != 0 ||
			got.Out != step.text+map[bool]string{true: "  (duplicate)"}[step.duplicate]+"\n" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", step.args, got.Code, got.Out, got.Err)
		}
		expectMembers(t, s.enqueue(t, append(strings.Fields(step.args), "-o", "json")...).Out,
			map[string]any{"duplicate": true, "status": "applied"})
	}
	s.hold(t, "h", "--item", "stock=5").Succeeds(t)
	s.drain(t)
	s.enqueue(t, "resource", "--id", "stock", "--capacity", "4").Fails(t, 65, `of resource "stock" 7 are held`)
	s.enqueue(t, "resource", "--id", "stock", "--capacity", "5").Succeeds(t) // with the 2 of before
	s.enqueue(t, "resource", "--id", "stock", "--capacity", "6", "--overbook", "0").Fails(t, 65, "6 and 0 overbooked")
	s.enqueue(t, "resource", "--id", "stock", "--capacity", "6", "--overbook", "1").Succeeds(t)
}

// --item takes the digits after the last "=" for a quantity, and nothing else.
func TestParseItem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		resource string
		quantity int64
	}{
		"seat": {"seat", 0}, "seat=2": {"seat", 2}, "seat=02": {"seat", 2}, "a=b": {"a=b", 0}, "a=b=3": {"a=b", 3},
		"a=3=b": {"a=3=b", 0},
		"a=3=1": {"a=3", 1}, "a=": {"a=", 0}, "=7": {"", 7}, "": {"", 0}, "a=+1": {"a=+1", 0}, "a=1.5": {"a=1.5", 0},
		"a=1x": {"a=1x", 0},
		"a=١":  {"a=١", 0}, "a=9223372036854775807": {"a", 9223372036854775807}, "a,b=2": {"a,b", 2},
	} {
		got, err := parseItem(text)
		if err != nil || got.Resource != want.resource || got.Quantity != want.quantity {
			t.Errorf("%q is %+v (%v), want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"a=0", "a=000", "=0", "a=9223372036854775808", "a=b=" + strings.Repeat("9", 300)} {
		if got, err := parseItem(text); err == nil {
			t.Errorf("%q is %+v, want an error", text, got)
		}
	}
}
