package reconcile

import (
	"slices"

	"github.com/lastseat/lastseat/processor"
)

// payment is what the books say. Amounts are minor units.
type payment struct {
	id, status, currency, reference string
	amount, captured, refunded      int64
	calling                         bool // its processor is being asked for something
	refunds                         []refund
}

// refund is one that the books have, of a request.
type refund struct {
	request, key, reference string
	amount                  int64
}

// stands tells whether the books count on the payment's charge.
func (p *payment) stands() bool {
	return p != nil && (p.status == "authorized" || p.status == "captured")
}

// compare says how the books and the processor differ about a payment; nil if the books have none. A payment whose
// processor is being asked is on its way to agree.
func compare(p *payment, id string, there []processor.Record) (found []Difference) {
	if p != nil && p.calling {
		return nil
	}
	known := false
	for _, record := range there {
		switch left := rest(record); {
		case p.stands() && record.Reference == p.reference:
			known = true
			found = append(found, compareCharge(p, record)...)
		case left != 0:
			found = append(found, p.difference(NotInBooks, id, record, left, 0))
		}
	}
	if p.stands() && !known {
		amount := p.captured - p.refunded
		if p.status == "authorized" {
			amount = p.amount
		}
		found = append(found, p.difference(NotAtProcessor, id, processor.Record{
			Reference: p.reference, Currency: p.currency,
		}, 0, amount))
	}
	return found
}

// rest is what the processor has of a charge that nobody has given back.
func rest(record processor.Record) int64 {
	switch record.Status {
	case processor.StatusAuthorized:
		return record.Amount
	case processor.StatusCaptured:
		return record.Captured - record.Refunded()
	}
	return 0
}

func (p *payment) difference(kind, id string, record processor.Record, there, books int64) Difference {
	d := Difference{
		Kind: kind, Payment: id, Charge: record.Reference, Currency: record.Currency, AtProcessor: there, InBooks: books,
	}
	if p != nil {
		d.Status = p.status
	}
	return d
}

// compareCharge compares the charge that a payment stands with.
func compareCharge(p *payment, record processor.Record) (found []Difference) {
	reserved, captured := int64(0), int64(0)
	switch record.Status {
	case processor.StatusAuthorized:
		reserved = record.Amount
	case processor.StatusCaptured:
		captured = record.Captured
	}
	held := int64(0)
	if p.status == "authorized" {
		held = p.amount
	}
	if record.Currency != p.currency {
		return []Difference{p.difference(Currency, p.id, record, rest(record), held+p.captured-p.refunded)}
	}
	if reserved != held {
		found = append(found, p.difference(Authorized, p.id, record, reserved, held))
	}
	if captured != p.captured {
		found = append(found, p.difference(Captured, p.id, record, captured, p.captured))
	}
	return append(found, compareRefunds(p, record)...)
}

// compareRefunds compares them one by one: two that are wrong may have the right sum.
func compareRefunds(p *payment, record processor.Record) (found []Difference) {
	ours := slices.Clone(p.refunds)
	for _, r := range record.Refunds {
		if r.Result != processor.Done {
			continue
		}
		at := slices.IndexFunc(ours, func(o refund) bool { return o.key == r.Key })
		if at < 0 {
			d := p.difference(RefundNotInBooks, p.id, record, r.Amount, 0)
			d.Refund = r.Reference
			found = append(found, d)
			continue
		}
		if ours[at].amount != r.Amount {
			d := p.difference(RefundAmount, p.id, record, r.Amount, ours[at].amount)
			d.Refund, d.Request = r.Reference, ours[at].request
			found = append(found, d)
		}
		ours = slices.Delete(ours, at, at+1)
	}
	for _, r := range ours {
		d := p.difference(RefundNotAtProcessor, p.id, record, 0, r.amount)
		d.Refund, d.Request = r.reference, r.request
		found = append(found, d)
	}
	return found
}
