package main

import (
	"fmt"
	"strings"
	"testing"
)

// reservations is JSON Lines of every kind: 20 requests on as many lines, but for the lines in bad.
func reservations(prefix string, bad map[int]string) string {
	var file strings.Builder
	line := 0
	add := func(kind, key, args string) {
		line++
		row, isBad := bad[line]
		if !isBad {
			row = fmt.Sprintf(`{"kind":"%s","key":"@%s","args":{%s}}`, kind, key, args)
		}
		file.WriteString(strings.ReplaceAll(row, "@", prefix) + "\n")
	}
	for n := 1; n <= 4; n++ {
		reservation := fmt.Sprintf(`"reservation":"@r%d"`, n)
		add("reservation.hold", fmt.Sprintf("h%d", n), reservation+
			`,"items":[{"resource":"stock","quantity":2},{"resource":"stock"}],"customer":"ada","expires_at":"2099-01-01T00:00:00Z"`)
		add("reservation.extend", fmt.Sprintf("e%d", n), reservation+`,"expires_at":"2100-01-01T00:00:00Z"`)
		add("reservation.confirm", fmt.Sprintf("c%d", n), reservation)
		add("reservation.cancel", fmt.Sprintf("x%d", n), reservation)
	}
	add("reservation.hold", "h5",
		`"reservation":"@r5","items":[{"resource":"room","during":"[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z)"}],"wait":true`)
	add("reservation.cancel", "x5", `"reservation":"@r5"`)
	add("booking.book", "b",
		`"reservation":"@b","items":[{"resource":"stock"}],"from":"bank","to":"ada","amount":10,"currency":"EUR","description":"seat","metadata":{"row":1}`)
	add("reservation.cancel", "xb", `"reservation":"@b"`)
	return file.String()
}

// Whole lives of reservations in one file, one chunk, and all of them applied. Again, nothing is new.
func TestImportReservations(t *testing.T) {
	t.Parallel()
	s := newHall(t)
	for _, chunk := range []string{"1", "3", "1000"} {
		file := reservations("x"+chunk, nil)
		first := s.importFile(t, file, "--chunk", chunk)
		first.Succeeds(t)
		counted(t, first, importCounts{Lines: 20, Requests: 20})
		for range 2 { // before it is settled, and after
			again := s.importFile(t, strings.ReplaceAll(file, "2099", "2098"))
			again.Succeeds(t)
			counted(t, again, importCounts{Lines: 20, Requests: 20, Duplicates: 20})
			s.drain(t)
		}
	}
	var codes string
	err := s.pool.QueryRow(t.Context(), `SELECT string_agg(c, ' ' ORDER BY c)
		FROM (SELECT concat(code, ':', count(*)) AS c FROM lastseat.requests GROUP BY code) codes`).Scan(&codes)
	if want := "booked:3 cancelled:18 confirmed:12 extended:12 held:15"; err != nil || codes != want {
		t.Errorf("the outcomes are %s (%v), want %s", codes, err, want)
	}
	if ada := s.balance(t, "ada"); ada != 30 {
		t.Errorf("ada has %d, want 30: of three bookings", ada)
	}
}

// Line 17 is wrong, in the ways of every kind: it is named, and nothing of its chunk is written, no reservation either.
func TestImportBadReservation(t *testing.T) {
	t.Parallel()
	s := newHall(t)
	const (
		hold = `{"kind":"reservation.hold","key":"@17","args":{"reservation":"@r17","items":[{"resource":"stock"}]}}`
		book = `{"kind":"booking.book","key":"@17","args":{"reservation":"@r17","items":[{"resource":"stock"}],"from":"bank","to":"ada","amount":1,"currency":"EUR"}}`
	)
	cases := 0
	for name, bad := range map[string]struct{ row, says string }{
		"reservation taken": {strings.Replace(hold, "@r17", "@r2", 1),
			`reservation "@r2" was asked for with the key "@h2"`},
		"no items": {strings.Replace(hold, `{"resource":"stock"}`, "", 1), `"items" is []`},
		"items an object": {strings.Replace(hold, `[{"resource":"stock"}]`, `{"resource":"stock"}`, 1),
			`"items" is {`},
		"items as text":    {strings.Replace(hold, `{"resource":"stock"}`, `"stock"`, 1), "item 1 is"},
		"unknown resource": {strings.Replace(hold, "stock", "none", 1), `there is no resource "none"`},
		"quantity 0":       {strings.Replace(hold, `"stock"`, `"stock","quantity":0`, 1), `quantity of item 1" is 0`},
		"quantity of a decimal": {strings.Replace(hold, `"stock"`, `"stock","quantity":1.5`, 1),
			`quantity of item 1" is 1.5`},
		"a range that is closed": {strings.Replace(hold, `"stock"`,
			`"room","during":"[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z]"`, 1), `during of item 1" is`},
		"a range without end": {strings.Replace(hold, `"stock"`, `"room","during":"[2026-12-01T10:00:00Z,)"`, 1),
			`during of item 1" is`},
		"wait as text": {strings.Replace(hold, `"items"`, `"wait":"yes","items"`, 1), `"wait" is "yes"`},
		"an amount":    {strings.Replace(hold, `"items"`, `"amount":1,"items"`, 1), `no argument "amount"`},
		"confirm of none": {`{"kind":"reservation.confirm","key":"@17","args":{"reservation":"@none"}}`,
			`there is no reservation "@none"`},
		"confirm of a later one": {`{"kind":"reservation.confirm","key":"@17","args":{"reservation":"@b"}}`,
			`there is no reservation "@b"`},
		"extend without a time": {`{"kind":"reservation.extend","key":"@17","args":{"reservation":"@r1"}}`,
			`"expires_at" is missing`},
		"cancel of a part": {`{"kind":"reservation.cancel","key":"@17","args":{"reservation":"@r1","items":[]}}`,
			`no argument "items"`},
		"cancel, key of another": {`{"kind":"reservation.cancel","key":"@h1","args":{"reservation":"@r1"}}`, `"@h1" `},
		"book to wait":           {strings.Replace(book, `"items"`, `"wait":true,"items"`, 1), `no argument "wait"`},
		"book without money":     {strings.Replace(book, `"amount":1,`, "", 1), `"amount" is missing`},
		"book from nobody":       {strings.Replace(book, `"bank"`, `"nobody"`, 1), `there is no account "nobody"`},
		"expire": {`{"kind":"reservation.expire","key":"@17","args":{"reservation":"@r1"}}`,
			`there is no kind "reservation.expire"`},
		"grant": {`{"kind":"reservation.grant","key":"@17","args":{"reservation":"@r1"}}`,
			`there is no kind "reservation.grant"`},
	} {
		cases++
		prefix := fmt.Sprintf("case-%d-", cases)
		t.Run(name, func(t *testing.T) {
			says := strings.ReplaceAll(bad.says, "@", prefix)
			file := reservations(prefix, map[int]string{17: bad.row})
			whole := s.importFile(t, file)
			whole.Fails(t, 65, "line 17: ", says)
			counted(t, whole, importCounts{})
			s.asked(t, prefix, 0)
			if n := s.reservationCount(t, prefix); n != 0 {
				t.Errorf("%d reservations were made", n)
			}

			chunks := s.importFile(t, file, "--chunk", "4")
			chunks.Fails(t, 65, "line 17: ", says, "everything up to line 16 is in")
			counted(t, chunks, importCounts{Lines: 16, Requests: 16})
			s.asked(t, prefix, 16)
			if n := s.reservationCount(t, prefix); n != 4 {
				t.Errorf("%d reservations were made, want 4", n)
			}
		})
	}
}

func (s *shop) reservationCount(t *testing.T, prefix string) (n int) {
	t.Helper()
	if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM lastseat.reservations WHERE starts_with(id, $1)`,
		prefix).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Resources are defined, and get the file's capacity when it is imported again. A bad one is named.
func TestImportResources(t *testing.T) {
	t.Parallel()
	s := newHall(t)
	const file = "resource,capacity,overbook\nhall/1,1,\n\"hall, left\",20,2\nA1,1,0\nstock,12,0\n"
	first := s.importFile(t, file)
	first.Succeeds(t)
	counted(t, first, importCounts{Lines: 5, Resources: 3}) // A1 is what it was
	again := runIn(t, s.url, strings.NewReader(file), "import", "-")
	again.Succeeds(t)
	if want := "0 requests: 0 new, 0 duplicates; 0 accounts opened, 0 resources defined\n"; again.Out != want {
		t.Errorf("printed %q, want %q", again.Out, want)
	}
	changed := s.importFile(t, "capacity,resource\n2,hall/1\n9,hall/2\n21,\"hall, left\"\n")
	counted(t, changed, importCounts{Lines: 4, Resources: 3})
	if got, want := s.enqueue(t, "availability", "hall", "-o", "csv").Out,
		`resource,available,capacity,overbook,held,confirmed,waiting
"hall, left",23,21,2,0,0,0
hall/1,2,2,0,0,0,0
hall/2,9,9,0,0,0,0
`; got != want {
		t.Errorf("available are\n%swant\n%s", got, want)
	}

	s.hold(t, "h").Succeeds(t)
	s.drain(t)
	for name, bad := range map[string]struct{ row, says string }{
		"held":            {"stock,1,0", `of resource "stock" 2 are held`},
		"negative":        {"x,-1,0", "whole number"},
		"empty":           {",1,0", "resource is empty"},
		"long":            {strings.Repeat("x", 201) + ",1,0", "too long"},
		"more than int64": {"x,9223372036854775807,1", "together"},
	} {
		got := s.importFile(t, "resource,capacity,overbook\nnew,1,0\nnewer,1,0\n"+bad.row+"\nnewest,1,0\n")
		got.Fails(t, 65, "line 4: ", bad.says)
		counted(t, got, importCounts{})
		if got := s.enqueue(t, "availability", "new", "-o", "json").Out; got != "" {
			t.Errorf("%s: resources were defined: %s", name, got)
		}
	}
}

// The accounts of a booking are opened like those of a transfer.
func TestImportOpensAccountsOfBookings(t *testing.T) {
	t.Parallel()
	s := newHall(t)
	const file = `{"kind":"booking.book","key":"b","args":{"reservation":"b","items":[{"resource":"stock"}],"from":"mint","to":"shop","amount":500,"currency":"USD"}}
{"kind":"reservation.cancel","key":"x","args":{"reservation":"b"}}
`
	s.importFile(t, file).Fails(t, 65, `line 1: there is no account "mint"`)
	got := s.importFile(t, file, "--open-accounts")
	got.Succeeds(t)
	counted(t, got, importCounts{Lines: 2, Requests: 2, Accounts: 2})
	counted(t, s.importFile(t, file, "--open-accounts"), importCounts{Lines: 2, Requests: 2, Duplicates: 2})
	s.drain(t)
	if got := s.balance(t, "shop"); got != 500 {
		t.Errorf("the shop has %d, want 500", got)
	}
}
