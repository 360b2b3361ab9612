package fakestripe

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
)

// Counts are what has happened at the processor.
type Counts struct {
	Requests int `json:"requests"` // all of them
	Writes   int `json:"writes"`   // those that ask for something to be done
	Repeats  int `json:"repeats"`  // of writes: their key was known
	Faults   int `json:"faults"`   // requests that were broken

	Charged    int `json:"charged"` // charges without an authorization
	Authorized int `json:"authorized"`
	Captured   int `json:"captured"`
	Voided     int `json:"voided"`
	Refunded   int `json:"refunded"`
	Declined   int `json:"declined"`
}

// Counts of what has happened.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Charge is what the processor really has of a payment.
type Charge struct {
	Reference string            `json:"reference"`
	Status    string            `json:"status"`
	Amount    int64             `json:"amount"`
	Received  int64             `json:"received"`
	Refunded  int64             `json:"refunded"`
	Refunds   []Refund          `json:"refunds"`
	Currency  string            `json:"currency"`
	Metadata  map[string]string `json:"metadata"`
}

// Refund is what the processor really has of a refund.
type Refund struct {
	Reference string            `json:"reference"`
	Status    string            `json:"status"`
	Amount    int64             `json:"amount"`
	Metadata  map[string]string `json:"metadata"`
}

// Charges are all of them, the oldest first.
func (s *Server) Charges() []Charge {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Charge, 0, len(s.order))
	for _, i := range s.order {
		c := Charge{
			Reference: i.id, Status: i.status, Amount: i.amount, Received: i.received, Refunded: i.refunded,
			Currency: i.currency, Metadata: maps.Clone(i.metadata),
		}
		for _, f := range s.refunds {
			if f.intent == i {
				c.Refunds = append(c.Refunds, Refund{f.id, f.status, f.amount, maps.Clone(f.metadata)})
			}
		}
		all = append(all, c)
	}
	return all
}

// control is what a test, or somebody who tries the fake by hand, tells it. It is no part of Stripe's API.
func (s *Server) control() {
	s.mux.HandleFunc("GET /_fake/counts", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, success(s.Counts()))
	})
	s.mux.HandleFunc("GET /_fake/charges", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, success(s.Charges()))
	})
	s.mux.HandleFunc("DELETE /_fake/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.NoFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	s.mux.HandleFunc("DELETE /_fake/keys", func(w http.ResponseWriter, _ *http.Request) {
		s.ForgetKeys()
		w.WriteHeader(http.StatusNoContent)
	})
	s.mux.HandleFunc("POST /_fake/faults", func(w http.ResponseWriter, r *http.Request) {
		var fault Fault
		if !told(w, r, &fault) {
			return
		}
		operations := []string{"", opAuthorize, opCharge, opConfirm, opCapture, opVoid, opRefund, opRead}
		if !slices.Contains(Kinds, fault.Kind) || !slices.Contains(operations, fault.Operation) ||
			fault.Rate < 0 || fault.Rate > 1 || fault.Times < 0 || fault.Delay < 0 {
			http.Error(w, "there is no such fault", http.StatusBadRequest)
			return
		}
		s.Break(fault)
		w.WriteHeader(http.StatusNoContent)
	})
	s.mux.HandleFunc("PUT /_fake/webhooks", func(w http.ResponseWriter, r *http.Request) {
		var how Sending
		if told(w, r, &how) {
			s.Send(how)
			w.WriteHeader(http.StatusNoContent)
		}
	})
	s.mux.HandleFunc("POST /_fake/expire/{id}", func(w http.ResponseWriter, r *http.Request) {
		if !s.Expire(r.PathValue("id")) {
			http.Error(w, "it is not authorized", http.StatusConflict)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func told(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}
