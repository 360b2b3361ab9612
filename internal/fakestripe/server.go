package fakestripe

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Options of a [Server]. Their zero value is a processor without webhooks.
type Options struct {
	// WebhookURL gets a webhook for each event; WebhookSecret signs them (whsec_...).
	WebhookURL, WebhookSecret string
	// KeyWindow is how long a key is remembered; by default 24 hours.
	KeyWindow time.Duration
	// SearchLag is how long a charge can't be found by a search; by default a minute.
	SearchLag time.Duration
	// Now is the processor's clock.
	Now func() time.Time
	// Seed makes the faults that have a rate repeatable.
	Seed uint64
	// Logger hears of webhooks that nobody took.
	Logger *slog.Logger
}

// Server is the processor.
type Server struct {
	options Options
	mux     *http.ServeMux
	running sync.WaitGroup
	ended   context.Context
	end     context.CancelFunc

	mu       sync.Mutex
	run      string // a part of every id
	lastID   int
	intents  map[string]*intent
	order    []*intent
	refunds  []*refund
	keys     map[string]*keyEntry
	events   []Event
	faults   faults
	sending  Sending
	counts   Counts
	outgoing http.Client
}

// New makes a processor that nobody has charged anything at. [Server.Close] ends what it does by itself.
func New(options Options) *Server {
	options.KeyWindow = cmp.Or(options.KeyWindow, 24*time.Hour)
	options.SearchLag = cmp.Or(options.SearchLag, time.Minute)
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		options: options, mux: http.NewServeMux(), intents: map[string]*intent{}, keys: map[string]*keyEntry{},
		faults: newFaults(options.Seed), sending: Sending{Copies: 1}, outgoing: http.Client{Timeout: 10 * time.Second},
	}
	s.run = strings.ToLower(rand.Text()[:8])
	s.ended, s.end = context.WithCancel(context.Background())
	s.mux.HandleFunc("POST /v1/payment_intents", s.write(opCharge, (*Server).createIntent))
	s.mux.HandleFunc("POST /v1/payment_intents/{id}/confirm", s.write(opConfirm, (*Server).confirmIntent))
	s.mux.HandleFunc("POST /v1/payment_intents/{id}/capture", s.write(opCapture, (*Server).captureIntent))
	s.mux.HandleFunc("POST /v1/payment_intents/{id}/cancel", s.write(opVoid, (*Server).cancelIntent))
	s.mux.HandleFunc("POST /v1/refunds", s.write(opRefund, (*Server).createRefund))
	s.mux.HandleFunc("GET /v1/payment_intents", s.read((*Server).listIntents))
	s.mux.HandleFunc("GET /v1/payment_intents/search", s.read((*Server).searchIntents))
	s.mux.HandleFunc("GET /v1/payment_intents/{id}", s.read((*Server).getIntent))
	s.mux.HandleFunc("GET /v1/refunds", s.read((*Server).listRefunds))
	s.mux.HandleFunc("GET /v1/refunds/{id}", s.read((*Server).getRefund))
	s.control()
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, failure(http.StatusNotFound, apiError{
			Type: "invalid_request_error", Message: "Unrecognized request URL (" + r.Method + ": " + r.URL.Path + ").",
		}))
	})
	return s
}

// Close ends webhooks and requests that are still on their way.
func (s *Server) Close() {
	s.end()
	s.running.Wait()
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// response is an answer to a request. One that nothing was carried out for is not stored under the request's key.
type response struct {
	status   int
	body     []byte
	unstored bool
}

// apiError is the body of an error.
type apiError struct {
	Type        string `json:"type"`
	Code        string `json:"code,omitempty"`
	DeclineCode string `json:"decline_code,omitempty"`
	Message     string `json:"message"`
	Param       string `json:"param,omitempty"`
	Intent      any    `json:"payment_intent,omitempty"`
}

func success(object any) response {
	body, err := json.Marshal(object)
	if err != nil {
		panic(err) // maps of texts and numbers
	}
	return response{status: http.StatusOK, body: body}
}

func failure(status int, e apiError) response {
	r := success(map[string]any{"error": e})
	r.status = status
	return r
}

// invalid is an error of validation.
func invalid(param, code, message string) response {
	r := failure(http.StatusBadRequest, apiError{
		Type: "invalid_request_error", Param: param, Code: code, Message: message,
	})
	r.unstored = true
	return r
}

func missing(param, kind, id string) response {
	r := failure(http.StatusNotFound, apiError{
		Type: "invalid_request_error", Code: "resource_missing", Param: param,
		Message: fmt.Sprintf("No such %s: '%s'", kind, id),
	})
	r.unstored = true
	return r
}

func answer(w http.ResponseWriter, r response) {
	w.Header().Set("Content-Type", "application/json")
	if r.status >= http.StatusInternalServerError {
		w.Header().Set("Stripe-Should-Retry", "false")
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body)
}

// secretKey tells whether a request has a secret key of the test mode, as the bearer or as the user.
func secretKey(r *http.Request) bool {
	key, _, _ := r.BasicAuth()
	if bearer, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); found {
		key = bearer
	}
	return strings.HasPrefix(key, "sk_test_") || strings.HasPrefix(key, "rk_test_")
}

func refuseKey(w http.ResponseWriter) {
	answer(w, failure(http.StatusUnauthorized, apiError{
		Type:    "invalid_request_error",
		Message: "Invalid API Key provided: this processor takes keys that begin with sk_test_",
	}))
}

// read makes a handler of something that changes nothing.
func (s *Server) read(do func(*Server, *http.Request, url.Values) response) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !secretKey(r) {
			refuseKey(w)
			return
		}
		w.Header().Set("Request-Id", s.id("req"))
		fault := s.fault(opRead)
		if s.before(w, fault) {
			return
		}
		s.after(w, fault, s.execute(do, r, r.URL.Query(), fault))
	}
}

// form reads a request's parameters.
func form(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	return url.ParseQuery(string(body))
}

// id makes an id, pi_fake and so on.
func (s *Server) id(kind string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextID(kind)
}

// nextID never gives an id twice, not even to the processor that comes after this one: the database beside it may be
// the same, and would take a new event for an old one.
func (s *Server) nextID(kind string) string {
	s.lastID++
	return fmt.Sprintf("%s_fake%s%08d", kind, s.run, s.lastID)
}
