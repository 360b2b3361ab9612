package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/config"
)

// River UI has no login. Whatever a page of another site can make a browser send must not reach it.
func TestGuardUI(t *testing.T) {
	t.Parallel()
	const here, json = "127.0.0.1:8080", "application/json"
	for name, c := range map[string]struct {
		method, host, origin, site, media string
		code                              int
	}{
		"a page":                        {"GET", here, "", "", "", 200},
		"typed into the address bar":    {"GET", "localhost:8080", "", "none", "", 200},
		"IPv6":                          {"GET", "[::1]:8080", "", "", "", 200},
		"its own script":                {"POST", here, "http://" + here, "same-origin", json, 200},
		"its own script, with charset":  {"POST", here, "http://" + here, "", json + "; charset=utf-8", 200},
		"no browser":                    {"POST", here, "", "", json, 200},
		"a name that leads here":        {"GET", "evil.example:8080", "", "", "", 421},
		"a name that looks like here":   {"GET", "127.0.0.1.evil.example", "", "", "", 421},
		"no host":                       {"GET", "", "", "", "", 421},
		"a script of another site":      {"POST", here, "https://evil.example", "", json, 403},
		"an image of another site":      {"GET", here, "", "cross-site", "", 403},
		"a page of another port":        {"POST", here, "http://127.0.0.1:9999", "", json, 403},
		"the same site, another port":   {"POST", here, "", "same-site", json, 403},
		"the other name of the machine": {"POST", here, "http://localhost:8080", "", json, 403},
		"a sandboxed frame":             {"POST", here, "null", "", json, 403},
		"JSON as text":                  {"POST", here, "", "", "text/plain", 415},
		"JSON as text that says JSON":   {"POST", here, "", "", "text/plain; application/json", 415},
		"a form":                        {"POST", here, "", "", "application/x-www-form-urlencoded", 415},
		"no type":                       {"POST", here, "", "", "", 415},
		"a form that deletes":           {"DELETE", here, "", "", "", 415},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reached := false
			guarded := guardUI(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
			r := httptest.NewRequestWithContext(t.Context(), c.method, "/api/jobs/cancel", strings.NewReader(`{"ids":["1"]}`))
			r.Host = c.host
			for header, value := range map[string]string{
				"Origin": c.origin, "Sec-Fetch-Site": c.site, "Content-Type": c.media,
			} {
				if value != "" {
					r.Header.Set(header, value)
				}
			}
			answer := httptest.NewRecorder()
			guarded.ServeHTTP(answer, r)
			if answer.Code != c.code || reached != (c.code == http.StatusOK) {
				t.Errorf("%d, want %d; River UI was reached: %t", answer.Code, c.code, reached)
			}
		})
	}
}

// The card processor of worker dev has no login either.
func TestProcessorIsGuarded(t *testing.T) {
	t.Parallel()
	f := fakeProcessor{address: "127.0.0.1:0"}
	listener, err := f.listen(t.Context(), &config.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.serve(ctx, listener, io.Discard, slog.New(slog.DiscardHandler)) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for name, c := range map[string]struct {
		host, origin string
		code         int
	}{
		"curl":                     {"", "", http.StatusNoContent},
		"a script of another site": {"", "https://evil.example", http.StatusForbidden},
		"a name that leads here":   {"evil.example", "", http.StatusMisdirectedRequest},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+listener.Addr().String()+"/_fake/faults",
			strings.NewReader(`{"fault": "error_after"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = c.host
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl -d says
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != c.code {
			t.Errorf("%s: %d, want %d", name, answer.StatusCode, c.code)
		}
	}
}
