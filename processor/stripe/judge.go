package stripe

import (
	"errors"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	api "github.com/stripe/stripe-go/v85"

	"github.com/lastseat/lastseat/processor"
)

// judge says what an attempt means: what was seen on the wire, the answer that a success was read as, and the
// library's error. docs.stripe.com/error-low-level is the source; where it leaves room, an answer is unknown.
func judge(op processor.Operation, seen *exchange, read processor.Answer, err error) (processor.Answer, error) {
	request := seen.header.Get("Request-Id")
	if err == nil && seen.status/100 == 2 {
		read.Replayed, read.Request = seen.replayed(), request
		read.Stored = true // whatever was carried out is
		return read, nil
	}
	answer := processor.Answer{Result: processor.Unknown, Replayed: seen.replayed(), Request: request}
	said := (*api.Error)(nil)
	if !errors.As(err, &said) || said.Type == "" || said.HTTPStatusCode != seen.status {
		return noSense(seen, answer, err)
	}
	answer.Message, answer.Code = short(said.Msg), string(said.Code)
	if said.PaymentIntent != nil {
		answer.Reference = said.PaymentIntent.ID
	}
	if seen.status == http.StatusTooManyRequests {
		return processor.Answer{}, notSent(seen, said, false)
	}
	if notAccepted(op, seen.status, said) {
		return processor.Answer{}, notSent(seen, said, true)
	}
	means(seen.status, said, &answer)
	return answer, nil
}

// means is the table of statuses for errors of Stripe's whose request was worked on, or may have been.
func means(status int, said *api.Error, answer *processor.Answer) {
	switch {
	case status == http.StatusConflict:
		answer.Code = processor.CodeKeyInUse // what the other request does is not known
	case said.Type == api.ErrorTypeIdempotency:
		answer.Code, answer.Stored = processor.CodeKeyReused, true
	case status >= http.StatusInternalServerError || status == http.StatusFailedDependency:
		answer.Code = processor.CodeServer
		answer.Stored = status == http.StatusInternalServerError || answer.Replayed
	case status == http.StatusPaymentRequired, status == http.StatusBadRequest, status == http.StatusNotFound:
		answer.Result = processor.Declined
		answer.Stored = status == http.StatusPaymentRequired || answer.Replayed
		answer.Code = declineCode(said)
	default:
		answer.Code = processor.CodeBadAnswer
	}
}

// noSense is about an attempt that brought no answer of Stripe's: none at all, or a page of something in between.
func noSense(seen *exchange, answer processor.Answer, err error) (processor.Answer, error) {
	switch {
	case seen.status == 0 && !seen.connected.Load():
		return processor.Answer{}, &processor.NotSentError{Err: err}
	case seen.status == 0:
		answer.Code = processor.CodeNoAnswer
	case seen.status >= http.StatusInternalServerError:
		answer.Code, answer.Stored = processor.CodeServer, answer.Replayed
	default:
		answer.Code, answer.Stored = processor.CodeBadAnswer, answer.Replayed
	}
	if seen.status != 0 {
		answer.Message = "HTTP status " + strconv.Itoa(seen.status) + ", and not what Stripe answers"
	} else if err != nil {
		answer.Message = short(err.Error())
	}
	return answer, nil
}

func notSent(seen *exchange, said *api.Error, misconfigured bool) error {
	e := &processor.NotSentError{Err: errors.New("Stripe says: " + short(said.Msg)), Misconfigured: misconfigured}
	if seconds, err := strconv.Atoi(seen.header.Get("Retry-After")); err == nil && seconds > 0 {
		e.After = time.Duration(min(seconds, 3600)) * time.Second
	}
	return e
}

// notAccepted tells that Stripe has turned us away, and not the operation.
func notAccepted(op processor.Operation, status int, said *api.Error) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || unknownReference(op, said)
}

// unknownReference tells that Stripe doesn't know the charge that we had from it: the key is of another account, or of
// the other mode. That says nothing about the charge.
func unknownReference(op processor.Operation, said *api.Error) bool {
	return said.Code == api.ErrorCodeResourceMissing && op.Reference != "" &&
		(said.Param == "intent" || said.Param == "payment_intent" || said.Param == "id")
}

// declineCode is the reason in one word: the bank's, Stripe's, or the kind of error.
func declineCode(said *api.Error) string {
	switch {
	case said.DeclineCode != "" && said.DeclineCode != "generic_decline":
		return string(said.DeclineCode)
	case said.Code != "":
		return string(said.Code)
	}
	return string(said.Type)
}

// inOtherState tells that an operation was refused since the charge is not where it would have to be. The operation
// itself may have brought it there, under a key that Stripe has forgotten; or somebody else has.
func inOtherState(code string) bool {
	switch api.ErrorCode(code) {
	case api.ErrorCodePaymentIntentUnexpectedState, api.ErrorCodeChargeAlreadyCaptured, api.ErrorCodeChargeAlreadyRefunded,
		api.ErrorCodeChargeExpiredForCapture, api.ErrorCodeAmountTooLarge:
		return true
	}
	return false
}

// short cuts a text for people to 500 characters.
func short(text string) string {
	if utf8.RuneCountInString(text) <= 500 {
		return text
	}
	return string([]rune(text)[:499]) + "…"
}
