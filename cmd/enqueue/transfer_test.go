package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// What the command line can get wrong about a transfer: each has exit code 65 and its reason on one line, and nothing
// is written.
func TestTransferBadInput(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for name, bad := range map[string]struct {
		change []string
		says   string
	}{
		"unknown giver":             {[]string{"--from", "nobody"}, `there is no account "nobody"`},
		"unknown taker":             {[]string{"--to", "nobody"}, `there is no account "nobody"`},
		"the same account":          {[]string{"--to", "bank"}, "same account"},
		"empty giver":               {[]string{"--from", ""}, "--from is empty"},
		"long giver":                {[]string{"--from", strings.Repeat("x", 201)}, "201 characters"},
		"giver with NUL":            {[]string{"--from", "a\x00b"}, ""},
		"giver with line break":     {[]string{"--from", "a\nb"}, "--from has U+000A"},
		"giver with terminal codes": {[]string{"--from", "a\x1b[31mb"}, "--from has U+001B"},
		"giver not UTF-8":           {[]string{"--from", "bank\xff"}, ""},
		"amount zero":               {[]string{"--amount", "0"}, `--amount is 0`},
		"amount zero with decimals": {[]string{"--amount", "0.00"}, `--amount is 0.00`},
		"amount minus zero":         {[]string{"--amount", "-0"}, `--amount is -0`},
		"amount negative":           {[]string{"--amount", "-1.00"}, `--amount is -1.00`},
		"amount least negative":     {[]string{"--amount", "-92233720368547758.08"}, `--amount is -`},
		"amount one too large":      {[]string{"--amount", "92233720368547758.08"}, "out of range"},
		"amount far too large":      {[]string{"--amount", strings.Repeat("9", 400)}, "out of range"},
		"amount empty":              {[]string{"--amount", ""}, "--amount"},
		"amount with comma":         {[]string{"--amount", "1,50"}, `"1,50"`},
		"amount with exponent":      {[]string{"--amount", "1e3"}, `"1e3"`},
		"amount with plus":          {[]string{"--amount", "+1"}, `"+1"`},
		"amount with space":         {[]string{"--amount", " 1"}, `" 1"`},
		"amount NaN":                {[]string{"--amount", "NaN"}, `"NaN"`},
		"amount with NUL":           {[]string{"--amount", "1\x00"}, "--amount"},
		"three decimals of EUR":     {[]string{"--amount", "1.005"}, "3 decimals"},
		"zeros beyond EUR's":        {[]string{"--amount", "1.500"}, "3 decimals"},
		"a decimal of JPY":          {[]string{"--from", "tokyo", "--amount", "1.5", "--currency", "JPY"}, "no decimals"},
		"unknown currency":          {[]string{"--currency", "XQQ"}, `"XQQ"`},
		"currency in lower case":    {[]string{"--currency", "eur"}, "not in upper case: write EUR"},
		"empty currency":            {[]string{"--currency", ""}, `currency ""`},
		"empty key":                 {[]string{"--key", ""}, "the key is empty"},
		"long key":                  {[]string{"--key", strings.Repeat("k", 201)}, "201 characters"},
		"long key of wide letters":  {[]string{"--key", strings.Repeat("€", 201)}, "201 characters"},
		"key with NUL":              {[]string{"--key", "a\x00b"}, "NUL"},
		"key not UTF-8":             {[]string{"--key", "a\xff"}, ""},
		"long key with line break":  {[]string{"--key", "a\n" + strings.Repeat("k", 200)}, "202 characters"},
		"description with NUL":      {[]string{"--description", "a\x00b"}, ""},
		"description not UTF-8":     {[]string{"--description", "caf\xe9"}, ""},
		"description of 64 KiB":     {[]string{"--description", strings.Repeat("d", 64<<10)}, "64 KiB"},
		"description of 1 MiB":      {[]string{"--description", strings.Repeat("d", 1<<20)}, "64 KiB"},
		"metadata not JSON":         {[]string{"--metadata", "{"}, `--metadata is "{"`},
		"metadata an array":         {[]string{"--metadata", "[1]"}, "Metadata is a JSON object"},
		"metadata a number":         {[]string{"--metadata", "1"}, "Metadata is a JSON object"},
		"metadata with NUL":         {[]string{"--metadata", `{"a":"\u0000"}`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.census(t)
			got := s.transfer(t, name, bad.change...)
			got.Fails(t, 65, "enqueue: ", bad.says)
			if got.Out != "" {
				t.Errorf("stdout is %q, want nothing", got.Out)
			}
			if len(got.Err) > 1000 {
				t.Errorf("the line is %d bytes long", len(got.Err))
			}
			s.expect(t, before)
		})
	}
}

// The largest of everything is no error, and is settled.
func TestTransferAtTheLimits(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	key := strings.Repeat("€", 200)
	var room int
	err := s.pool.QueryRow(t.Context(), `
		SELECT 65536 - octet_length(jsonb_build_object('from', 'bank', 'to', 'ada', 'amount', 9223372036854775807,
		  'currency', 'EUR', 'description', '')::text)`).Scan(&room)
	if err != nil {
		t.Fatal(err)
	}
	s.transfer(t, key, "--amount", "92233720368547758.07", "--description", strings.Repeat("d", room)).Succeeds(t)
	s.transfer(t, "too large", "--amount", "92233720368547758.07", "--description", strings.Repeat("d", room+1)).Fails(t,
		65, "65537 bytes")
	s.transfer(t, "one cent more", "--amount", "0.01").Succeeds(t)
	s.drain(t)
	if got := s.balance(t, "ada"); got != 9223372036854775807 {
		t.Errorf("ada has %d, want all that a bigint holds", got)
	}
	s.enqueue(t, "outcome", key).Succeeds(t)
	if got := s.enqueue(t, "outcome", "one cent more").Out; !strings.Contains(got, "rejected  out_of_range") {
		t.Errorf("one cent more is %q, want rejected, out_of_range", got)
	}
}

// A key stands for one request: the same again changes nothing, with other arguments it is exit code 65, before it is
// settled and after.
func TestTransferKeyReused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	const one = "4 accounts, 1 requests, 1 jobs"
	s.transfer(t, "k").Succeeds(t)
	for _, settled := range []bool{false, true} {
		if settled {
			s.drain(t)
		}
		want := one
		if settled {
			want = "4 accounts, 1 requests, 0 jobs"
		}
		again := s.transfer(t, "k", "--output", "json")
		again.Succeeds(t)
		var told struct{ Duplicate bool }
		if err := json.Unmarshal([]byte(again.Out), &told); err != nil || !told.Duplicate {
			t.Errorf("the same once more prints %q, want a duplicate", again.Out)
		}
		for _, change := range [][]string{
			{"--amount", "2.00"}, {"--to", "ben"}, {"--from", "ben"}, {"--description", "new"}, {"--metadata", `{"a":1}`},
			{"--currency", "USD"},
		} {
			got := s.transfer(t, "k", change...)
			got.Fails(t, 65, `key "k" was used`, "LS001")
			if got.Out != "" {
				t.Errorf("%v: stdout is %q, want nothing", change, got.Out)
			}
		}
		s.expect(t, want)
	}
	s.drain(t)
	if got := s.balance(t, "ada"); got != 100 {
		t.Errorf("ada has %d, want 100: once", got)
	}
}

func TestAccount(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.enqueue(t, "account", "--id", "shop", "--currency", "KWD", "--overdraft", "1.500").Succeeds(t)
	s.enqueue(t, "account", "--id", "till", "--currency", "EUR", "--overdraft", "unlimited").Succeeds(t)
	var limit, none *int64
	err := s.pool.QueryRow(t.Context(), `
		SELECT (SELECT overdraft_limit FROM lastseat.accounts WHERE id = 'shop'), (SELECT overdraft_limit
		  FROM lastseat.accounts WHERE id = 'till')`).Scan(&limit, &none)
	if err != nil || limit == nil || *limit != 1500 || none != nil {
		t.Errorf("limits %v and %v, %v; want 1500 and none", limit, none, err)
	}
	const before = "6 accounts, 0 requests, 0 jobs"
	again := s.enqueue(t, "account", "--id", "shop", "--currency", "KWD", "--overdraft", "1.500", "-o", "json")
	again.Succeeds(t)
	if !strings.Contains(again.Out, `"duplicate":true`) {
		t.Errorf("the same once more prints %q, want a duplicate", again.Out)
	}
	for name, bad := range map[string]struct {
		args []string
		says string
	}{
		"another limit":     {[]string{"--id", "shop", "--currency", "KWD"}, "open already"},
		"another currency":  {[]string{"--id", "shop", "--currency", "EUR", "--overdraft", "15.00"}, "open already"},
		"negative limit":    {[]string{"--id", "new", "--currency", "EUR", "--overdraft", "-1"}, "overdraft"},
		"too many decimals": {[]string{"--id", "new", "--currency", "EUR", "--overdraft", "1.001"}, "3 decimals"},
		"limit out of range": {[]string{"--id", "new", "--currency", "EUR", "--overdraft", "92233720368547758.08"},
			"out of range"},
		"unknown currency": {[]string{"--id", "new", "--currency", "EURO"}, "EURO"},
		"empty id":         {[]string{"--id", "", "--currency", "EUR"}, "empty"},
		"long id":          {[]string{"--id", strings.Repeat("x", 201), "--currency", "EUR"}, "201 characters"},
		"id with NUL":      {[]string{"--id", "a\x00", "--currency", "EUR"}, ""},
		"id not UTF-8":     {[]string{"--id", "a\xff", "--currency", "EUR"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s.enqueue(t, append([]string{"account"}, bad.args...)...).Fails(t, 65, bad.says)
			s.expect(t, before)
		})
	}
}
