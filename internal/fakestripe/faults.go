package fakestripe

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// FaultKind says how a request goes wrong.
type FaultKind string

// The faults. "Stored" ones are what a repeated key gets as well.
const (
	CutBefore   FaultKind = "cut_before"   // the connection ends, and nothing was done
	CutAfter    FaultKind = "cut_after"    // it was done, and the connection ends
	Late        FaultKind = "late"         // the connection ends at once, and it is done after Delay
	ErrorBefore FaultKind = "error_before" // 500, stored; nothing was done
	ErrorAfter  FaultKind = "error_after"  // 500, stored; it was done
	Busy        FaultKind = "busy"         // 429, not stored; nothing was done
	BadGateway  FaultKind = "bad_gateway"  // 502 with a page instead of JSON, not stored; nothing was done
	Slow        FaultKind = "slow"         // it is done after Delay, and then answered
	Garbage     FaultKind = "garbage"      // it was done, and the answer is 200 with a page instead of JSON
	Truncated   FaultKind = "truncated"    // it was done, and the answer ends in the middle
	Declined    FaultKind = "declined"     // the card is refused, whatever its token
)

// Kinds are all faults.
var Kinds = []FaultKind{
	CutBefore, CutAfter, Late, ErrorBefore, ErrorAfter, Busy, BadGateway, Slow, Garbage, Truncated, Declined,
}

// The operations that a fault may be for.
const (
	opAuthorize = "authorize"
	opCharge    = "charge"
	opConfirm   = "confirm"
	opCapture   = "capture"
	opVoid      = "void"
	opRefund    = "refund"
	opRead      = "read"
)

// Fault breaks requests.
type Fault struct {
	Kind FaultKind `json:"fault"`
	// Operation is the kind of request that breaks: authorize, charge, confirm, capture, void, refund, or read for every
	// look. Empty means each of them but read.
	Operation string `json:"operation,omitempty"`
	// Times is how many requests break, by default one. Rate is instead the part of all of them, 0.1 for every tenth,
	// until [Server.NoFaults].
	Times int     `json:"times,omitempty"`
	Rate  float64 `json:"rate,omitempty"`
	// Delay in milliseconds of Slow and Late; by default 500.
	Delay int `json:"delay_ms,omitempty"`
}

func (f Fault) delay() time.Duration { return time.Duration(cmp.Or(f.Delay, 500)) * time.Millisecond }

type faults struct {
	queued []Fault
	random *rand.Rand
}

func newFaults(seed uint64) faults {
	return faults{random: rand.New(rand.NewPCG(seed, 17))}
}

// Break adds a fault. Those with a number of times come first, in the order in which they were added.
func (s *Server) Break(fault Fault) {
	if fault.Rate == 0 {
		fault.Times = max(1, fault.Times)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.queued = append(s.faults.queued, fault)
}

// NoFaults ends all faults.
func (s *Server) NoFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.queued = nil
}

// opOf tells an authorization from a charge.
func opOf(op string, values url.Values) string {
	if op == opCharge && values.Get("capture_method") == "manual" {
		return opAuthorize
	}
	return op
}

// fault is the fault of a request of a kind; its Kind is empty if there is none.
func (s *Server) fault(op string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Requests++
	if op != opRead {
		s.counts.Writes++
	}
	chance := s.faults.random.Float64()
	for i := range s.faults.queued {
		f := &s.faults.queued[i]
		if f.Operation != op && (f.Operation != "" || op == opRead) {
			continue
		}
		switch {
		case f.Times > 0:
			f.Times--
			found := *f
			if f.Times == 0 {
				s.faults.queued = append(s.faults.queued[:i], s.faults.queued[i+1:]...)
			}
			return s.broken(found)
		case f.Rate > 0 && chance < f.Rate:
			return s.broken(*f)
		case f.Rate > 0:
			chance -= f.Rate // several rates add up
		}
	}
	return Fault{}
}

func (s *Server) broken(f Fault) Fault {
	s.counts.Faults++
	return f
}

// before breaks a request that nothing is done for. It says whether it has.
func (s *Server) before(w http.ResponseWriter, fault Fault) bool {
	switch fault.Kind {
	case CutBefore:
		panic(http.ErrAbortHandler) // net/http ends the connection
	case Busy:
		w.Header().Set("Retry-After", "1")
		answer(w, failure(http.StatusTooManyRequests, apiError{
			Type: "invalid_request_error", Code: "rate_limit", Message: "Too many requests.",
		}))
	case BadGateway:
		page(w, http.StatusBadGateway)
	default:
		return false
	}
	return true
}

// after hands an answer over, or loses it.
func (s *Server) after(w http.ResponseWriter, fault Fault, got response) {
	switch fault.Kind {
	case CutAfter, Late:
		panic(http.ErrAbortHandler)
	case Garbage:
		page(w, http.StatusOK)
	case Truncated:
		w.Header().Set("Content-Length", "100000")
		w.WriteHeader(got.status)
		_, _ = w.Write(got.body[:len(got.body)/2])
		panic(http.ErrAbortHandler)
	default:
		answer(w, got)
	}
}

func page(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, _ = w.Write([]byte("<html><body>not what was asked for</body></html>"))
}

// sleep waits, or until the server is closed.
func (s *Server) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.ended.Done():
	}
}

type faultKey struct{}

// requestFault is the fault of the request that is carried out.
func requestFault(r *http.Request) FaultKind {
	kind, _ := r.Context().Value(faultKey{}).(FaultKind)
	return kind
}
