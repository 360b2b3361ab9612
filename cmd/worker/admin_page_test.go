package main

import (
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/inspect"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

const (
	viewerToken   = "0123456789-viewer"
	operatorToken = "0123456789-operator"
)

// post sends a form with a token, as the user ada.
func post(t *testing.T, address, token string, form url.Values, headers ...string) (code int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if token != "" {
		r.SetBasicAuth("ada", token)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// ask asks for a payment that is captured, a seat that is held and waited for, and a room for a time.
func ask(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	testdb.Exec(t, pool, `SELECT lastseat.authorize('authorize', 'pay-1', 'ada', 'bank', 100, 'EUR');
		SELECT lastseat.capture('capture', 'pay-1', 70);
		SELECT lastseat.define_resource('seat:A1', 1), lastseat.define_resource('seat:A2', 1),
			lastseat.define_resource('room', 1);
		SELECT lastseat.hold('hold', 'first', '[{"resource": "seat:A1"}]');
		SELECT lastseat.hold('wait', 'late', '[{"resource": "seat:A1"}]', wait => true);
		SELECT lastseat.hold('meeting', 'meeting',
			'[{"resource": "room", "during": "[2026-11-24T09:00:00Z,2026-11-24T10:30:00Z)"}]')`)
}

// Each page shows what there is, whatever its name looks like, and says so where there is nothing.
func TestPages(t *testing.T) {
	t.Parallel()
	const odd = `order 7 & <b>"8"</b>`
	dbURL := testdb.New(t)
	pool := open(t, dbURL)
	address, _ := runAdmin(t, "DATABASE_URL="+dbURL)
	give(t, pool, odd, 1250)
	give(t, pool, "too much", 1<<62)
	give(t, pool, "and too much again", 1<<62)
	ask(t, pool)
	if _, err := outbox.Wait(t.Context(), pool, odd, "too much", "and too much again", "meeting"); err != nil {
		t.Fatal(err)
	}
	for path, c := range map[string]struct {
		code int
		says []string
	}{
		"/":          {200, []string{"settled a second", "What the doctor finds", "transferred", "process "}},
		"/?live":     {200, []string{`http-equiv="refresh"`}},
		"/style.css": {200, []string{"prefers-color-scheme: dark"}},
		"/request?key=" + url.QueryEscape(odd): {200, []string{"order 7 &amp; &lt;b&gt;", "payment.transfer",
			"<strong>applied</strong>", "1250 EUR", `account?id=bank`, "worker explain"}},
		"/request?key=nothing":       {404, []string{"no request has the key"}},
		"/request?key=%ff":           {404, nil},
		"/request?key=%00":           {404, nil},
		"/account?id=ada":            {200, []string{"EUR", "<polyline points=\"0.0,", "order 7 &amp; &lt;b&gt;", "1250"}},
		"/account?id=ada&before=2":   {200, []string{"1250"}},
		"/account?id=nobody":         {404, nil},
		"/requests?status=rejected":  {200, []string{"and too much again", "out_of_range"}},
		"/requests?code=transferred": {200, []string{"order 7", "too much"}},
		"/payment?id=pay-1": {200, []string{"<strong>captured</strong>", "pending, then authorized, then captured",
			"request?key=capture", `account?id=ada`}},
		"/payment?id=nothing":               {404, nil},
		"/reservation?id=late":              {200, []string{"<strong>waiting</strong>", "then waiting", "seat%3aA1"}},
		"/reservation?id=meeting":           {200, []string{"pending, then held", "room", "2026-11-24 09:00:00"}},
		"/reservation?id=nothing":           {404, nil},
		"/resource?id=seat:A1":              {200, []string{"0 confirmed, 1 held, 0 free", "reservation?id=late"}},
		"/resource?id=room&week=2026-01-01": {200, []string{"free all week"}},
		"/resource?id=room&week=2026-11-27": {200, []string{"Week of 2026-11-23", `x="540" y="0" width="90"`,
			"reservation?id=meeting"}},
		"/resource?id=nothing":                 {404, nil},
		"/resources?prefix=seat":               {200, []string{"2 in all, 1 free, 1 held.", ">1*<", ">2<", "seat:A"}},
		"/resources?prefix=seat&after=seat:A1": {200, []string{"1 on this page"}},
		"/resources?prefix=zzz":                {200, []string{"No resource"}},
		"/search?q=seat":                       {200, []string{"resource?id=seat%3aA1", "resources?prefix=seat"}},
		"/search?q=order":                      {200, []string{"request?key=order", "order 7 &amp;"}},
		"/search?q=a":                          {200, []string{"account?id=ada", "and too much again"}},
		"/search?q=zzz":                        {200, []string{"Nothing is called that"}},
		"/search?q=" + "%27%22%3Cscript":       {200, []string{"&lt;script"}},
	} {
		code, body := get(t, address+path)
		if code != c.code {
			t.Errorf("%s: %d, want %d: %s", path, code, c.code, body)
		}
		for _, word := range c.says {
			if !strings.Contains(body, word) {
				t.Errorf("%s does not say %q:\n%s", path, word, body)
			}
		}
		if strings.Contains(body, "<b>") || strings.Contains(body, "<script") {
			t.Errorf("%s has what a key said as its own: %s", path, body)
		}
	}
}

// An operator runs failed requests again and cancels pending ones, one, many or all, under their name, and is asked
// first. A viewer, a stranger and a page of another site don't.
func TestOnlyOperatorsChangeRequests(t *testing.T) {
	t.Parallel()
	dbURL := testdb.New(t)
	pool := open(t, dbURL)
	runWith(t, dbURL, "run", "--drain").Succeeds(t) // the queue is known from then on
	runWith(t, dbURL, "pause").Succeeds(t)
	keys := []string{"a", "b", "c & d"}
	for _, key := range keys {
		give(t, pool, key, 100)
	}
	address, log := runAdmin(t, "DATABASE_URL="+dbURL, "LASTSEAT_ADMIN_VIEWER_TOKEN="+viewerToken,
		"LASTSEAT_ADMIN_OPERATOR_TOKEN="+operatorToken)
	are := func(status string, want int) {
		t.Helper()
		clitest.Eventually(t, "requests that are "+status, func() bool {
			return want == testdb.Scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests WHERE status = $1`, status)
		})
	}
	change := func(token string, want int, form url.Values, headers ...string) {
		t.Helper()
		if code := post(t, address+"/change", token, form, headers...); code != want {
			t.Errorf("%v: %d, want %d", form, code, want)
		}
	}
	one := url.Values{"action": {"cancel"}, "key": {"a"}, "yes": {"yes"}}
	change("", 401, one)
	change(viewerToken, 403, one)
	change(operatorToken, 403, one, "Origin: https://evil.example")
	change(operatorToken, 200, url.Values{"action": {"cancel"}, "all": {"all"}}) // is asked
	change(operatorToken, 400, url.Values{"action": {"delete"}, "key": {"a"}, "yes": {"yes"}})
	change(operatorToken, 400, url.Values{"action": {"cancel"}, "yes": {"yes"}})
	are("pending", 3)
	change(operatorToken, 200, one, "Origin: "+address)
	are("failed", 1)
	change(operatorToken, 409, one)
	change(operatorToken, 200, url.Values{"action": {"cancel"}, "all": {"all"}, "yes": {"yes"}})
	are("failed", 3)
	runWith(t, dbURL, "resume").Succeeds(t)
	change(operatorToken, 200, url.Values{"action": {"retry"}, "key": {"a", "b"}, "yes": {"yes"}})
	are("applied", 2)
	change(operatorToken, 200, url.Values{"action": {"retry"}, "all": {"all"}, "kind": {"payment.void"}})
	change(operatorToken, 200, url.Values{"action": {"retry"}, "all": {"all"}, "kind": {"payment.transfer"},
		"yes": {"yes"}})
	are("applied", 3)
	change(operatorToken, 409, url.Values{"action": {"retry"}, "key": {"a"}, "yes": {"yes"}})
	for _, word := range []string{"who=ada action=cancel key=a ", "who=ada action=retry key=b ", `key="c & d"`} {
		if !strings.Contains(log.String(), word) {
			t.Errorf("the log does not say %s: %s", word, log.String())
		}
	}
}

// The pages of a list have every request once, the newest first, also where a page ends within a batch.
func TestPagesOfAList(t *testing.T) {
	t.Parallel()
	dbURL := testdb.New(t)
	pool := open(t, dbURL)
	give(t, pool, "first", 1)
	testdb.Exec(t, pool, `SELECT count(lastseat.transfer('k' || n, 'bank', 'ada',
		CASE WHEN n % 5 = 0 THEN 1 ELSE 1::bigint << 62 END,
		'EUR')) FROM generate_series(1, 140) n`)
	runWith(t, dbURL, "run", "--drain").Succeeds(t)
	testdb.Exec(t, pool, `SELECT count(lastseat.transfer('p' || n, 'bank', 'ada', 1, 'EUR'))
		FROM generate_series(1, 60) n`)
	for status, want := range map[string]int{"": 201, "pending": 60, "applied": 30, "rejected": 111} {
		seen := 0
		for filter, after := (inspect.Filter{Limit: 50}), "first"; after != ""; {
			if status != "" {
				filter.Statuses = []string{status}
			}
			last := int64(math.MaxInt64)
			var err error
			after, err = inspect.ListPage(t.Context(), pool, filter, func(o outbox.Outcome) error {
				if o.JobID >= last {
					t.Errorf("%s comes after an older one", o.Key)
				}
				last = o.JobID
				seen++
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			filter.After = after
		}
		if seen != want {
			t.Errorf("%q: %d are listed, want %d", status, seen, want)
		}
	}
}
