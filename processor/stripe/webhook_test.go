package stripe_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/stripe"
)

const intentEvent = `{"id":"evt_1","object":"event","type":"payment_intent.succeeded","created":1700000000,` +
	`"livemode":true,"data":{"object":{"id":"pi_1","object":"payment_intent","metadata":` +
	`{"lastseat_payment":"order 1","lastseat_key":"k"}}}}`

func TestWebhookSignature(t *testing.T) {
	t.Parallel()
	const old, current = "whsec_the_old_one", "whsec_the_new_one"
	now := time.Now()
	body := []byte(intentEvent)
	good := fakestripe.Signature(current, now, body)
	_, hash, _ := strings.Cut(good, "v1=")
	for _, c := range []struct {
		name    string
		headers []string
		body    string
		want    string // part of the error; empty if it is good
	}{
		{"signed", []string{good}, intentEvent, ""},
		{"signed with the old secret", []string{fakestripe.Signature(old, now, body)}, intentEvent, ""},
		{"signed with both", []string{good + ",v1=" + strings.Repeat("00", 32)}, intentEvent, ""},
		{"another version first", []string{strings.Replace(good, "v1=", "v0=abcd,v1=", 1)}, intentEvent, ""},
		{"just in time", []string{fakestripe.Signature(current, now.Add(-299*time.Second), body)}, intentEvent, ""},
		{"too old", []string{fakestripe.Signature(current, now.Add(-302*time.Second), body)}, intentEvent, "ago"},
		{"of the future", []string{fakestripe.Signature(current, now.Add(302*time.Second), body)}, intentEvent, "future"},
		{"another secret", []string{fakestripe.Signature("whsec_of_somebody", now, body)}, intentEvent, "wrong"},
		{"another body", []string{good}, intentEvent + " ", "wrong"},
		{"another time", []string{"t=1,v1=" + hash}, intentEvent, "wrong"},
		{"another version", []string{strings.Replace(good, "v1=", "v0=", 1)}, intentEvent, "no v1"},
		{"a part of a signature", []string{good[:len(good)-2]}, intentEvent, "wrong"},
		{"no signature", nil, intentEvent, "no Stripe-Signature"},
		{"two headers", []string{good, good}, intentEvent, "more than one"},
		{"empty", []string{""}, intentEvent, "no t"},
		{"no time", []string{"v1=" + hash}, intentEvent, "no t"},
		{"a long header", []string{good + strings.Repeat(",v1=00", 1000)}, intentEvent, "Stripe-Signature"},
	} {
		verify, err := stripe.Webhooks(old, current)
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{}
		for _, value := range c.headers {
			header.Add("Stripe-Signature", value)
		}
		event, err := verify(header, []byte(c.body), now)
		switch {
		case c.want == "" && (err != nil || event.ID != "evt_1"):
			t.Errorf("%s: %+v, %v", c.name, event, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	for _, secrets := range [][]string{{}, {"sk_test_1234567"}, {"whsec_"}, {old, current, current}} {
		if _, err := stripe.Webhooks(secrets...); err == nil {
			t.Errorf("the secrets %q are accepted", secrets)
		}
	}
}

func TestWebhookBody(t *testing.T) {
	t.Parallel()
	refund := func(intent string) string {
		return `{"id":"evt_2","type":"refund.created","created":1,"data":{"object":{"id":"re_1","object":"refund",` +
			`"payment_intent":` + intent + `,"metadata":{"lastseat_payment":"order 1","lastseat_key":"r"}}}}`
	}
	verify, err := stripe.Webhooks("whsec_the_new_one")
	if err != nil {
		t.Fatal(err)
	}
	read := func(body string) (processor.Event, error) {
		header := http.Header{"Stripe-Signature": {fakestripe.Signature("whsec_the_new_one", time.Now(), []byte(body))}}
		return verify(header, []byte(body), time.Now())
	}
	for body, want := range map[string]processor.Event{
		intentEvent: {
			ID: "evt_1", Type: "payment_intent.succeeded", Reference: "pi_1", Payment: "order 1", Key: "k",
			Created: time.Unix(1700000000, 0).UTC(), Live: true,
		},
		refund(`"pi_1"`): {
			ID: "evt_2", Type: "refund.created", Reference: "pi_1", Payment: "order 1", Key: "r", Created: time.Unix(1, 0).UTC(),
		},
		refund(`{"id":"pi_1","object":"payment_intent"}`): {
			ID: "evt_2", Type: "refund.created", Reference: "pi_1", Payment: "order 1", Key: "r", Created: time.Unix(1, 0).UTC(),
		},
		refund(`null`): {
			ID: "evt_2", Type: "refund.created", Payment: "order 1", Key: "r", Created: time.Unix(1, 0).UTC(),
		},
		`{"id":"evt_3","type":"balance.available","created":1,"data":{"object":{"object":"balance"}}}`: {
			ID: "evt_3", Type: "balance.available", Created: time.Unix(1, 0).UTC(),
		},
	} {
		got, err := read(body)
		want.Body = []byte(body)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", body, err, diff)
		}
	}
	for _, body := range []string{``, `[]`, `{}`, `{"id":"evt_1"}`, `{"id":1,"type":"x"}`, `<html>`,
		`{"id":"` + strings.Repeat("e", 201) + `","type":"x"}`} {
		if event, err := read(body); err == nil {
			t.Errorf("%s: %+v", body, event)
		}
	}
}
