package fakestripe

import (
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// intent is a PaymentIntent with its charge.
type intent struct {
	id, currency, status, capture, method, customer string
	amount, capturable, received, refunded          int64
	created                                         int64
	metadata                                        map[string]string
	charge                                          string // the latest charge's id
	failed                                          *apiError
	cancelled                                       string // why
}

// The statuses of an intent.
const (
	needsMethod       = "requires_payment_method"
	needsConfirmation = "requires_confirmation"
	needsCapture      = "requires_capture"
	succeeded         = "succeeded"
	canceled          = "canceled"
)

// object is the intent as the API shows it.
func (i *intent) object(expandCharge bool) map[string]any {
	o := map[string]any{
		"id": i.id, "object": "payment_intent", "amount": i.amount, "amount_capturable": i.capturable,
		"amount_received": i.received, "currency": i.currency, "status": i.status, "capture_method": i.capture,
		"confirmation_method": "automatic", "created": i.created, "livemode": false, "metadata": i.metadata,
		"payment_method": orNull(i.method), "customer": orNull(i.customer), "payment_method_types": []string{"card"},
		"latest_charge": orNull(i.charge), "cancellation_reason": orNull(i.cancelled), "last_payment_error": nil,
	}
	if i.failed != nil {
		o["last_payment_error"] = i.failed
	}
	if expandCharge && i.charge != "" {
		o["latest_charge"] = map[string]any{
			"id": i.charge, "object": "charge", "amount": i.amount, "amount_captured": i.received,
			"amount_refunded": i.refunded, "currency": i.currency, "captured": i.received > 0, "payment_intent": i.id,
			"refunded": i.refunded == i.received && i.received > 0, "created": i.created, "metadata": i.metadata,
		}
	}
	return o
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// metadataOf reads metadata[name]=value.
func metadataOf(values url.Values) map[string]string {
	metadata := make(map[string]string)
	for name, value := range values {
		if inner, found := strings.CutPrefix(name, "metadata["); found {
			metadata[strings.TrimSuffix(inner, "]")] = value[0]
		}
	}
	return metadata
}

// amountOf reads an amount; whether it is one.
func amountOf(values url.Values, name string) (int64, bool) {
	amount, err := strconv.ParseInt(values.Get(name), 10, 64)
	return amount, err == nil && amount > 0 && amount <= 99_999_999_999
}

func (s *Server) createIntent(r *http.Request, values url.Values) response {
	amount, ok := amountOf(values, "amount")
	switch currency := values.Get("currency"); {
	case !ok:
		return invalid("amount", "parameter_invalid_integer", "Invalid positive integer: amount")
	case len(currency) != 3 || currency != strings.ToLower(currency):
		return invalid("currency", "", "Invalid currency: "+currency)
	}
	i := &intent{
		id: s.nextID("pi"), amount: amount, currency: values.Get("currency"), status: needsMethod, capture: "automatic_async",
		method: values.Get("payment_method"), customer: values.Get("customer"), created: s.options.Now().Unix(),
		metadata: metadataOf(values),
	}
	if capture := values.Get("capture_method"); capture != "" {
		i.capture = capture
	}
	if i.method != "" {
		if !strings.HasPrefix(i.method, "pm_") {
			return missing("payment_method", "PaymentMethod", i.method)
		}
		i.status = needsConfirmation
	}
	if values.Get("confirm") == "true" && i.method == "" {
		return invalid("payment_method", "parameter_missing", "You cannot confirm without a payment method.")
	}
	s.intents[i.id] = i
	s.order = append(s.order, i)
	if values.Get("confirm") == "true" {
		return s.confirm(i, requestFault(r))
	}
	return success(i.object(false))
}

func (s *Server) confirmIntent(r *http.Request, values url.Values) response {
	i := s.intents[r.PathValue("id")]
	if i == nil {
		return missing("intent", "payment_intent", r.PathValue("id"))
	}
	if method := values.Get("payment_method"); method != "" {
		i.method = method
	}
	if i.status != needsConfirmation && i.status != needsMethod || i.method == "" {
		return s.unexpected(i, "confirm")
	}
	return s.confirm(i, requestFault(r))
}

// cards are the tokens of the test mode that are refused, with their decline codes.
// https://docs.stripe.com/testing has them.
var cards = map[string]apiError{
	"pm_card_chargeDeclined":                       {Code: "card_declined", DeclineCode: "generic_decline"},
	"pm_card_visa_chargeDeclined":                  {Code: "card_declined", DeclineCode: "generic_decline"},
	"pm_card_chargeDeclinedInsufficientFunds":      {Code: "card_declined", DeclineCode: "insufficient_funds"},
	"pm_card_visa_chargeDeclinedInsufficientFunds": {Code: "card_declined", DeclineCode: "insufficient_funds"},
	"pm_card_visa_chargeDeclinedLostCard":          {Code: "card_declined", DeclineCode: "lost_card"},
	"pm_card_chargeDeclinedExpiredCard":            {Code: "expired_card"},
	"pm_card_chargeDeclinedProcessingError":        {Code: "processing_error"},
	"pm_card_authenticationRequired": {
		Code: "authentication_required", DeclineCode: "authentication_required",
	},
}

// confirm asks the bank, so to speak.
func (s *Server) confirm(i *intent, fault FaultKind) response {
	refused, isRefused := cards[i.method]
	if fault == Declined {
		refused, isRefused = cards["pm_card_visa_chargeDeclined"], true
	}
	i.charge = s.nextID("ch")
	if isRefused {
		refused.Type, refused.Message = "card_error", "Your card was declined."
		failed := refused // without the intent: that has it
		i.status, i.failed = needsMethod, &failed
		s.counts.Declined++
		s.event("payment_intent.payment_failed", i.object(false))
		refused.Intent = i.object(false)
		return failure(http.StatusPaymentRequired, refused)
	}
	i.failed = nil
	if i.capture == "manual" {
		i.status, i.capturable = needsCapture, i.amount
		s.counts.Authorized++
		s.event("payment_intent.amount_capturable_updated", i.object(false))
		return success(i.object(false))
	}
	i.status, i.received = succeeded, i.amount
	s.counts.Charged++
	s.event("payment_intent.succeeded", i.object(false))
	return success(i.object(false))
}

func (s *Server) captureIntent(r *http.Request, values url.Values) response {
	i := s.intents[r.PathValue("id")]
	if i == nil {
		return missing("intent", "payment_intent", r.PathValue("id"))
	}
	amount := i.capturable
	if values.Has("amount_to_capture") {
		asked, ok := amountOf(values, "amount_to_capture")
		if !ok {
			return invalid("amount_to_capture", "parameter_invalid_integer", "Invalid positive integer: amount_to_capture")
		}
		amount = asked
	}
	switch {
	case i.status != needsCapture:
		return s.unexpected(i, "capture")
	case amount > i.capturable:
		return failure(http.StatusBadRequest, apiError{
			Type: "invalid_request_error", Code: "amount_too_large", Param: "amount_to_capture",
			Message: "The amount is greater than what can be captured.",
		})
	case requestFault(r) == Declined:
		return failure(http.StatusPaymentRequired, apiError{
			Type: "card_error", Code: "card_declined", DeclineCode: "generic_decline", Message: "Your card was declined.",
			Intent: i.object(false),
		})
	}
	maps.Copy(i.metadata, metadataOf(values))
	i.status, i.received, i.capturable = succeeded, amount, 0
	s.counts.Captured++
	s.event("payment_intent.succeeded", i.object(false))
	return success(i.object(false))
}

func (s *Server) cancelIntent(r *http.Request, values url.Values) response {
	i := s.intents[r.PathValue("id")]
	switch {
	case i == nil:
		return missing("intent", "payment_intent", r.PathValue("id"))
	case i.status == succeeded || i.status == canceled:
		return s.unexpected(i, "cancel")
	}
	s.cancel(i, values.Get("cancellation_reason"))
	return success(i.object(false))
}

func (s *Server) cancel(i *intent, reason string) {
	i.status, i.capturable, i.cancelled = canceled, 0, reason
	s.counts.Voided++
	s.event("payment_intent.canceled", i.object(false))
}

// Expire lets go of an authorization, as the card's bank does after some days. It says whether there was one.
func (s *Server) Expire(reference string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.intents[reference]
	if i == nil || i.status != needsCapture {
		return false
	}
	s.cancel(i, "automatic")
	return true
}

// unexpected is the error of what an intent's status doesn't allow.
func (s *Server) unexpected(i *intent, verb string) response {
	return failure(http.StatusBadRequest, apiError{
		Type: "invalid_request_error", Code: "payment_intent_unexpected_state", Intent: i.object(false),
		Message: "You cannot " + verb + " this PaymentIntent because it has a status of " + i.status + ".",
	})
}
