package fakestripe

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"
)

// Event is something that has happened, and its webhook.
type Event struct {
	ID, Type string
	Body     []byte // as it is sent
}

// Sending says how webhooks are sent.
type Sending struct {
	// Copies is how often each is sent; 1 is once.
	Copies int `json:"copies"`
	// Shuffle in milliseconds: each waits a random time of up to so long, so that they come out of order.
	Shuffle int `json:"shuffle_ms"`
	// Hold keeps them back: only [Server.Post] sends.
	Hold bool `json:"hold"`
}

// Send says how webhooks are sent from now on.
func (s *Server) Send(how Sending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending = how
}

// Events are those that have happened, the oldest first.
func (s *Server) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Event(nil), s.events...)
}

// event notes that something has happened, and sends its webhooks.
func (s *Server) event(kind string, object map[string]any) {
	id := s.nextID("evt")
	body, err := json.Marshal(map[string]any{
		"id": id, "object": "event", "type": kind, "api_version": "2026-03-25.dahlia", "created": s.options.Now().Unix(),
		"livemode": false, "pending_webhooks": 1, "data": map[string]any{"object": object},
	})
	if err != nil {
		panic(err) // maps of texts and numbers
	}
	event := Event{ID: id, Type: kind, Body: body}
	s.events = append(s.events, event)
	if s.options.WebhookURL == "" || s.sending.Hold {
		return
	}
	for range max(1, s.sending.Copies) {
		wait := time.Duration(rand.Int64N(int64(max(1, s.sending.Shuffle)))) * time.Millisecond
		s.running.Go(func() { s.deliver(event, wait) })
	}
}

// deliver sends a webhook until somebody takes it, for a minute or so. Stripe goes on for days.
func (s *Server) deliver(event Event, wait time.Duration) {
	for attempt := range 7 {
		s.sleep(wait)
		if s.ended.Err() != nil {
			return
		}
		status, err := s.Post(s.ended, s.options.WebhookURL, event)
		if err == nil && status/100 == 2 {
			return
		}
		s.options.Logger.WarnContext(s.ended, "a webhook of the fake processor was not taken",
			slog.String("event", event.ID), slog.Int("status", status), slog.Any("error", err))
		wait = time.Second << attempt
	}
}

// Post sends an event's webhook once, now, and returns the status of the answer.
func (s *Server) Post(ctx context.Context, url string, event Event) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(event.Body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	request.Header.Set("Stripe-Signature", Signature(s.options.WebhookSecret, s.options.Now(), event.Body))
	got, err := s.outgoing.Do(request)
	if err != nil {
		return 0, err
	}
	return got.StatusCode, got.Body.Close()
}

// Signature is the header Stripe-Signature of a body that is sent at a time: an HMAC-SHA256 of "TIME.BODY".
func Signature(secret string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "%d.", at.Unix())
	mac.Write(body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}
