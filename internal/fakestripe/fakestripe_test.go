package fakestripe_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v85/webhook"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/fakestripe"
)

const secret = "whsec_test"

// call sends a form or JSON, and returns the status and the body.
func call(t *testing.T, method, url, key, body string) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("sk_test_x", "")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text), answer.Header
}

const aCharge = "amount=1250&currency=eur&payment_method=pm_card_visa&payment_method_types[0]=card&confirm=true" +
	"&capture_method=automatic&metadata[order]=1"

// TestByHand is the control endpoint, and a key whose first answer is an internal error.
func TestByHand(t *testing.T) {
	t.Parallel()
	fake := fakestripe.New(fakestripe.Options{})
	server := httptest.NewServer(fake)
	t.Cleanup(func() { server.Close(); fake.Close() })
	charges, faults := server.URL+"/v1/payment_intents", server.URL+"/_fake/faults"

	for body, want := range map[string]int{
		`{"fault":"error_after","operation":"charge"}`: http.StatusNoContent, `{"fault":"none"}`: http.StatusBadRequest,
		`{"fault":"slow","rate":2}`: http.StatusBadRequest, `{"falt":"slow"}`: http.StatusBadRequest,
	} {
		if status, text, _ := call(t, http.MethodPost, faults, "", body); status != want {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	for _, replayed := range []string{"", "true"} {
		status, text, header := call(t, http.MethodPost, charges, "k", aCharge)
		if status != http.StatusInternalServerError || header.Get("Idempotent-Replayed") != replayed {
			t.Errorf("%d %s, replayed %q", status, text, header.Get("Idempotent-Replayed"))
		}
	}
	if got := fake.Counts(); got.Charged != 1 || got.Repeats != 1 || got.Faults != 1 {
		t.Errorf("%+v, want one charge", got)
	}
	if status, _, _ := call(t, http.MethodDelete, server.URL+"/_fake/keys", "", ""); status != http.StatusNoContent {
		t.Error(status)
	}
	if status, text, _ := call(t, http.MethodPost, charges, "k", aCharge); status != http.StatusOK {
		t.Errorf("after the key was forgotten: %d %s", status, text)
	}
	_, text, _ := call(t, http.MethodGet, server.URL+"/_fake/charges", "", "")
	var both []fakestripe.Charge
	if err := json.Unmarshal([]byte(text), &both); err != nil || len(both) != 2 || both[1].Metadata["order"] != "1" {
		t.Errorf("%s, %v: want two charges", text, err)
	}
	status, _, _ := call(t, http.MethodPost, server.URL+"/_fake/expire/"+both[0].Reference, "", "")
	if status != http.StatusConflict {
		t.Errorf("a charge expires: %d", status)
	}
}

// TestWebhooks proves the signature with Stripe's own library, and that each event comes as often as it was told to.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	taken, refused := map[string]int{}, 0
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		event, err := webhook.ConstructEvent(body, r.Header.Get("Stripe-Signature"), secret)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Error(err)
		}
		if refused++; refused == 1 { // the first one comes again
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		taken[string(event.Type)]++
	}))
	fake := fakestripe.New(fakestripe.Options{WebhookURL: receiver.URL, WebhookSecret: secret})
	server := httptest.NewServer(fake)
	t.Cleanup(func() { server.Close(); fake.Close(); receiver.Close() })

	status, text, _ := call(t, http.MethodPut, server.URL+"/_fake/webhooks", "", `{"copies":3,"shuffle_ms":20}`)
	if status != http.StatusNoContent {
		t.Fatal(status, text)
	}
	status, text, _ = call(t, http.MethodPost, server.URL+"/v1/payment_intents", "k", aCharge)
	if status != http.StatusOK {
		t.Fatal(status, text)
	}
	clitest.Eventually(t, "three copies", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return taken["payment_intent.succeeded"] == 3
	})
	events := fake.Events()
	if len(events) != 1 || !bytes.Contains(events[0].Body, []byte(events[0].ID)) {
		t.Errorf("%+v", events)
	}
	old := fakestripe.Signature(secret, time.Now().Add(-time.Hour), events[0].Body)
	if _, err := webhook.ConstructEvent(events[0].Body, old, secret); err == nil {
		t.Error("a signature of an hour ago passes")
	}
}

// TestIDsAreNew: a processor that was started again, beside a database that knows the ids of the one before.
func TestIDsAreNew(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 2 {
		fake := fakestripe.New(fakestripe.Options{})
		server := httptest.NewServer(fake)
		status, text, _ := call(t, http.MethodPost, server.URL+"/v1/payment_intents", "k", aCharge)
		events := fake.Events()
		if status != http.StatusOK || len(events) != 1 || seen[events[0].ID] {
			t.Errorf("%d %s: the events %+v, after %v", status, text, events, seen)
		}
		for _, event := range events {
			seen[event.ID] = true
		}
		server.Close()
		fake.Close()
	}
}
