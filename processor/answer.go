package processor

import (
	"errors"
	"fmt"
	"time"
)

// Result is how an operation ended. Whoever branches on it treats whatever is neither [Done] nor [Declined] as
// [Unknown].
type Result string

// The results.
const (
	Done     Result = "done"     // the processor has carried it out, once
	Declined Result = "declined" // the processor has refused it for good, and nothing has moved
	Unknown  Result = "unknown"  // it may or may not have been carried out, or is not finished
)

// Answer is what is known of an operation after an attempt or a look.
type Answer struct {
	Result Result
	// Reference is the processor's id: of the refund after Refund, of the charge after the others. It may be there without
	// a Done, and it may be empty after an Unknown.
	Reference string
	// Code is the reason of a Declined or Unknown in one word: the processor's own where it gives one (card_declined,
	// insufficient_funds), or one of the codes of this package. Empty after Done.
	Code string
	// Message is what the processor says about it, for people: up to 500 characters. It is no part of any contract.
	Message string
	// Amount is what was authorized, charged, captured or refunded (after Return: in all), in minor units as in
	// [Operation]; 0 if that is not known, and after Void. Currency belongs to it. After a Done compare it with what was
	// asked for: it is what moved.
	Amount   int64
	Currency string
	// Replayed says that the processor has answered this key before, and repeats that answer.
	Replayed bool
	// Stored says that the processor has this answer under the key: the same operation, sent again, can't bring another.
	// After an Unknown that is stored nothing is sent again under the key. LookUp decides.
	Stored bool
	// Request is the processor's id of this attempt, for a question to its support. Empty where there is none.
	Request string
}

// The codes of an Unknown that are ours. Processors' codes have other names.
const (
	CodeNoAnswer  = "no_answer"  // the connection ended, or time ran out, after something was sent
	CodeBadAnswer = "bad_answer" // what came back can't be read, or does not fit what was asked for
	CodeServer    = "server_error"
	CodePending   = "pending"    // the processor works on it: look again later
	CodeKeyInUse  = "key_in_use" // another attempt with this key is being worked on right now
	CodeKeyReused = "key_reused" // this key was used for an operation of other content: nothing more may be sent under it
)

var (
	// ErrNotSent is of an attempt that has had no effect: nobody was reached, or the processor turned it away before it
	// looked at it (too many requests, a wrong API key). The same operation may be sent again. [RetryAfter] says when.
	ErrNotSent = errors.New("the processor has not worked on it")
	// ErrInvalid is of an operation that can't be sent. The next attempt would fail as well.
	ErrInvalid = errors.New("no processor can do this operation")
	// ErrNotFound says that a processor has no such charge.
	ErrNotFound = errors.New("the processor has no such charge")
)

// NotSentError is an [ErrNotSent] with its reason.
type NotSentError struct {
	Err   error
	After time.Duration // how long the processor asks us to wait; 0 if it doesn't
	// Misconfigured: people have to act, since the processor doesn't accept us (a wrong API key, another account's
	// charge).
	Misconfigured bool
}

func (e *NotSentError) Error() string { return fmt.Sprintf("%v: %v", ErrNotSent, e.Err) }

// Unwrap returns [ErrNotSent] and the reason.
func (e *NotSentError) Unwrap() []error { return []error{ErrNotSent, e.Err} }

// RetryAfter is how long the processor asks us to wait after an error of its, or 0.
func RetryAfter(err error) time.Duration {
	if notSent := (*NotSentError)(nil); errors.As(err, &notSent) {
		return notSent.After
	}
	return 0
}
