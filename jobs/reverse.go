package jobs

import (
	"fmt"

	"github.com/tidwall/gjson"

	"github.com/lastseat/lastseat/outbox"
)

// KindReverse is the kind of a [Reverse].
const KindReverse = "payment.reverse"

// Reverse takes a plain transfer back: the same amount, the other way, once.
//
// If the transfer is not settled yet, the reversal is tried again later. Then it is applied (reversed), or rejected:
// payment_not_found if the transfer was refused or the key is not that of a plain transfer, already_reversed,
// insufficient_funds of the account that was paid, out_of_range.
type Reverse struct {
	Transfer string `json:"transfer" note:"its key"` // the idempotency key of the transfer
}

// Kind implements [outbox.Args].
func (Reverse) Kind() string { return KindReverse }

func decodeReverse(args []byte) (operation, error) {
	var r Reverse
	err := eachArg(args, func(name string, value gjson.Result) (bool, error) {
		if name == "transfer" {
			return true, idArg(name, value, &r.Transfer)
		}
		return false, nil
	})
	if err == nil && r.Transfer == "" {
		err = missing("transfer")
	}
	return &r, err
}

func (r *Reverse) needs(s *state) { s.money.ledger.needTransfer(r.Transfer) }

func (r *Reverse) touches(s *state, _ outbox.Job) []rowID {
	touched := []rowID{{table: keysTable, id: r.Transfer}}
	if t := s.money.ledger.byKey[r.Transfer]; t != nil {
		touched = append(touched, touchesAccounts(t.from, t.to)...)
	}
	return touched
}

func (r *Reverse) apply(s *state, job outbox.Job) (outbox.Result, error) {
	ledger := &s.money.ledger
	t := ledger.byKey[r.Transfer]
	switch {
	case t == nil && ledger.pending[r.Transfer]:
		// Its request is scheduled for later, is tried again after an error, or is in another lane.
		return outbox.Fail(fmt.Errorf("transfer %q is not settled yet", r.Transfer)), nil
	case t == nil || t.payment != "" || t.reverses != nil:
		return outbox.Reject(CodePaymentNotFound, map[string]any{"transfer": r.Transfer}), nil
	case t.reversedBy != "":
		return outbox.Reject(CodeAlreadyReversed, map[string]any{"transfer": r.Transfer, "reversed_by": t.reversedBy}), nil
	}
	if refused := ledger.refuseTransfer(t.to, t.from, t.amount, t.currency); refused != nil {
		return *refused, nil
	}
	ledger.post(&transfer{key: job.Key, from: t.to, to: t.from, amount: t.amount, currency: t.currency, reverses: t})
	return applied(CodeReversed, nil)
}
