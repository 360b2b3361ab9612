package fakestripe

import (
	"net/http"
	"net/url"
	"slices"
)

// refund is a Refund.
type refund struct {
	id, status, reason string
	intent             *intent
	amount, created    int64
	metadata           map[string]string
}

func (f *refund) object() map[string]any {
	return map[string]any{
		"id": f.id, "object": "refund", "amount": f.amount, "currency": f.intent.currency, "status": f.status,
		"failure_reason": orNull(f.reason), "payment_intent": f.intent.id, "charge": f.intent.charge,
		"created": f.created, "metadata": f.metadata, "reason": nil,
	}
}

func (s *Server) createRefund(r *http.Request, values url.Values) response {
	i := s.intents[values.Get("payment_intent")]
	if i == nil {
		return missing("payment_intent", "payment_intent", values.Get("payment_intent"))
	}
	left := i.received - i.refunded
	amount := left
	if values.Has("amount") {
		asked, ok := amountOf(values, "amount")
		if !ok {
			return invalid("amount", "parameter_invalid_integer", "Invalid positive integer: amount")
		}
		amount = asked
	}
	switch {
	case i.received == 0:
		return failure(http.StatusBadRequest, apiError{
			Type: "invalid_request_error", Code: "charge_not_refundable", Message: "This payment was not captured.",
		})
	case left == 0:
		return failure(http.StatusBadRequest, apiError{
			Type: "invalid_request_error", Code: "charge_already_refunded", Message: "The charge has been refunded already.",
		})
	case amount > left:
		return failure(http.StatusBadRequest, apiError{
			Type: "invalid_request_error", Code: "amount_too_large", Param: "amount",
			Message: "The amount is greater than what was not refunded yet.",
		})
	}
	f := &refund{
		id: s.nextID("re"), status: succeeded, intent: i, amount: amount, created: s.options.Now().Unix(),
		metadata: metadataOf(values),
	}
	if requestFault(r) == Declined {
		f.status, f.reason = "failed", "lost_or_stolen_card"
	} else {
		i.refunded += amount
		s.counts.Refunded++
	}
	if i.method == "pm_card_pendingRefund" && f.status == succeeded {
		f.status = "pending"
	}
	s.refunds = append(s.refunds, f)
	s.event("refund.created", f.object())
	if f.status == "failed" {
		s.event("refund.failed", f.object())
	}
	return success(f.object())
}

// FinishRefund ends a refund that is pending: the money has come back, or it has failed and stays with the shop.
// Whether there was one.
func (s *Server) FinishRefund(reference string, failed bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.refunds {
		if f.id != reference || f.status != "pending" && (f.status != succeeded || !failed) {
			continue
		}
		f.status = succeeded
		if failed {
			f.status, f.reason = "failed", "lost_or_stolen_card"
			f.intent.refunded -= f.amount
			s.counts.Refunded--
			s.event("refund.failed", f.object())
		}
		s.event("refund.updated", f.object())
		return true
	}
	return false
}

func (s *Server) getRefund(r *http.Request, _ url.Values) response {
	for _, f := range s.refunds {
		if f.id == r.PathValue("id") {
			return success(f.object())
		}
	}
	return missing("id", "refund", r.PathValue("id"))
}

func (s *Server) listRefunds(_ *http.Request, values url.Values) response {
	of, found := make([]item, 0), false
	for _, f := range slices.Backward(s.refunds) {
		if wanted := values.Get("payment_intent"); wanted == "" || wanted == f.intent.id {
			of = append(of, item{f.id, func() any { return f.object() }})
			found = true
		}
	}
	if wanted := values.Get("payment_intent"); wanted != "" && !found && s.intents[wanted] == nil {
		return missing("payment_intent", "payment_intent", wanted)
	}
	return list("/v1/refunds", of, values)
}
