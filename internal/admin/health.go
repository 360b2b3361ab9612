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

// wrong is the severity of what keeps requests from being settled, fine that of what is as it should be.
const (
	wrong = "wrong"
	fine  = "ok"
)

// readiness is what the last examination has found. It is asked for again when it is older than it may be, by one
// request at a time: so strangers can't have the database examined as often as they like.
type readiness struct {
	examine func(context.Context) ([]Finding, error)

	examining sync.Mutex
	wanted    chan struct{} // a page wants an examination that it does not wait for

	mu   sync.Mutex
	last examination
	next chan struct{} // closed at the end of the next examination
}

// examination is what was found at a time; zero: nobody has examined yet.
type examination struct {
	At       time.Time
	Findings []Finding
	err      error
}

const (
	readyFor     = 5 * time.Second
	examineLimit = 40 * time.Second
	tooOld       = time.Minute // for a page to show
	glanceLimit  = time.Second // how long a page waits that has nothing to show
)

func newReadiness(examine func(context.Context) ([]Finding, error)) *readiness {
	return &readiness{examine: examine, wanted: make(chan struct{}, 1), next: make(chan struct{})}
}

func (r *readiness) latest() (last examination, next chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.next
}

// get returns what an examination has found that is at most as old as it may be. It outlives the request that asks for
// it: another one waits for it.
func (r *readiness) get(ctx context.Context) ([]Finding, error) {
	r.examining.Lock()
	defer r.examining.Unlock()
	last, next := r.latest()
	if last.At.IsZero() || time.Since(last.At) > readyFor {
		ctx, cancel := context.WithTimeout(ctx, examineLimit)
		defer cancel()
		last.Findings, last.err = r.examine(ctx)
		last.At = time.Now()
		r.mu.Lock()
		r.last, r.next = last, make(chan struct{})
		r.mu.Unlock()
		close(next)
	}
	return last.Findings, last.err
}

// glance returns what was found last, and has the database examined again if that is not new. An examination may take
// its time, and a page should not: it waits a moment only if there is nothing to show.
func (r *readiness) glance(ctx context.Context) examination {
	last, next := r.latest()
	age := time.Since(last.At)
	if age > readyFor {
		select {
		case r.wanted <- struct{}{}:
		default: // somebody wants it already
		}
	}
	if age <= tooOld {
		return last
	}
	ctx, cancel := context.WithTimeout(ctx, glanceLimit)
	defer cancel()
	select {
	case <-next:
		last, _ = r.latest()
		return last
	case <-ctx.Done():
		return examination{}
	}
}

// run examines for pages until ctx is done.
func (r *readiness) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wanted:
			_, _ = r.get(ctx) // glance has the error
		}
	}
}

func livez(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") }

// readyz says whether requests are being settled, and to viewers why not.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	verbose := r.URL.Query().Has("verbose")
	if verbose && s.guard.role(r) < viewer {
		askForToken(w)
		return
	}
	findings, err := s.ready.get(context.WithoutCancel(r.Context()))
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
