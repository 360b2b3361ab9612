package jobs

import (
	"encoding/json"
	"fmt"

	"github.com/tidwall/gjson"

	"github.com/lastseat/lastseat/outbox"
)

// KindTransfer is the kind of a [Transfer].
const KindTransfer = "payment.transfer"

// Transfer moves money from one account to another, both in its currency.
//
// It is applied (transferred), or rejected: account_not_found, currency_mismatch, insufficient_funds if it would take
// the giving account below its overdraft limit (what is reserved counts as spent), or out_of_range if a balance would
// not fit into 64 bits.
type Transfer struct {
	From        string          `json:"from"`
	To          string          `json:"to"`
	Amount      int64           `json:"amount"`   // minor units, at least 1
	Currency    string          `json:"currency"` // ISO 4217
	Description string          `json:"description,omitempty"`
	Metadata    json.RawMessage `json:"metadata,omitempty"` // a JSON object
}

// Kind implements [outbox.Args].
func (Transfer) Kind() string { return KindTransfer }

func decodeTransfer(args []byte) (operation, error) {
	var t Transfer
	err := eachArg(args, t.set)
	if err == nil {
		err = t.complete()
	}
	return &t, err
}

// set takes an argument that a transfer and a booking share.
func (t *Transfer) set(name string, value gjson.Result) (bool, error) {
	switch name {
	case "from":
		return true, accountArg(name, value, &t.From)
	case "to":
		return true, accountArg(name, value, &t.To)
	case "amount":
		return true, amountArg(name, value, &t.Amount)
	case "currency":
		return true, currencyArg(name, value, &t.Currency)
	case "description":
		return true, textArg(name, value, &t.Description)
	case "metadata":
		return true, objectArg(name, value, (*[]byte)(&t.Metadata))
	}
	return false, nil
}

func (t *Transfer) complete() error {
	switch {
	case t.From == "":
		return missing("from")
	case t.To == "":
		return missing("to")
	case t.Amount == 0:
		return missing("amount")
	case t.Currency == "":
		return missing("currency")
	case t.From == t.To:
		return fmt.Errorf(`"from" and "to" are the same account, %q`, t.From)
	}
	return nil
}

func (t *Transfer) needs(s *state) { s.money.ledger.needAccounts(t.From, t.To) }

func (t *Transfer) touches(_ *state, job outbox.Job) []rowID {
	return append(touchesAccounts(t.From, t.To), rowID{table: keysTable, id: job.Key})
}

func (t *Transfer) apply(s *state, job outbox.Job) (outbox.Result, error) {
	if refused := s.money.ledger.refuseTransfer(t.From, t.To, t.Amount, t.Currency); refused != nil {
		return *refused, nil
	}
	s.money.ledger.post(t.row(job.Key))
	return applied(CodeTransferred, nil)
}

// row is the row of transfers that it becomes.
func (t *Transfer) row(key string) *transfer {
	return &transfer{
		key: key, from: t.From, to: t.To, amount: t.Amount, currency: t.Currency,
		description: t.Description, metadata: t.Metadata,
	}
}
