package main

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func TestReceive(t *testing.T) {
	t.Parallel()
	verifier, err := standardwebhooks.NewWebhookRaw([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	handler := receive(verifier, &out)
	send := func(id, signed, body string) int {
		at := time.Now()
		signature, err := verifier.Sign(id, at, []byte(signed))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hooks", strings.NewReader(body))
		r.Header.Set("webhook-id", id)
		r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
		r.Header.Set("webhook-signature", signature)
		answer := httptest.NewRecorder()
		handler(answer, r)
		return answer.Code
	}
	for _, c := range []struct {
		id, signed, body string
		code             int
	}{
		{"1", "one", "one", 200}, {"2", "two", "two", 200}, {"1", "one", "one", 200}, {"3", "three", "another", 401},
	} {
		if code := send(c.id, c.signed, c.body); code != c.code {
			t.Errorf("%s: %d, want %d", c.body, code, c.code)
		}
	}
	if out.String() != "one\ntwo\n" {
		t.Errorf("it took %q", out.String())
	}
}
