package webhooks

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/httplimit"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/stripe"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

const (
	secret = "whsec_of_the_test"
	event  = `{"id":"evt_1","type":"payment_intent.succeeded","created":1,"data":{"object":{"object":"balance"}}}`
)

// endpoint is a server and its database, in which whatever was taken in leaves a row in the table did.
type endpoint struct {
	*Server
	pool *pgxpool.Pool
	stop func() // and wait until it has
	log  *clitest.Buffer
	take func(ctx context.Context, tx pgx.Tx) error
}

func open(t *testing.T) *endpoint {
	t.Helper()
	e := &endpoint{pool: testdb.Pool(t, testdb.New(t)), log: &clitest.Buffer{}}
	testdb.Exec(t, e.pool, `CREATE TABLE did (id text)`)
	e.take = func(context.Context, pgx.Tx) error { return nil }
	verify, err := stripe.Webhooks(secret)
	if err != nil {
		t.Fatal(err)
	}
	e.Server, err = Listen(t.Context(), "127.0.0.1:0", processor.Receiver{
		Source: "stripe", Verify: verify, DB: e.pool, Logger: slog.New(slog.NewTextHandler(e.log, nil)),
		Take: func(ctx context.Context, tx pgx.Tx, event processor.Event) error {
			_, err := tx.Exec(ctx, `INSERT INTO did VALUES ($1)`, event.ID)
			return errors.Join(err, e.take(ctx, tx))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// serve has it answer.
func (e *endpoint) serve(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- e.Serve(ctx, clitest.Patience) }()
	stopped := false
	e.stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(e.stop)
}

func (e *endpoint) wantTaken(t *testing.T, want int) {
	t.Helper()
	for _, table := range []string{"did", "lastseat.taken_events"} {
		if got := testdb.Scalar[int](t, e.pool, `SELECT count(*)::int FROM `+table); got != want {
			t.Errorf("%s has %d rows, want %d", table, got, want)
		}
	}
}

func send(t *testing.T, method, url, body, signature string) (status int, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Stripe-Signature", signature)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

func signed(body string) string { return fakestripe.Signature(secret, time.Now(), []byte(body)) }

func (e *endpoint) post(t *testing.T, want int) {
	t.Helper()
	if status, err := send(t, http.MethodPost, e.URL()+"/webhooks/stripe", event, signed(event)); status != want {
		t.Errorf("%d, %v, want %d", status, err, want)
	}
}

func TestTakenOnce(t *testing.T) {
	t.Parallel()
	e := open(t)
	e.serve(t)
	for range 3 {
		e.post(t, http.StatusOK)
	}
	e.wantTaken(t, 1)
}

func TestRefused(t *testing.T) {
	t.Parallel()
	e := open(t)
	e.serve(t)
	at := func(when time.Duration, with string) string {
		return fakestripe.Signature(with, time.Now().Add(when), []byte(event))
	}
	large := `{"id":"evt_2","type":"x","pad":"` + strings.Repeat(" ", 1<<20) + `"}`
	const path = "/webhooks/stripe"
	for name, c := range map[string]struct {
		method, path, body, signature string
		want                          int
	}{
		"another secret":     {"POST", path, event, at(0, "whsec_of_another"), 400},
		"old":                {"POST", path, event, at(-time.Hour, secret), 400},
		"of the future":      {"POST", path, event, at(time.Hour, secret), 400},
		"none":               {"POST", path, event, "", 400},
		"another raw body":   {"POST", path, event + "\n", at(0, secret), 400},
		"too large":          {"POST", path, large, signed(large), 413},
		"a large header":     {"POST", path, event, strings.Repeat("x", 64<<10), 431},
		"no path":            {"POST", "/", event, at(0, secret), 404},
		"another processor":  {"POST", "/webhooks/other", event, at(0, secret), 404},
		"below the path":     {"POST", path + "/x", event, at(0, secret), 404},
		"no POST":            {"GET", path, "", "", 405},
		"a PUT that is good": {"PUT", path, event, at(0, secret), 405},
	} {
		if got, err := send(t, c.method, e.URL()+c.path, c.body, c.signature); got != c.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, c.want)
		}
	}
	e.wantTaken(t, 0)
	if lines := strings.Count(e.log.String(), "a webhook was not taken in"); lines != 1 {
		t.Errorf("strangers fill the log: %d lines: %s", lines, e.log.String())
	}
	e.post(t, http.StatusOK)
}

// TestAfterCommit: what fails at COMMIT was not taken in, and neither is what comes while the database is away.
func TestAfterCommit(t *testing.T) {
	t.Parallel()
	e := open(t)
	testdb.Exec(t, e.pool, `CREATE TABLE parent (id int PRIMARY KEY);
		CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)`)
	e.serve(t)
	e.take = func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO child VALUES (1)`)
		return err
	}
	e.post(t, http.StatusInternalServerError)
	e.wantTaken(t, 0)
	testdb.Exec(t, e.pool, `INSERT INTO parent VALUES (1)`)
	e.post(t, http.StatusOK)
	e.wantTaken(t, 1)
	e.pool.Close()
	e.post(t, http.StatusInternalServerError)
}

// TestSlowClient: who does not end a header or a body is cut off.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	e := open(t)
	for name, limit := range map[string]*time.Duration{
		"header": &e.http.ReadHeaderTimeout, "request": &e.http.ReadTimeout, "answer": &e.http.WriteTimeout,
	} {
		if *limit <= 0 || *limit > time.Minute {
			t.Errorf("the limit of the time of a %s is %v", name, *limit)
		}
	}
	e.http.ReadHeaderTimeout, e.http.ReadTimeout = 200*time.Millisecond, 200*time.Millisecond
	e.serve(t)
	for _, begun := range []string{
		"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nX-A",
		"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nStripe-Signature: t=1,v1=00\r\n\r\n{",
	} {
		c := e.dial(t)
		if _, err := io.WriteString(c, begun); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(clitest.Patience)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil || strings.Contains(string(answer), " 200 ") {
			t.Errorf("it is not cut off after %q: %s, %v", begun, answer, err)
		}
	}
}

func (e *endpoint) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// hold has the next webhook stop in its transaction. It is there when this returns, and goes on when goOn is closed.
func (e *endpoint) hold(t *testing.T) (answered chan int, goOn chan struct{}) {
	t.Helper()
	begun, goOn := make(chan struct{}), make(chan struct{})
	e.take = func(context.Context, pgx.Tx) error {
		close(begun)
		<-goOn
		return nil
	}
	answered = make(chan int, 1)
	go func() {
		status, _ := send(t, http.MethodPost, e.URL()+"/webhooks/stripe", event, signed(event))
		answered <- status
	}()
	<-begun
	return answered, goOn
}

// TestStrangers push out each other, and no webhook whose signature is proven.
func TestStrangers(t *testing.T) {
	t.Parallel()
	e := open(t)
	e.serve(t)
	answered, goOn := e.hold(t)
	for range 2 * httplimit.MostConnections {
		e.dial(t)
	}
	limited, _ := e.ln.(*httplimit.Limiter)
	clitest.Eventually(t, "strangers to take all connections", func() bool {
		all, _ := limited.Open()
		return all == httplimit.MostConnections
	})
	close(goOn)
	if status := <-answered; status != http.StatusOK {
		t.Errorf("%d", status)
	}
	e.wantTaken(t, 1)
}

// TestStops: the webhook in hand is taken in, and no other is.
func TestStops(t *testing.T) {
	t.Parallel()
	e := open(t)
	e.serve(t)
	answered, goOn := e.hold(t)
	stopped := make(chan struct{})
	go func() { defer close(stopped); e.stop() }()
	clitest.Eventually(t, "the server to take no more", func() bool {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.ln.Addr().String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(goOn)
	if status := <-answered; status != http.StatusOK {
		t.Errorf("%d", status)
	}
	<-stopped
	e.wantTaken(t, 1)
}

// TestAddress: without a host it is this machine's.
func TestAddress(t *testing.T) {
	t.Parallel()
	server, err := Listen(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.ln.Close() }()
	if !strings.HasPrefix(server.URL(), "http://127.0.0.1:") {
		t.Errorf("it listens at %s", server.URL())
	}
	if second, err := Listen(t.Context(), server.ln.Addr().String()); err == nil ||
		!strings.Contains(err.Error(), "LASTSEAT_WEBHOOK_ADDR") {
		t.Errorf("one address, two servers: %v, %v", second, err)
	}
}

// TestLeftOut: the number of refusals that the log leaves out is in the next one.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	var r refusals
	now := time.Now()
	for i, c := range []struct {
		after time.Duration
		out   int
		pass  bool
	}{{0, 0, true}, {time.Second, 0, false}, {59 * time.Second, 0, false}, {time.Minute, 2, true},
		{2 * time.Minute, 0, true}} {
		if out, pass := r.pass(now.Add(c.after)); out != c.out || pass != c.pass {
			t.Errorf("%d: %d, %v", i, out, pass)
		}
	}
}
