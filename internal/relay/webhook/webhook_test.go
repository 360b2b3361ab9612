package webhook_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/relaytest"
	"github.com/lastseat/lastseat/internal/relay/webhook"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

// event is one that needs no database.
func event(key string) relay.Event {
	now := time.Now().UTC()
	return relay.Event{ID: "lastseat:shop:0a1b2c3d4e5f.7.1." + key, Cursor: key, Body: []byte(`{"key":"` + key + `"}`),
		Outcome: outbox.Outcome{Key: key, Kind: "toy", Status: outbox.Applied, Code: "done", SettledAt: &now}}
}

func events(n int) (all []relay.Event) {
	for i := range n {
		all = append(all, event(fmt.Sprint(i+1)))
	}
	return all
}

func open(t *testing.T, text string) *webhook.Sink {
	t.Helper()
	targets, err := relay.ParseTargets(text)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := webhook.New(targets[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sink.Close)
	return sink
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// The library of Standard Webhooks takes what is sent, with the old secret and the new one, and no other.
func TestSignature(t *testing.T) {
	t.Parallel()
	secrets := []string{
		"whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xfb\xff", 16))),
		webhook.NewSecret(),
	}
	if !strings.Contains(secrets[0], "+") || !strings.Contains(secrets[0], "/") {
		t.Fatalf("%q does not try the characters that a URL knows", secrets[0])
	}
	var seen atomic.Int32
	at := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for _, secret := range append(secrets, webhook.NewSecret()) {
			verifier, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			known := secret == secrets[0] || secret == secrets[1]
			if err := verifier.Verify(body, r.Header); (err == nil) != known {
				t.Errorf("a secret that is ours (%t): %v", known, err)
			}
			if err := verifier.Verify(append(body, ' '), r.Header); err == nil {
				t.Error("another body is accepted")
			}
		}
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p@" || r.URL.RawQuery != "tenant=7" ||
			r.Method != http.MethodPost ||
			r.Header.Get("Content-Type") != "application/cloudevents+json; charset=utf-8" ||
			r.Header.Get("webhook-id") != "lastseat:shop:0a1b2c3d4e5f.7.1.1" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		seen.Add(1)
	})
	sink := open(
		t,
		strings.Replace(at, "//", "//u:p%40@", 1)+"/hooks?tenant=7#allow=private&secret="+secrets[0]+"&secret="+secrets[1],
	)
	if n, err := sink.Deliver(t.Context(), "", events(1)); n != 1 || err != nil || seen.Load() != 1 {
		t.Errorf("%d delivered, %v", n, err)
	}
}

// What an endpoint may answer, and what comes of it.
func TestAnswers(t *testing.T) {
	t.Parallel()
	secret := webhook.NewSecret()
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) {})
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		options string
		says    string // empty: delivered
		gone    bool
		later   time.Duration
	}{
		"200":              {answer: func(http.ResponseWriter, *http.Request) {}},
		"204":              {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }},
		"200 with garbage": {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }},
		"400": {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) },
			says: "it answers 400 Bad Request"},
		"500": {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
			says: "it answers 500 "},
		"410": {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }, says: "410 Gone",
			gone: true},
		"503, later": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "90")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, says: "503", later: 90 * time.Second},
		"redirect": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere, http.StatusPermanentRedirect)
		}, says: "a redirect, which is not followed"},
		"redirect, followed": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere, http.StatusPermanentRedirect)
		}, options: "&redirects=follow"},
		"redirect that makes a GET": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere, http.StatusFound)
		}, options: "&redirects=follow", says: "a redirect that makes a GET"},
		"never": {answer: func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the client is gone
			<-r.Context().Done()
		}, options: "&timeout=200ms", says: "no answer within 200ms"},
		"a body without end": {answer: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 1000))
			}
		}},
		"headers without end": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
		}, says: "server response headers exceeded"},
		"a cut": {answer: func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
			}
			_ = conn.Close()
		}, says: "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := open(t, serve(t, c.answer)+"/hunter2?token=hunter2#allow=private&secret="+secret+c.options)
			n, err := sink.Deliver(t.Context(), "", events(1))
			gone, later := (*relay.GoneError)(nil), (*relay.LaterError)(nil)
			if (err == nil) != (c.says == "") || (n == 1) != (c.says == "") || errors.As(err, &gone) != c.gone ||
				errors.As(err, &later) != (c.later > 0) {
				t.Errorf("%d delivered, %v", n, err)
			}
			if later != nil && later.After != c.later {
				t.Errorf("later is %v", later.After)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("it says %q, want %q and no secret", err, c.says)
			}
		})
	}
}

// Addresses within reach of the worker only are refused: named as such, found out by DNS, and reached by a redirect.
func TestPrivateAddresses(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	at := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	parsed, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{
		parsed.Host, "localhost:" + parsed.Port(), "[::1]:" + parsed.Port(), "[::ffff:127.0.0.1]:" + parsed.Port(),
		"0.0.0.0:" + parsed.Port(), "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "[fe80::1]", "[fd00::1]",
		"100.64.0.1", "224.0.0.1", "255.255.255.255", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "198.18.0.1", "[::]",
		"2130706433", "127.1",
	} {
		sink := open(t, "https://"+host+"/#timeout=2s&secret="+webhook.NewSecret())
		n, err := sink.Deliver(t.Context(), "", events(1))
		if n != 0 || err == nil ||
			!strings.Contains(err.Error(), "is private") && !strings.Contains(err.Error(), "no such host") {
			t.Errorf("%s: %d delivered, %v", host, n, err)
		}
	}
	if reached.Load() != 0 {
		t.Errorf("%d requests arrived", reached.Load())
	}
	// The check looks at what is dialed, wherever the name came from: a server that redirects is a name as well.
	lookedAt := make(chan string, 1)
	dialer := net.Dialer{Control: webhook.RefusePrivate}
	if _, err := dialer.DialContext(t.Context(), "tcp", parsed.Host); err == nil {
		t.Error("a private address is dialed")
	} else {
		lookedAt <- err.Error()
	}
	if said := <-lookedAt; !strings.Contains(said, "127.0.0.1 is private") {
		t.Errorf("it says %q", said)
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	secret := webhook.NewSecret()
	for text, says := range map[string]string{
		"https://shop.example#secret=" + secret:                                                   "",
		"https://shop.example#secret=" + secret + "&secret=" + secret:                             "",
		"https://shop.example":                                                                    "has one secret",
		"https://shop.example#secret=" + secret + "&secret=" + secret + "&secret=" + secret:       "has one secret",
		"https://shop.example#secret=hunter2":                                                     "a secret is whsec_",
		"https://shop.example#secret=whsec_aHVudGVyMg==":                                          "a secret is whsec_",
		"http://shop.example#secret=" + secret:                                                    "in the clear",
		"http://shop.example#allow=private&secret=" + secret:                                      "",
		"https://shop.example#allow=all&secret=" + secret:                                         `allow is "private"`,
		"https://shop.example#redirects=1&secret=" + secret:                                       `redirects is "follow"`,
		"https://shop.example#timeout=1&secret=" + secret:                                         "timeout is a duration",
		"https://shop.example#give_up=-1s&secret=" + secret:                                       "give_up is a duration",
		"https://shop.example#timeout=1s&give_up=72h&redirects=follow&name=shop&secret=" + secret: "",
	} {
		targets, err := relay.ParseTargets(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = webhook.New(targets[0])
		if (err == nil) != (says == "") ||
			err != nil && (!strings.Contains(err.Error(), says) || strings.Contains(err.Error(), secret)) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

// The whole way: an endpoint that fails now and then, with a consumer behind it that looks at webhook-id.
func TestEndpointThatFails(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	b.Settle(100)
	var consumer relaytest.Consumer
	var requests atomic.Int32
	at := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch requests.Add(1) % 7 {
		case 3: // before the effect
			w.WriteHeader(http.StatusInternalServerError)
		case 5: // after it
			consumer.Take(r.Header.Get("webhook-id"))
			w.WriteHeader(http.StatusInternalServerError)
		default:
			consumer.Take(r.Header.Get("webhook-id"))
		}
	})
	targets, err := relay.ParseTargets(at + "#name=shop&allow=private&secret=" + webhook.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	sink, err := webhook.New(targets[0])
	if err != nil {
		t.Fatal(err)
	}
	for failures := 0; ; failures++ {
		group := relaytest.Group(b)
		group.Add(targets[0], sink)
		if err = group.Drain(context.WithoutCancel(t.Context())); err == nil {
			break
		}
		if failures > 100 || !strings.Contains(err.Error(), "500") {
			t.Fatal(err)
		}
	}
	consumer.Proves(t, b.Feed())
	if _, repeats := consumer.Count(); repeats == 0 {
		t.Error("no outcome came twice: the test has not tried it")
	}
	clitest.Eventually(t, "the lag to be nothing", func() bool {
		all, err := relay.List(t.Context(), b.Pool)
		return err == nil && all[0].Lag.Outcomes == 0
	})
}
