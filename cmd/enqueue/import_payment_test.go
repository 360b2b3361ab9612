package main

import (
	"fmt"
	"strings"
	"testing"
)

// payments is JSON Lines of whole lives of payments: 20 requests on as many lines, but for the lines in bad.
func payments(prefix string, bad map[int]string) string {
	var file strings.Builder
	line := 0
	add := func(kind, key, args string) {
		line++
		row, isBad := bad[line]
		if !isBad {
			row = fmt.Sprintf(`{"kind":"payment.%s","key":"@%s","args":{%s}}`, kind, key, args)
		}
		file.WriteString(strings.ReplaceAll(row, "@", prefix) + "\n")
	}
	for n := 1; n <= 4; n++ {
		payment := fmt.Sprintf(`"payment":"@p%d"`, n)
		add("authorize", fmt.Sprintf("a%d", n), payment+
			`,"from":"bank","to":"ada","amount":1000,"currency":"EUR","expires_at":"2099-01-01T00:00:00Z"`)
		if n == 4 {
			add("void", "v", payment)
			break
		}
		add("capture", fmt.Sprintf("c%d", n), payment+`,"amount":750`)
		add("refund", fmt.Sprintf("r%d", n), payment+`,"amount":50`)
		add("refund", fmt.Sprintf("s%d", n), payment+`,"amount":200`)
	}
	for n := 1; n <= 3; n++ {
		add("transfer", fmt.Sprintf("t%d", n), `"from":"bank","to":"ada","amount":10,"currency":"EUR"`)
		add("reverse", fmt.Sprintf("u%d", n), fmt.Sprintf(`"transfer":"@t%d"`, n))
	}
	return file.String()
}

// Whole lives of payments in one file, one chunk: ada keeps 5.00 of each of three. Again, nothing is new.
func TestImportPayments(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, chunk := range []string{"1", "3", "1000"} {
		before := s.balance(t, "ada")
		file := payments("x"+chunk, nil)
		first := s.importFile(t, file, "--chunk", chunk)
		first.Succeeds(t)
		counted(t, first, importCounts{Lines: 20, Requests: 20})
		for range 2 { // before it is settled, and after
			again := s.importFile(t, strings.ReplaceAll(file, "2099", "2098"))
			again.Succeeds(t)
			counted(t, again, importCounts{Lines: 20, Requests: 20, Duplicates: 20})
			s.drain(t)
			if got := s.balance(t, "ada") - before; got != 1500 {
				t.Errorf("chunks of %s: ada got %d, want 1500", chunk, got)
			}
		}
	}
	var wrong, held int
	err := s.pool.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM lastseat.requests WHERE status <> 'applied'), (SELECT sum(held)
		  FROM lastseat.accounts)`).Scan(&wrong, &held)
	if err != nil || wrong != 0 || held != 0 {
		t.Errorf("%d requests are not applied, %d is held (%v)", wrong, held, err)
	}
}

// Line 17 is wrong, in the ways of every kind: it is named, and nothing of its chunk is written, no payment either.
func TestImportBadPayment(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	const authorize = `{"kind":"payment.authorize","key":"@17","args":{"payment":"@p17","from":"bank","to":"ada","amount":1,"currency":"EUR"}}`
	cases := 0
	for name, bad := range map[string]struct{ row, says string }{
		"payment taken": {strings.Replace(authorize, "@p17", "@p2", 1),
			`payment "@p2" was asked for with the key "@a2"`},
		"no payment":      {strings.Replace(authorize, `"payment":"@p17",`, "", 1), `"payment" is missing`},
		"unknown account": {strings.Replace(authorize, "bank", "nobody", 1), `there is no account "nobody"`},
		"amount as text":  {strings.Replace(authorize, `:1,`, `:"1",`, 1), `"amount" is "1"`},
		"a day that is not": {strings.Replace(authorize, `"amount"`, `"expires_at":"2026-02-30T00:00:00Z","amount"`,
			1), "there is no such day"},
		"a time without offset": {strings.Replace(authorize, `"amount"`, `"expires_at":"2026-02-03T00:00:00","amount"`, 1),
			"RFC 3339"},
		"a description": {strings.Replace(authorize, `"amount"`, `"description":"x","amount"`, 1),
			`no argument "description"`},
		"capture of none": {`{"kind":"payment.capture","key":"@17","args":{"payment":"@none"}}`,
			`there is no payment "@none"`},
		"capture of 0": {`{"kind":"payment.capture","key":"@17","args":{"payment":"@p1","amount":0}}`,
			`"amount" is 0`},
		"capture of a decimal": {`{"kind":"payment.capture","key":"@17","args":{"payment":"@p1","amount":1.5}}`,
			`"amount" is 1.5`},
		"capture with currency": {`{"kind":"payment.capture","key":"@17","args":{"payment":"@p1","currency":"EUR"}}`,
			`no argument "currency"`},
		"void of a part": {`{"kind":"payment.void","key":"@17","args":{"payment":"@p1","amount":1}}`,
			`no argument "amount"`},
		"refund of a later one": {`{"kind":"payment.refund","key":"@17","args":{"payment":"@p18"}}`,
			`there is no payment "@p18"`},
		"refund, key reused":      {`{"kind":"payment.refund","key":"@r1","args":{"payment":"@p1","amount":51}}`, `"@r1" `},
		"capture, key of another": {`{"kind":"payment.capture","key":"@a1","args":{"payment":"@p1"}}`, `"@a1" `},
		"reverse of a later one": {`{"kind":"payment.reverse","key":"@17","args":{"transfer":"@t3"}}`,
			`no transfer was asked for with the key "@t3"`},
		"reverse of a capture": {`{"kind":"payment.reverse","key":"@17","args":{"transfer":"@c1"}}`,
			"it is a payment.capture"},
		"expire": {`{"kind":"payment.expire","key":"@17","args":{"payment":"@p1"}}`, `there is no kind "payment.expire"`},
	} {
		cases++
		prefix := fmt.Sprintf("case-%d-", cases)
		t.Run(name, func(t *testing.T) {
			says := strings.ReplaceAll(bad.says, "@", prefix)
			file := payments(prefix, map[int]string{17: bad.row})
			before := s.paymentCount(t)

			whole := s.importFile(t, file)
			whole.Fails(t, 65, "line 17: ", says)
			counted(t, whole, importCounts{})
			s.asked(t, prefix, 0)
			if got := s.paymentCount(t); got != before {
				t.Errorf("%d payments were made", got-before)
			}

			chunks := s.importFile(t, file, "--chunk", "4")
			chunks.Fails(t, 65, "line 17: ", says, "everything up to line 16 is in")
			counted(t, chunks, importCounts{Lines: 16, Requests: 16})
			s.asked(t, prefix, 16)
		})
	}
}

func (s *shop) paymentCount(t *testing.T) (n int) {
	t.Helper()
	if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM lastseat.payments`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// The accounts of an authorization are opened like those of a transfer, once.
func TestImportOpensAccountsOfPayments(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	const file = `{"kind":"payment.authorize","key":"a","args":{"payment":"p","from":"mint","to":"shop","amount":500,"currency":"USD"}}
{"kind":"payment.capture","key":"c","args":{"payment":"p"}}
{"kind":"payment.transfer","key":"t","args":{"from":"shop","to":"till","amount":100,"currency":"USD"}}
{"kind":"own.kind","key":"own","args":{"from":"x","to":"y","currency":"USD"}}
`
	s.importFile(t, file).Fails(t, 65, `line 1: there is no account "mint"`)
	got := s.importFile(t, file, "--open-accounts")
	got.Succeeds(t)
	counted(t, got, importCounts{Lines: 4, Requests: 4, Accounts: 3})
	again := s.importFile(t, file, "--open-accounts")
	counted(t, again, importCounts{Lines: 4, Requests: 4, Duplicates: 4})
	s.exec(t, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now() WHERE kind = 'own.kind'`)
	s.drain(t)
	for account, want := range map[string]string{"mint": "mint  -5.00 USD  held 0.00  available unlimited  overdraft " +
		"unlimited\n", "shop": "shop  4.00 USD  held 0.00  available unlimited  overdraft unlimited\n"} {
		if got := s.enqueue(t, "balance", account).Out; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
