package main

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// answered is an answer of the server.
type answered struct {
	code         int
	header       http.Header
	body         string
	contentType  string
	policyOfPage string
}

// send sends a request with a token, as the user ada.
func send(t *testing.T, method, address, token, body string, headers ...string) answered {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.SetBasicAuth("ada", token)
	}
	for _, header := range append(headers, "Content-Type: application/json") {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	got, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	told, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	media, _, _ := mime.ParseMediaType(got.Header.Get("Content-Type"))
	return answered{got.StatusCode, got.Header, string(told), media, got.Header.Get("Content-Security-Policy")}
}

// jobOf is the job that carries a request.
func jobOf(t *testing.T, pool *pgxpool.Pool, key string) int64 {
	t.Helper()
	return testdb.Scalar[int64](t, pool, `SELECT job_id FROM lastseat.requests WHERE key = $1`, key)
}

// riverState is all that River UI could change, but for the lane's upkeep, which comes when it is due.
func riverState(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return testdb.Scalar[string](t, pool, `SELECT coalesce((SELECT string_agg(j::text, ';' ORDER BY j.id)
		FROM lastseat.river_job j WHERE j.queue <> 'lastseat_upkeep'), '') ||
		coalesce((SELECT string_agg(q.name || q.metadata::text || coalesce(q.paused_at::text, 'runs'), ';' ORDER BY q.name)
			FROM lastseat.river_queue q WHERE q.name <> 'lastseat_upkeep' OR q.paused_at IS NOT NULL), '')`)
}

// riverChanges are what River UI can be asked to change, for a job.
func riverChanges(job int64) [][3]string {
	ids := fmt.Sprintf(`{"ids": ["%d"]}`, job)
	return [][3]string{
		{"POST", "jobs/cancel", ids}, {"POST", "jobs/delete", ids}, {"POST", "jobs/retry", ids},
		{"PUT", "queues/lastseat/pause", ""}, {"PUT", "queues/lastseat/resume", ""},
		{"PATCH", "queues/lastseat", `{"concurrency": null}`}, {"DELETE", "jobs", ids}, {"OPTIONS", "jobs", ""},
	}
}

// Viewers see all of River UI and change nothing by it; strangers and pages of other sites see and change nothing.
func TestViewersOnlyLookByRiverUI(t *testing.T) {
	t.Parallel()
	_, pool, address, _ := pausedWorker(t, "order-1")
	job := jobOf(t, pool, "order-1")
	before := riverState(t, pool)
	for path, want := range map[string]string{
		"":                                "text/html",
		"jobs":                            "text/html",
		"icon.svg":                        "image/svg+xml",
		"apple-icon.png":                  "image/png",
		"api/autocomplete?facet=job_kind": "application/json",
		"api/features":                    "application/json",
		"api/health-checks/minimal":       "application/json",
		"api/jobs?state=available":        "application/json",
		"api/queues":                      "application/json",
		"api/queues/lastseat":             "application/json",
		"api/states":                      "application/json",
		"api/version":                     "application/json",
		fmt.Sprintf("api/jobs/%d", job):   "application/json",
	} {
		if got := send(t, "GET", address+"/river/"+path, "", ""); got.code != 401 {
			t.Errorf("%s without a token: %d", path, got.code)
		}
		got := send(t, "GET", address+"/river/"+path, viewerToken, "")
		if got.code != 200 || got.contentType != want {
			t.Errorf("%s: %d, %s, want %s: %.200s", path, got.code, got.contentType, want, got.body)
		}
		if strings.Contains(got.policyOfPage, "http") || !strings.Contains(got.policyOfPage, "default-src 'none'") {
			t.Errorf("%s may load %s", path, got.policyOfPage)
		}
	}
	for _, c := range riverChanges(job) {
		for token, want := range map[string]int{"": 401, viewerToken: 403} {
			if got := send(t, c[0], address+"/river/api/"+c[1], token, c[2]); got.code != want {
				t.Errorf("%s %s with the token %q: %d, want %d", c[0], c[1], token, got.code, want)
			}
		}
		for _, header := range []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"} {
			if got := send(t, c[0], address+"/river/api/"+c[1], operatorToken, c[2], header); got.code != 403 {
				t.Errorf("%s %s, %s: %d", c[0], c[1], header, got.code)
			}
		}
	}
	if after := riverState(t, pool); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}

// The page of River UI loads what it names, with the types that a browser wants.
func TestRiverUILoadsItsOwn(t *testing.T) {
	t.Parallel()
	_, pool, address, _ := pausedWorker(t, "order-1")
	if got := send(t, "GET", address+"/river", viewerToken, ""); got.header.Get("Location") != "/river/" {
		t.Errorf("/river leads to %q", got.header.Get("Location"))
	}
	page := send(t, "GET", address+"/river/", viewerToken, "")
	for kind, want := range map[string]string{"js": "text/javascript", "css": "text/css", "ico": "image/x-icon"} {
		found := regexp.MustCompile(`(?:src|href)="(/river/[^"]+\.` + kind + `)"`).FindStringSubmatch(page.body)
		if found == nil {
			t.Fatalf("the page names no .%s: %s", kind, page.body)
		}
		if got := send(t, "GET", address+found[1], viewerToken, ""); got.code != 200 || got.contentType != want {
			t.Errorf("%s: %d, %s", found[1], got.code, got.contentType)
		}
	}
	for _, path := range []string{"/river/../", "/river/%2e%2e/change", "/river//api/jobs", "/river/api/..%2f..%2fchange",
		`/river/..\`, "/river/./"} {
		if got := send(t, "GET", address+path, viewerToken, ""); got.code != 404 {
			t.Errorf("%s: %d", path, got.code)
		}
	}
	request := send(t, "GET", address+"/request?key=order-1", viewerToken, "").body
	link := fmt.Sprintf(`href="/river/jobs/%d"`, jobOf(t, pool, "order-1"))
	if !strings.Contains(request, link) || !strings.Contains(request, `href="/river/"`) {
		t.Errorf("the page of a request does not lead to its job: %s", request)
	}
}

// An operator cancels, deletes and pauses by River UI under their name, as far as the database lets the worker.
func TestOperatorsChangeByRiverUI(t *testing.T) {
	t.Parallel()
	_, pool, address, log := pausedWorker(t, "a", "b")
	does := func(method, path, body string, want int) string {
		t.Helper()
		got := send(t, method, address+"/river/api/"+path, operatorToken, body, "Origin: "+address)
		if got.code != want {
			t.Errorf("%s %s: %d, want %d: %s", method, path, got.code, want, got.body)
		}
		return got.body
	}
	a, b := jobOf(t, pool, "a"), jobOf(t, pool, "b")
	ids := func(job int64) string { return fmt.Sprintf(`{"ids": ["%d"]}`, job) }
	if told := does("POST", "jobs/delete", ids(b), 500); !strings.Contains(told, `carries the pending request`) {
		t.Errorf("the operator reads %s", told)
	}
	does("POST", "jobs/cancel", ids(a), 200)
	if code := testdb.Scalar[string](t, pool, `SELECT code FROM lastseat.requests WHERE key = 'a'`); code != "job_cancelled" {
		t.Errorf("a is %s", code)
	}
	does("POST", "jobs/retry", ids(a), 200)
	does("PUT", "queues/lastseat/resume", "", 200)
	are(t, pool, "applied", 2) // the refused deletion has harmed nothing
	does("PUT", "queues/lastseat/pause", "", 200)
	give(t, pool, "c", 100)
	clitest.Eventually(t, "readyz to see the pause", func() bool {
		got := send(t, "GET", address+"/readyz?verbose", viewerToken, "")
		return got.code == 503 && strings.Contains(got.body, "is paused")
	})
	are(t, pool, "pending", 1)
	for _, want := range []string{
		fmt.Sprintf(`level=WARN msg="operator changes a job in River UI" who=ada action=delete job_id=%d key=b`, b),
		fmt.Sprintf(`level=INFO msg="operator changes a job in River UI" who=ada action=cancel job_id=%d key=a`, a),
		fmt.Sprintf(`level=INFO msg="operator changes a job in River UI" who=ada action=retry job_id=%d key=a`, a),
		`msg="operator changes something in River UI" who=ada action="PUT queues/lastseat/pause"`,
		`carries the pending request`,
	} {
		clitest.Eventually(t, "the log to have "+want, func() bool { return strings.Contains(log.String(), want) })
	}
}

// With the arguments hidden, viewers see nothing of River UI, and operators all. It works under a proxy's subpath.
func TestRiverUIWithHiddenArguments(t *testing.T) {
	t.Parallel()
	dbURL := testdb.New(t)
	address, _ := runAdmin(t, "DATABASE_URL="+dbURL, "LASTSEAT_ADMIN_VIEWER_TOKEN="+viewerToken,
		"LASTSEAT_ADMIN_OPERATOR_TOKEN="+operatorToken, "LASTSEAT_ADMIN_HIDE_ARGS=true",
		"LASTSEAT_ADMIN_PROXY_URL=http://127.0.0.1:1/river")
	for _, path := range []string{"/river/", "/river/api/jobs?state=available", "/river/icon.svg"} {
		got := send(t, "GET", address+path, viewerToken, "")
		if got.code != 403 || !strings.Contains(got.body, "hides them from viewers") {
			t.Errorf("%s to a viewer: %d %s", path, got.code, got.body)
		}
		if got := send(t, "GET", address+path, operatorToken, ""); got.code != 200 {
			t.Errorf("%s to an operator: %d %s", path, got.code, got.body)
		}
	}
	if page := send(t, "GET", address+"/river/", operatorToken, "").body; !strings.Contains(page, `"/river/river/api"`) {
		t.Errorf("River UI does not know its subpath: %s", page)
	}
	if page := send(t, "GET", address+"/", viewerToken, "").body; strings.Contains(page, "River UI") {
		t.Error("a viewer is led to River UI")
	}
}

// With the arguments hidden, the page of a request tells a viewer neither the arguments nor what repeats them: no text
// of an error, and not which row is locked. An operator sees it all.
func TestRequestPageWithHiddenArguments(t *testing.T) {
	t.Parallel()
	dbURL := testdb.New(t)
	pool := open(t, dbURL)
	runWith(t, dbURL, "run", "--drain").Succeeds(t)
	runWith(t, dbURL, "pause").Succeeds(t)
	give(t, pool, "order-1", 100)
	testdb.Exec(t, pool, `UPDATE lastseat.river_job SET errors = ARRAY['{"error": "no card 4242"}'::jsonb]`)
	address, _ := runAdmin(t, "DATABASE_URL="+dbURL, "LASTSEAT_ADMIN_VIEWER_TOKEN="+viewerToken,
		"LASTSEAT_ADMIN_OPERATOR_TOKEN="+operatorToken, "LASTSEAT_ADMIN_HIDE_ARGS=true")
	locker, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = locker.Rollback(t.Context()) }()
	if _, err := locker.Exec(t.Context(), `SELECT FROM lastseat.accounts WHERE id = 'ada' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	for token, sees := range map[string]bool{viewerToken: false, operatorToken: true} {
		page := send(t, "GET", address+"/request?key=order-1", token, "").body
		if !strings.Contains(page, "Attempt 1 of ") || !strings.Contains(page, "has locked") {
			t.Errorf("the page does not say why: %s", page)
		}
		for _, argument := range []string{"4242", "ada", "Arguments", "amount"} {
			if strings.Contains(page, argument) != sees {
				t.Errorf("%s sees %s: %t, want %t: %s", token, argument, !sees, sees, page)
			}
		}
	}
}
