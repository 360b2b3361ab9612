package processor

import (
	"context"
	"fmt"
	"time"
)

// Gateway is a card processor. Its methods may be called by several goroutines at a time. Each of the first five makes
// at most one attempt and returns when the context ends, at the latest.
//
// An error means that this attempt has had no effect: errors.Is tells [ErrNotSent] (send the same operation again
// later) from [ErrInvalid] (never send it again). An earlier attempt whose answer was unknown stays unknown all the
// same. Everything else is an [Answer].
type Gateway interface {
	// Authorize reserves an amount on a card. It is captured or voided later; the processor lets go of it by itself
	// after some days.
	Authorize(ctx context.Context, op Operation) (Answer, error)
	// Charge reserves and captures in one step.
	Charge(ctx context.Context, op Operation) (Answer, error)
	// Capture takes authorized money, or a part of it, and lets go of the rest.
	Capture(ctx context.Context, op Operation) (Answer, error)
	// Void lets go of authorized money.
	Void(ctx context.Context, op Operation) (Answer, error)
	// Refund gives captured money back, all or a part of it.
	Refund(ctx context.Context, op Operation) (Answer, error)

	// LookUp fetches a charge as the processor has it now. [ErrNotFound] if there is none; any other error says nothing.
	//
	// A request that was cut off may arrive late. So a charge that is not there is only proof that there will be none if
	// the last attempt began longer ago than [Late].
	LookUp(ctx context.Context, query Query) (Record, error)
	// List returns the charges that the processor has made since a time, the newest first, in pages: an empty cursor is
	// the first page, and [Page.Next] names the one after it. Charges of others than us have no Payment and no Key.
	List(ctx context.Context, since time.Time, cursor string) (Page, error)

	// KeyWindow is how long after its first use a key surely keeps the processor from carrying an operation out twice.
	// After it nothing is sent again under that key, and LookUp decides.
	KeyWindow() time.Duration
}

// Late is how long a request that was cut off may still be on its way: [Gateway.LookUp] says why it matters. It is far
// beyond the time that any of the processor's requests takes.
const Late = 10 * time.Minute

// Kind is what an operation asks for.
type Kind string

// The kinds of operation: one for each method of [Gateway], and Return.
const (
	Authorize Kind = "authorize"
	Charge    Kind = "charge"
	Capture   Kind = "capture"
	Void      Kind = "void"
	Refund    Kind = "refund"
	// Return gives back whatever there is of a charge: it lets go of what is reserved, or refunds what is left. It is done
	// when nothing is left, whoever has given it back.
	Return Kind = "return"
)

// Send makes one attempt at an operation: it calls the method of its kind. For a [Return] it looks first.
func Send(ctx context.Context, gateway Gateway, op Operation) (Answer, error) {
	switch op.Kind {
	case Authorize:
		return gateway.Authorize(ctx, op)
	case Charge:
		return gateway.Charge(ctx, op)
	case Capture:
		return gateway.Capture(ctx, op)
	case Void:
		return gateway.Void(ctx, op)
	case Refund:
		return gateway.Refund(ctx, op)
	case Return:
		return giveBack(ctx, gateway, op)
	}
	return Answer{}, fmt.Errorf("%w: its kind is %q", ErrInvalid, op.Kind)
}
