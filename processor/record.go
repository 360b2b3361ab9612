package processor

import (
	"slices"
	"time"
)

// Query says which charge is looked up: by Reference if it is there, by Key otherwise.
type Query struct {
	// Reference is the processor's id of the charge.
	Reference string
	// Key is that of the operation that made the charge, an Authorize or a Charge.
	Key string
	// From and To are when the first and the last attempt began, by our clock. A search by Key looks at this time and
	// somewhat around it, since the processor's clock is another.
	From, To time.Time
	// Customer is that of the operation, if it has one. It shortens a search by Key.
	Customer string
}

// Status is where a charge stands at the processor.
type Status string

// The statuses.
const (
	StatusAuthorized Status = "authorized" // money is reserved
	StatusCaptured   Status = "captured"   // money was taken; refunds are counted apart
	StatusVoided     Status = "voided"     // let go, by us or by the processor after its time
	StatusDeclined   Status = "declined"   // no money is reserved; the card was refused
	StatusPending    Status = "pending"    // not decided yet
)

// Record is a charge as the processor has it. Amounts are in minor units as in [Operation].
type Record struct {
	Reference string
	// Payment and Key are what we gave with it: our id of the payment, and the key of the Authorize or Charge. Empty for
	// charges that others have made.
	Payment, Key string
	Status       Status
	Currency     string
	Amount       int64 // authorized or charged, or what was asked for
	Captured     int64
	CaptureKey   string // the key of the Capture, if the processor has it
	Code         string // why it was declined
	Message      string
	Created      time.Time // by the processor's clock, UTC
	Refunds      []RefundRecord
}

// RefundRecord is one refund of a charge.
type RefundRecord struct {
	Reference string
	Key       string // of our Refund; empty for a refund that others have made
	Amount    int64
	Result    Result // Declined if it has failed or was called off, Unknown while it is pending
	Code      string // why it has failed
	Created   time.Time
}

// Refunded is the sum of the refunds that are done.
func (r Record) Refunded() (sum int64) {
	for _, refund := range r.Refunds {
		if refund.Result == Done {
			sum += refund.Amount
		}
	}
	return sum
}

// Page is a part of a list.
type Page struct {
	Records []Record
	Next    string // the cursor of the next page; empty after the last one
}

// CodeNotDone is of an operation that a look has found not to have been carried out.
const CodeNotDone = "not_done"

// Answer says whether an operation was carried out on this charge. The record has to be that of the operation: found
// by its key (Authorize, Charge) or its reference (the others).
//
// A charge is captured once and voided once. So a Capture and a Void are done when the charge is captured or voided,
// even if somebody did that at the processor's own site; the answer's amount is what was captured, and may differ.
//
// A Declined with [CodeNotDone] is as of the record: an attempt that is still on its way may yet change it, so it
// only counts if the last one began longer than [Late] before the look.
func (r Record) Answer(op Operation) Answer {
	answer := Answer{Result: Declined, Code: CodeNotDone, Reference: r.Reference, Currency: r.Currency}
	switch {
	case r.Status == StatusPending && op.Kind != Refund:
		answer.Result, answer.Code = Unknown, CodePending
	case op.starts() && r.Key != op.Key, !op.starts() && r.Reference != op.Reference:
		answer.Result, answer.Code = Unknown, CodeBadAnswer
		answer.Message = "this is the record of another charge"
	case op.starts() && r.Status == StatusDeclined:
		answer.Code, answer.Message = r.Code, r.Message
	case op.Kind == Refund:
		r.answerRefund(op, &answer)
	case op.Kind == Return:
		r.answerReturn(&answer)
	case slices.Contains(carriedOut[op.Kind], r.Status):
		answer.Result, answer.Code, answer.Amount = Done, "", r.Amount
		switch op.Kind {
		case Capture:
			answer.Amount = r.Captured
		case Void:
			answer.Amount = 0
		}
	}
	return answer
}

// carriedOut are the statuses that say so, by the kind of operation.
var carriedOut = map[Kind][]Status{
	Authorize: {StatusAuthorized, StatusCaptured},
	Charge:    {StatusCaptured},
	Capture:   {StatusCaptured},
	Void:      {StatusVoided},
}

func (r Record) answerRefund(op Operation, answer *Answer) {
	answer.Reference = ""
	for _, refund := range r.Refunds {
		if refund.Key == op.Key {
			answer.Result, answer.Reference, answer.Amount = refund.Result, refund.Reference, refund.Amount
			switch refund.Result {
			case Done:
				answer.Code = ""
			case Unknown:
				answer.Code = CodePending
			default:
				answer.Code, answer.Amount = refund.Code, 0
			}
		}
	}
}
