package fakestripe

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// keyEntry is what is known of an idempotency key.
type keyEntry struct {
	path, parameters string
	at               time.Time
	working          bool
	stored           response
	request          string // the id of the first request
}

// write makes a handler of something that is carried out once for each key.
func (s *Server) write(op string, do func(*Server, *http.Request, url.Values) response) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !secretKey(r) {
			refuseKey(w)
			return
		}
		values, err := form(w, r)
		if err != nil {
			answer(w, invalid("", "", err.Error()))
			return
		}
		request := s.id("req")
		w.Header().Set("Request-Id", request)
		fault := s.fault(opOf(op, values))
		if s.before(w, fault) {
			return
		}
		key := r.Header.Get("Idempotency-Key")
		if key == "" {
			s.after(w, fault, s.execute(do, r, values, fault))
			return
		}
		w.Header().Set("Idempotency-Key", key)
		entry, known := s.claim(key, r.URL.Path, values.Encode(), request)
		switch {
		case !known:
		case entry.path != r.URL.Path || entry.parameters != values.Encode():
			answer(w, failure(http.StatusBadRequest, apiError{
				Type:    "idempotency_error",
				Message: "This idempotency key was used before, with another endpoint or other parameters.",
			}))
			return
		case entry.working:
			answer(w, failure(http.StatusConflict, apiError{
				Type: "idempotency_error", Code: "idempotency_key_in_use", Message: "Another request with this key is in progress.",
			}))
			return
		default:
			w.Header().Set("Idempotent-Replayed", "true")
			w.Header().Set("Original-Request", entry.request)
			s.after(w, fault, entry.stored)
			return
		}
		if fault.Kind == Late {
			s.running.Go(func() {
				s.sleep(fault.delay())
				s.settle(key, s.execute(do, r, values, fault))
			})
			panic(http.ErrAbortHandler) // the client hears nothing, and the request is still on its way
		}
		got := s.execute(do, r, values, fault)
		s.settle(key, got)
		s.after(w, fault, got)
	}
}

// claim looks a key up, or makes it ours. It returns a copy of what was known.
func (s *Server) claim(key, path, parameters, request string) (entry keyEntry, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.options.Now()
	if found := s.keys[key]; found != nil && (found.working || now.Sub(found.at) < s.options.KeyWindow) {
		s.counts.Repeats++
		return *found, true
	}
	s.keys[key] = &keyEntry{path: path, parameters: parameters, at: now, working: true, request: request}
	return keyEntry{}, false
}

// settle stores a key's answer, or forgets the key if nothing was carried out.
func (s *Server) settle(key string, got response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if got.unstored {
		delete(s.keys, key)
		return
	}
	s.keys[key].working, s.keys[key].stored = false, got
}

// execute carries a request out, or fails before or after.
func (s *Server) execute(do func(*Server, *http.Request, url.Values) response, r *http.Request, values url.Values,
	fault Fault) response {
	if fault.Kind == ErrorBefore {
		return internalError()
	}
	if fault.Kind == Slow {
		s.sleep(fault.delay())
	}
	r = r.WithContext(context.WithValue(r.Context(), faultKey{}, fault.Kind))
	got := func() response {
		s.mu.Lock()
		defer s.mu.Unlock()
		return do(s, r, values)
	}()
	if fault.Kind == ErrorAfter {
		return internalError()
	}
	return got
}

func internalError() response {
	return failure(http.StatusInternalServerError, apiError{Type: "api_error", Message: "An error occurred on our side."})
}

// ForgetKeys lets the processor forget all keys, as it does after [Options.KeyWindow].
func (s *Server) ForgetKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, entry := range s.keys {
		if !entry.working {
			delete(s.keys, key)
		}
	}
}
