package main

import (
	"encoding/csv"
	"fmt"
	"strings"
	"testing"
)

func TestReservationShown(t *testing.T) {
	t.Parallel()
	s := newHall(t)
	s.enqueue(t, "resource", "--id", "box 7", "--capacity", "9").Succeeds(t)
	show := func(id, want string, members map[string]any) {
		t.Helper()
		got := s.enqueue(t, "reservation", id)
		if got.Succeeds(t); got.Out != want+"\n" {
			t.Errorf("printed %q, want %q", got.Out, want)
		}
		expectMembers(t, s.enqueue(t, "reservation", id, "--output", "json").Out, members)
	}
	s.hold(t, "a", "--item", "box 7", "--customer", "Smith, Ann", "--expires-at", "2099-01-01T12:00:00+02:00").Succeeds(t)
	show("r-a", `r-a  pending  customer "Smith, Ann"  expires 2099-01-01T10:00:00Z`,
		map[string]any{"reservation": "r-a", "status": "pending", "customer": "Smith, Ann", "items": []any{},
			"expires_at": "2099-01-01T10:00:00Z", "version": 0, "key": "a"})
	s.drain(t)
	show("r-a", `r-a  held  2 x stock, 1 x "box 7"  customer "Smith, Ann"  expires 2099-01-01T10:00:00Z`, map[string]any{
		"status": "held", "version": 1, "items": []map[string]any{{"resource": "stock", "quantity": 2}, {"resource": "box 7",
			"quantity": 1}},
	})
	s.enqueue(t, "confirm", "--key", "c", "--reservation", "r-a").Succeeds(t)
	s.enqueue(t, "hold", "--key", "b", "--reservation", "r-b", "--item", "room", "--during",
		"2026-12-01T10:00:00+01:00/2026-12-01T11:30:00.5Z").Succeeds(t)
	s.drain(t)
	show("r-a", `r-a  confirmed  2 x stock, 1 x "box 7"  customer "Smith, Ann"`, map[string]any{"status": "confirmed",
		"version": 2})
	s.exec(t, `UPDATE lastseat.reservations SET expires_at = '2099-01-01Z' WHERE id = 'r-b'`)
	show("r-b", "r-b  held  room [2026-12-01T09:00:00Z,2026-12-01T11:30:00.5Z)  expires 2099-01-01T00:00:00Z",
		map[string]any{
			"items": []map[string]any{{"resource": "room", "quantity": 1,
				"during": "[2026-12-01T09:00:00Z,2026-12-01T11:30:00.5Z)"}},
		})
}

func TestAvailability(t *testing.T) {
	t.Parallel()
	s := newHall(t)
	s.hold(t, "a").Succeeds(t)
	s.hold(t, "b", "--item", "A1", "--customer", "ada").Succeeds(t)
	s.enqueue(t, "confirm", "--key", "c", "--reservation", "r-b").Succeeds(t)
	s.hold(t, "w", "--item", "A1", "--customer", "ben", "--wait-in-line").Succeeds(t)
	s.drain(t)
	for args, want := range map[string]string{
		"availability stock": `
RESOURCE  AVAILABLE  CAPACITY  OVERBOOK  HELD  CONFIRMED  WAITING
stock             8        10         2     2          2        1
`, "availability A -o csv": `
resource,available,capacity,overbook,held,confirmed,waiting
A1,0,1,0,0,1,1
A2,1,1,0,0,0,0
A3,1,1,0,0,0,0
A=1,1,1,0,0,0,0
`, "availability A --limit 2 --after A1 -o json": `
{"resource":"A2","available":1,"capacity":1,"overbook":0,"held":0,"confirmed":0,"waiting":0}
{"resource":"A3","available":1,"capacity":1,"overbook":0,"held":0,"confirmed":0,"waiting":0}
`, "availability none": `
RESOURCE  AVAILABLE  CAPACITY  OVERBOOK  HELD  CONFIRMED  WAITING
`, "availability none -o csv": `
resource,available,capacity,overbook,held,confirmed,waiting
`, "availability none -o json": "\n", "availability A --after A=1 -o json": "\n",
	} {
		if got := s.enqueue(t, strings.Fields(args)...); got.Code != 0 || got.Err != "" || got.Out != want[1:] {
			t.Errorf("%s: exit code %d, stderr %q, printed\n%swant%s", args, got.Code, got.Err, got.Out, want)
		}
	}
	if got := s.enqueue(t, "availability", "").Out; strings.Count(got, "\n") != 7 {
		t.Errorf("an empty prefix shows %q, want all six", got)
	}
}

// More than a page, whole and in order, from anywhere and as far as is wanted. A prefix is to the letter.
func TestAvailabilityOfMany(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	const resources = 2*availabilityPage + 1
	s.exec(t, `SELECT lastseat.define_resource('n/' || lpad(n::text, 5, '0'), n) FROM generate_series(1, $1) n`, resources)
	s.exec(t, `SELECT lastseat.define_resource(id, 1) FROM unnest('{n,n.,n0,"n/ ünder",N/1,n_1,n%}'::text[]) id`)
	for _, c := range []struct {
		args        string
		first, last int
	}{
		{"n/0", 1, resources}, {"n/0 --limit 1000", 1, 1000}, {"n/0 --limit 1001", 1, 1001}, {"n/0 --limit 2000", 1, 2000},
		{"n/0 --limit 999999", 1, resources},
		{"n/0 --after n/01000", 1001, resources}, {"n/0 --after n/00999 --limit 1001", 1000, 2000}, {"n/0 --after n/02000",
			2001, 2001}, {"n/0 --after a", 1, resources},
		{"n/0200", 2000, 2001}, {"n/01999", 1999, 1999},
	} {
		got := s.enqueue(t, append([]string{"availability", "-o", "csv"}, strings.Fields(c.args)...)...)
		got.Succeeds(t)
		rows, err := csv.NewReader(strings.NewReader(got.Out)).ReadAll()
		if err != nil || len(rows) != c.last-c.first+2 {
			t.Fatalf("%s: %d rows (%v), want %d", c.args, len(rows)-1, err, c.last-c.first+1)
		}
		for i, row := range rows[1:] {
			if row[0] != fmt.Sprintf("n/%05d", c.first+i) || row[2] != fmt.Sprint(c.first+i) {
				t.Fatalf("%s: row %d is %q", c.args, i, row)
			}
		}
	}
	for prefix, want := range map[string]int{"n_": 1, "n%": 1, "n": resources + 6, "n/ ü": 1, "N": 1, "x": 0} {
		if got := s.enqueue(t, "availability", prefix, "-o", "json").Out; strings.Count(got, "\n") != want {
			t.Errorf("prefix %q shows %d resources, want %d", prefix, strings.Count(got, "\n"), want)
		}
	}
}

// Rows are written as they come, and what could not be written is an error.
func TestListHoldsLittleBack(t *testing.T) {
	t.Parallel()
	for _, format := range []listFormat{"text", "json", "csv"} {
		var written lineCount
		const rows = 20_000
		w, err := (&program{}).newList(format, &written, make([]bool, 2), "a", "b")
		for n := 0; n < rows && err == nil; n++ {
			if err = w.add(n, fmt.Sprint(n), "x"); n-int(written) > 1000 { // the csv package keeps 4 KiB
				t.Fatalf("%s: %d rows are held back", format, n-int(written))
			}
		}
		if err == nil {
			err = w.end()
		}
		if err != nil || written < rows {
			t.Errorf("%s: %d lines were written (%v)", format, written, err)
		}
		for _, rows := range []int{1, 1000} {
			w, err := (&program{}).newList(format, fullDisk{}, make([]bool, 1), "a")
			for n := 0; n < rows && err == nil; n++ {
				err = w.add(n, "x")
			}
			if err == nil {
				err = w.end()
			}
			if err == nil {
				t.Errorf("%s of %d rows: no error", format, rows)
			}
		}
	}
}

func TestOccupied(t *testing.T) {
	t.Parallel()
	s := newHall(t)
	at := func(key, during string) {
		s.enqueue(t, "hold", "--key", key, "--reservation", "r "+key, "--item", "room", "--during", during).Succeeds(t)
	}
	at("b", "2026-12-01T11:30Z/2026-12-01T12:00Z")
	at("a", "2026-12-01T10:00:00.25Z/2026-12-01T11:30:00Z")
	at("c", "2026-12-02T00:00+01:00/2026-12-03T00:00+01:00")
	at("d", "2026-12-01T11:00Z/2026-12-01T11:45Z") // overlaps
	s.enqueue(t, "confirm", "--key", "confirm", "--reservation", "r b").Succeeds(t)
	s.drain(t)
	for args, want := range map[string]string{
		"": `
START                    END                   RESERVATION  STATUS
2026-12-01T10:00:00.25Z  2026-12-01T11:30:00Z  r a          held
2026-12-01T11:30:00Z     2026-12-01T12:00:00Z  r b          confirmed
2026-12-01T23:00:00Z     2026-12-02T23:00:00Z  r c          held
`, "--from 2026-12-01T11:30:00Z --to 2026-12-01T23:00:00Z -o csv": `
start,end,reservation,status
2026-12-01T11:30:00Z,2026-12-01T12:00:00Z,r b,confirmed
`, "--from 2026-12-02 --to 2026-12-03 -o json": `
{"during":"[2026-12-01T23:00:00Z,2026-12-02T23:00:00Z)","reservation":"r c","status":"held"}
`, "--to 2026-12-01T10:00:01Z -o json": `
{"during":"[2026-12-01T10:00:00.25Z,2026-12-01T11:30:00Z)","reservation":"r a","status":"held"}
`, "--from 2026-12-03 -o csv": `
start,end,reservation,status
`, "--from 2027-01-01 -o json": "\n",
	} {
		if got := s.enqueue(t, append([]string{"occupied", "room"}, strings.Fields(args)...)...); got.Code != 0 ||
			got.Err != "" || got.Out != want[1:] {
			t.Errorf("%s: exit code %d, stderr %q, printed\n%swant%s", args, got.Code, got.Err, got.Out, want)
		}
	}
	if got := s.enqueue(t, "occupied", "stock", "-o", "json"); got.Code != 0 || got.Out != "" {
		t.Errorf("what is counted is never occupied: exit code %d, %q", got.Code, got.Out)
	}
}
