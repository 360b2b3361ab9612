package stripe

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lastseat/lastseat/processor"
)

// tolerance is how old a signature may be, and how far in the future: what Stripe recommends. A webhook that is sent
// again is signed again.
const tolerance = 5 * time.Minute

// Webhooks makes the Verify of a [processor.Receiver], from the signing secret of the endpoint (whsec_...), or two of
// them while one is rolled.
func Webhooks(secrets ...string) (func(http.Header, []byte, time.Time) (processor.Event, error), error) {
	if len(secrets) < 1 || len(secrets) > 2 {
		return nil, errors.New("an endpoint of Stripe has one signing secret, or two while one is rolled")
	}
	for _, secret := range secrets {
		if !strings.HasPrefix(secret, "whsec_") || len(secret) < 12 {
			return nil, errors.New("a signing secret of Stripe begins with whsec_")
		}
	}
	return func(header http.Header, body []byte, now time.Time) (processor.Event, error) {
		if err := verify(secrets, header.Values("Stripe-Signature"), body, now); err != nil {
			return processor.Event{}, err
		}
		return parse(body)
	}, nil
}

// verify proves a signature, "t=SECONDS,v1=HEX": an HMAC-SHA256 of "SECONDS.BODY". There may be several of one
// version, and others of versions that are not for us. https://docs.stripe.com/webhooks, "Verify webhook signatures
// manually".
func verify(secrets, headers []string, body []byte, now time.Time) error {
	if len(headers) != 1 || len(headers[0]) > 4096 {
		return errors.New("it has no Stripe-Signature, or more than one")
	}
	at, signatures := "", [][]byte(nil)
	for part := range strings.SplitSeq(headers[0], ",") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "t":
			at = value
		case "v1":
			if signature, err := hex.DecodeString(value); err == nil {
				signatures = append(signatures, signature)
			}
		}
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || len(signatures) == 0 {
		return errors.New("its Stripe-Signature has no t or no v1")
	}
	proven := false
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(at + "."))
		mac.Write(body)
		want := mac.Sum(nil)
		for _, signature := range signatures {
			proven = hmac.Equal(want, signature) || proven
		}
	}
	if !proven {
		return errors.New("its signature is wrong: check the endpoint's signing secret, and that nothing changes the body")
	}
	if age := now.Sub(time.Unix(seconds, 0)); age.Abs() > tolerance {
		return fmt.Errorf("its signature is of %v ago: more than %v in the past or the future", age.Round(time.Second),
			tolerance)
	}
	return nil
}

// parse reads a body whose signature is proven.
func parse(body []byte) (processor.Event, error) {
	var e struct {
		ID      string `json:"id"`
		Type    string `json:"type"`
		Created int64  `json:"created"`
		Live    bool   `json:"livemode"`
		Data    struct {
			Object struct {
				ID       string            `json:"id"`
				Object   string            `json:"object"`
				Intent   json.RawMessage   `json:"payment_intent"` // an id, or the object
				Metadata map[string]string `json:"metadata"`
			} `json:"object"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return processor.Event{}, fmt.Errorf("its body can't be read: %w", err)
	}
	if e.ID == "" || e.Type == "" || len(e.ID) > 200 {
		return processor.Event{}, errors.New("its body is no event")
	}
	object := e.Data.Object
	event := processor.Event{
		ID: e.ID, Type: e.Type, Created: time.Unix(e.Created, 0).UTC(), Live: e.Live, Body: body,
		Payment: object.Metadata[metaPayment], Key: object.Metadata[metaKey],
	}
	if object.Object == "payment_intent" {
		event.Reference = object.ID
		return event, nil
	}
	var expanded struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(object.Intent, &event.Reference) != nil && json.Unmarshal(object.Intent, &expanded) == nil {
		event.Reference = expanded.ID
	}
	return event, nil
}
