package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Finding is what an examination has found.
type Finding struct {
	Check    string
	Severity string // ok, note, warning, wrong
	Told     string
	Do       string // what to type or to change
}

// wrong is the severity of what keeps requests from being settled.
const wrong = "wrong"

// readiness is what the last examination has found. It is asked for again when it is older than it may be, by one
// request at a time: so strangers can't have the database examined as often as they like.
type readiness struct {
	examine func(context.Context) ([]Finding, error)

	mu       sync.Mutex
	at       time.Time
	findings []Finding
	err      error
}

const (
	readyFor     = 5 * time.Second
	examineLimit = 40 * time.Second
)

// get returns what the last examination has found. It outlives the request that asks for it: another one waits for it.
func (r *readiness) get(ctx context.Context) ([]Finding, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at.IsZero() || time.Since(r.at) > readyFor {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), examineLimit)
		defer cancel()
		r.findings, r.err = r.examine(ctx)
		r.at = time.Now()
	}
	return r.findings, r.err
}

func livez(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") }

// readyz says whether requests are being settled, and to viewers why not.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	verbose := r.URL.Query().Has("verbose")
	if verbose && s.guard.role(r) < viewer {
		askForToken(w)
		return
	}
	findings, err := s.ready.get(r.Context())
	code, told := http.StatusOK, "ok"
	if err != nil {
		code, told = http.StatusServiceUnavailable, "not ready"
	}
	var all strings.Builder
	for _, f := range findings {
		if f.Severity == wrong {
			code, told = http.StatusServiceUnavailable, "not ready"
		}
		fmt.Fprintf(&all, "%-8s %-13s %s\n", f.Severity, f.Check, f.Told)
		if f.Do != "" {
			fmt.Fprintf(&all, "%23s-> %s\n", "", f.Do)
		}
	}
	if err != nil {
		fmt.Fprintf(&all, "%-8s %-13s %v\n", wrong, "connection", err)
	}
	if verbose {
		told = all.String() + told
	}
	text(w, code, told+"\n")
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"version": s.options.Version, "go": runtime.Version()})
}

func text(w http.ResponseWriter, code int, told string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(told))
}
