package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"net/http"
	"net/url"
	"regexp"
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
func post(t *testing.T, address, token string, form url.Values, headers ...string) (code int, body string) {
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
	defer func() { _ = answer.Body.Close() }()
	told, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(told)
}

// confirm sends the form by which an operator says yes to what a page has asked.
func confirm(t *testing.T, address, page string) (code int, body string) {
	t.Helper()
	form := url.Values{}
	asks := regexp.MustCompile(`(?s)<form method="post" action="/change">.*?</form>`).FindString(page)
	for _, field := range regexp.MustCompile(`name="(\w+)" value="([^"]*)"`).FindAllStringSubmatch(asks, -1) {
		form.Add(field[1], html.UnescapeString(field[2]))
	}
	if !form.Has("yes") {
		t.Fatalf("the page does not ask: %s", page)
	}
	return post(t, address+"/change", operatorToken, form)
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
		"/":          {200, []string{"settled a second", "What the doctor finds", "transferred", "process ", "in the last hour"}},
		"/live.js":   {200, []string{"new EventSource"}},
		"/?refresh":  {200, []string{`http-equiv="refresh"`}},
		"/style.css": {200, []string{"prefers-color-scheme: dark"}},
		"/request?key=" + url.QueryEscape(odd): {200, []string{"order 7 &amp; &lt;b&gt;", "payment.transfer",
			"<strong>applied</strong>", "1250 EUR", `account?id=bank`, "worker explain"}},
		"/request?key=wait":          {200, []string{"What it is about", `reservation?id=late`}},
		"/request?key=authorize":     {200, []string{"What it is about", `payment?id=pay-1`}},
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
		body = strings.Replace(body, `<script src="/live.js" data-from="/live" defer></script>`, "", 1)
		if strings.Contains(body, "<b>") || strings.Contains(body, "<script") {
			t.Errorf("%s has what a key said as its own: %s", path, body)
		}
	}
}

// pausedWorker has a database with a paused queue and pending requests, and a worker whose login has no more rights
// than lastseat_worker, with its server.
func pausedWorker(
	t *testing.T, keys ...string,
) (dbURL string, pool *pgxpool.Pool, address string, log *clitest.Buffer) {
	t.Helper()
	dbURL = testdb.New(t)
	pool = open(t, dbURL)
	runWith(t, dbURL, "run", "--drain").Succeeds(t) // the queue is known from then on
	runWith(t, dbURL, "pause").Succeeds(t)
	for _, key := range keys {
		give(t, pool, key, 100)
	}
	address, log = runAdmin(t, "DATABASE_URL="+testdb.As(t, pool, "lastseat_worker"),
		"LASTSEAT_ADMIN_VIEWER_TOKEN="+viewerToken, "LASTSEAT_ADMIN_OPERATOR_TOKEN="+operatorToken)
	return dbURL, pool, address, log
}

// are waits until so many requests have a status.
func are(t *testing.T, pool *pgxpool.Pool, status string, want int) {
	t.Helper()
	clitest.Eventually(t, fmt.Sprintf("%d requests to be %s", want, status), func() bool {
		return want == testdb.Scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests WHERE status = $1`, status)
	})
}

// An operator runs failed requests again and cancels pending ones, one, many or all, under their name, and is asked
// first. A viewer, a stranger and a page of another site don't. The worker's login has the rights of lastseat_worker.
func TestOnlyOperatorsChangeRequests(t *testing.T) {
	t.Parallel()
	dbURL, pool, address, log := pausedWorker(t, "a", "b", "c & d")
	change := func(token string, want int, form url.Values, headers ...string) (body string) {
		t.Helper()
		code, body := post(t, address+"/change", token, form, headers...)
		if code != want {
			t.Errorf("%v: %d, want %d: %s", form, code, want, body)
		}
		return body
	}
	one := url.Values{"action": {"cancel"}, "key": {"a"}, "yes": {"yes"}}
	change("", 401, one)
	change(viewerToken, 403, one)
	change(operatorToken, 403, one, "Origin: https://evil.example")
	change(operatorToken, 200, url.Values{"action": {"cancel"}, "all": {"all"}}) // is asked
	change(operatorToken, 400, url.Values{"action": {"delete"}, "key": {"a"}, "yes": {"yes"}})
	change(operatorToken, 400, url.Values{"action": {"cancel"}, "yes": {"yes"}})
	change(operatorToken, 400, url.Values{"action": {"cancel"}, "all": {"all"}, "yes": {"yes"}}) // to nothing
	change(operatorToken, 404, url.Values{"action": {"cancel"}, "key": {"\x00"}})
	are(t, pool, "pending", 3)
	change(operatorToken, 200, one, "Origin: "+address)
	are(t, pool, "failed", 1)
	change(operatorToken, 409, one)
	confirm(t, address, change(operatorToken, 200, url.Values{"action": {"cancel"}, "all": {"all"}}))
	are(t, pool, "failed", 3)
	runWith(t, dbURL, "resume").Succeeds(t)
	change(operatorToken, 200, url.Values{"action": {"retry"}, "key": {"a", "b"}, "yes": {"yes"}})
	are(t, pool, "applied", 2)
	none := url.Values{"action": {"retry"}, "all": {"all"}, "kind": {"payment.void"}}
	if body := change(operatorToken, 200, none); strings.Contains(body, "<button>Run") {
		t.Errorf("a button for nothing: %s", body)
	}
	all := url.Values{"action": {"retry"}, "all": {"all"}, "kind": {"payment.transfer"}}
	confirm(t, address, change(operatorToken, 200, all))
	are(t, pool, "applied", 3)
	change(operatorToken, 409, url.Values{"action": {"retry"}, "key": {"a"}, "yes": {"yes"}})
	for _, word := range []string{"who=ada action=cancel key=a ", "who=ada action=retry key=b ", `key="c & d"`} {
		if !strings.Contains(log.String(), word) {
			t.Errorf("the log does not say %s: %s", word, log.String())
		}
	}
}

// All are those that the operator was asked about: not what came after the question, whatever its time says, and not
// what has become like them since. What is gone by then, and a key that was ticked and is gone, is told.
func TestAllAreThoseThatWereConfirmed(t *testing.T) {
	t.Parallel()
	_, pool, address, _ := pausedWorker(t, "a", "b", "again")
	change := func(want int, form url.Values) (body string) {
		t.Helper()
		code, body := post(t, address+"/change", operatorToken, form)
		if code != want {
			t.Errorf("%v: %d, want %d: %s", form, code, want, body)
		}
		return body
	}
	says := func(body, word string) {
		t.Helper()
		if !strings.Contains(body, word) {
			t.Errorf("the page does not say %q: %s", word, body)
		}
	}
	late, err := pool.Begin(t.Context()) // before the question, and commits after it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = late.Rollback(t.Context()) }()
	if _, err := late.Exec(t.Context(), `SELECT lastseat.transfer('late', 'bank', 'ada', 1, 'EUR')`); err != nil {
		t.Fatal(err)
	}
	change(200, url.Values{"action": {"cancel"}, "key": {"again"}, "yes": {"yes"}})
	asked := change(200, url.Values{"action": {"cancel"}, "all": {"all"}})
	says(asked, "2 pending requests are to be cancelled")
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	change(200, url.Values{"action": {"retry"}, "key": {"again"}, "yes": {"yes"}})
	change(409, url.Values{"action": {"retry"}, "key": {"again"}, "yes": {"yes"}}) // it waits already
	change(200, url.Values{"action": {"cancel"}, "key": {"a"}, "yes": {"yes"}})
	code, done := confirm(t, address, asked)
	if code != 200 {
		t.Errorf("%d: %s", code, done)
	}
	says(done, "Cancelled: 1. Refused: 1.")
	says(done, `key=a">a</a>: it does not wait any more`)
	are(t, pool, "pending", 2)
	for _, key := range []string{"again", "late"} {
		status := testdb.Scalar[string](t, pool, `SELECT status FROM lastseat.requests WHERE key = $1`, key)
		if status != "pending" {
			t.Errorf("%s is %s", key, status)
		}
	}
	asked = change(200, url.Values{"action": {"retry"}, "key": {"a", "no more"}})
	says(asked, "No request has this key:</p><ul><li>no more</li>")
	says(asked, "1 failed request is")
	says(change(200, url.Values{"action": {"retry"}, "key": {"a", "no more"}, "yes": {"yes"}}),
		`no more</a>: no request has this key`)
	asked = change(200, url.Values{"action": {"retry"}, "all": {"all"}})
	says(asked, "1 failed request is")
	testdb.Exec(t, pool, `DELETE FROM lastseat.river_job WHERE args ->> 'key' = 'b'`)
	_, done = confirm(t, address, asked)
	says(done, "The jobs of 1 more are gone")
	says(change(200, url.Values{"action": {"retry"}, "all": {"all"}}), "1 more can't be run again")
}

// At most 1,000 are changed at a time; the page says so, and goes on with those that come after them.
func TestAllGoOn(t *testing.T) {
	t.Parallel()
	_, pool, address, _ := pausedWorker(t)
	testdb.Exec(t, pool, `SELECT count(lastseat.transfer('k' || n, 'bank', 'ada', 1, 'EUR'))
		FROM generate_series(1, 1003) n`)
	_, asked := post(t, address+"/change", operatorToken, url.Values{"action": {"cancel"}, "all": {"all"}})
	if !strings.Contains(asked, "at most 1,000 are changed at a time") || !strings.Contains(asked, "1000 pending") {
		t.Fatalf("the page does not say that there are more: %s", asked)
	}
	next := regexp.MustCompile(`name="after" value="([^"]+)"`).FindStringSubmatch(asked)
	if next == nil {
		t.Fatalf("the page does not go on: %s", asked)
	}
	_, asked = post(t, address+"/change", operatorToken,
		url.Values{"action": {"cancel"}, "all": {"all"}, "after": {next[1]}})
	if !strings.Contains(asked, "3 pending requests") || strings.Contains(asked, `name="after"`) {
		t.Fatalf("not the last three: %s", asked)
	}
	confirm(t, address, asked)
	are(t, pool, "failed", 3)
	key := testdb.Scalar[string](t, pool, `SELECT max(key) FROM lastseat.requests WHERE status = 'failed'`)
	if key != "k3" {
		t.Errorf("%s is cancelled, want the oldest", key)
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
		for filter, after := (inspect.Filter{Limit: 50, Look: 30}), "first"; after != ""; {
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
