package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// What an account can spend is not what it has: holds and its limit count.
func TestBalance(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.enqueue(t, "account", "--id", "Smith, Ann", "--currency", "EUR", "--overdraft", "100.00").Succeeds(t)
	s.transfer(t, "t", "--to", "Smith, Ann", "--amount", "50").Succeeds(t)
	s.authorize(t, "a", "--from", "Smith, Ann", "--amount", "12.50").Succeeds(t)
	s.enqueue(t, "account", "--id", "rich", "--currency", "EUR", "--overdraft", "92233720368547758.07").Succeeds(t)
	s.transfer(t, "t2", "--to", "rich", "--amount", "1").Succeeds(t)
	s.authorize(t, "b", "--from", "bank", "--amount", "0.05").Succeeds(t)
	s.drain(t)
	for account, want := range map[string]struct {
		text                            string
		balance, held, available, limit any
	}{
		"Smith, Ann": {`"Smith, Ann"  50.00 EUR  held 12.50  available 137.50  overdraft 100.00`, 5000, 1250, 13750, 10000},
		"bank":       {`bank  -51.00 EUR  held 0.05  available unlimited  overdraft unlimited`, -5100, 5, nil, nil},
		"tokyo":      {`tokyo  0 JPY  held 0  available unlimited  overdraft unlimited`, 0, 0, nil, nil},
		"rich": {`rich  1.00 EUR  held 0.00  available 92233720368547758.07  overdraft 92233720368547758.07`, 100, 0,
			"9223372036854775807", "9223372036854775807"},
	} {
		got := s.enqueue(t, "balance", account)
		if got.Succeeds(t); got.Out != want.text+"\n" {
			t.Errorf("printed %q, want %q", got.Out, want.text)
		}
		lines := s.enqueue(t, "balance", account, "-o", "json")
		lines.Succeeds(t)
		expectMembers(t, lines.Out, map[string]any{"account": account, "balance": want.balance, "held": want.held,
			"available": want.available, "overdraft_limit": want.limit})
	}
}

func TestPayment(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.authorize(t, "a", "--expires-at", "2099-01-01T12:00:00+02:00").Succeeds(t)
	show := func(want string, members map[string]any) {
		t.Helper()
		got := s.enqueue(t, "payment", "p-a")
		if got.Succeeds(t); got.Out != want+"\n" {
			t.Errorf("printed %q, want %q", got.Out, want)
		}
		expectMembers(t, s.enqueue(t, "payment", "p-a", "--output", "json").Out, members)
	}
	show("p-a  pending  10.00 EUR from bank to ada  captured 0.00  refunded 0.00  expires 2099-01-01T10:00:00Z",
		map[string]any{"payment": "p-a", "status": "pending", "amount": 1000, "amount_captured": 0, "currency": "EUR",
			"expires_at": "2099-01-01T10:00:00Z"})
	s.enqueue(t, "capture", "--key", "c", "--payment", "p-a", "--amount", "7.50").Succeeds(t)
	s.enqueue(t, "refund", "--key", "r", "--payment", "p-a", "--amount", "0.25").Succeeds(t)
	s.drain(t)
	show("p-a  captured  10.00 EUR from bank to ada  captured 7.50  refunded 0.25",
		map[string]any{"payment": "p-a", "status": "captured", "from": "bank", "to": "ada", "amount": 1000,
			"amount_captured": 750, "amount_refunded": 25})
}

// expectMembers demands one line of JSON with these members, among others.
func expectMembers(t *testing.T, out string, want map[string]any) {
	t.Helper()
	var got map[string]any
	dec := json.NewDecoder(strings.NewReader(out))
	dec.UseNumber()
	if err := dec.Decode(&got); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%q is not one JSON object on a line (%v)", out, err)
	}
	for name, value := range want {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if is, err := json.Marshal(got[name]); err != nil || string(is) != string(text) {
			t.Errorf("%s is %s, want %s", name, is, text)
		}
	}
}
