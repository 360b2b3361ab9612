// Package reconcile compares what a card processor has with what the books say, in both directions.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/processor"
)

// The kinds of a [Difference].
const (
	NotInBooks           = "charge_not_in_books"     // the processor has money of a payment that the books don't count on
	NotAtProcessor       = "charge_not_at_processor" // the books count on a charge that the processor doesn't have
	Currency             = "currency"
	Authorized           = "authorized" // another amount is reserved
	Captured             = "captured"   // another amount was charged or captured
	RefundNotInBooks     = "refund_not_in_books"
	RefundNotAtProcessor = "refund_not_at_processor"
	RefundAmount         = "refund_amount"
)

// Difference is something that the processor has and the books don't have, or the other way round, or of another
// amount. Amounts are minor units; 0 means that it is not there.
type Difference struct {
	Kind        string `json:"kind"`
	Payment     string `json:"payment"`           // our id
	Status      string `json:"status,omitempty"`  // of the payment; empty: the books have no such payment
	Charge      string `json:"charge,omitempty"`  // the processor's id
	Refund      string `json:"refund,omitempty"`  // the processor's id
	Request     string `json:"request,omitempty"` // the key of the request that has refunded
	Currency    string `json:"currency"`
	AtProcessor int64  `json:"at_processor"`
	InBooks     int64  `json:"in_books"`
}

// Report is what a comparison has found.
type Report struct {
	Processor string    `json:"processor"`
	Since     time.Time `json:"since"`
	Agree     bool      `json:"agree"`
	Charges   int       `json:"charges"` // of ours, compared; authorizations are among them
	Refunds   int       `json:"refunds"`
	// UnderWay are payments whose processor is being asked for something right now: they are not compared.
	UnderWay    int          `json:"under_way"`
	Others      int          `json:"others"` // charges that somebody else has made there
	Differences []Difference `json:"differences"`
}

// Run compares the charges that a processor has made since a time, and the payments of that processor that have
// changed since then. It only reads. What differs is looked at again, since money moves meanwhile.
func Run(
	ctx context.Context, pool *pgxpool.Pool, name string, gateway processor.Gateway, since time.Time,
) (Report, error) {
	report := Report{Processor: name, Since: since.UTC(), Differences: []Difference{}}
	there, err := charges(ctx, gateway, since, &report)
	if err != nil {
		return report, err
	}
	// after the list: what was charged meanwhile is in the books, and is looked up
	books, err := changedSince(ctx, pool, name, since)
	if err != nil {
		return report, err
	}
	if err := addPayments(ctx, pool, name, books, slices.Collect(maps.Keys(there))); err != nil {
		return report, err
	}
	ids := slices.Collect(maps.Keys(there))
	for id := range books {
		if _, listed := there[id]; !listed {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		if err := report.payment(ctx, pool, gateway, books[id], id, there[id]); err != nil {
			return report, err
		}
	}
	report.Agree = len(report.Differences) == 0
	return report, nil
}

// charges are those that the processor has made for payments of ours since a time, by payment.
func charges(ctx context.Context, gateway processor.Gateway, since time.Time, report *Report) (
	map[string][]processor.Record, error,
) {
	there := make(map[string][]processor.Record)
	for cursor := ""; ; {
		page, err := gateway.List(ctx, since, cursor)
		if err != nil {
			return nil, &ProcessorError{fmt.Errorf("list its charges: %w", err)}
		}
		for _, record := range page.Records {
			if record.Payment == "" || record.Key == "" {
				report.Others++
				continue
			}
			there[record.Payment] = append(there[record.Payment], record)
		}
		if cursor = page.Next; cursor == "" {
			return there, nil
		}
	}
}

// ProcessorError is an error of the processor: nothing is known about differences.
type ProcessorError struct{ Err error }

func (e *ProcessorError) Error() string { return "the processor: " + e.Err.Error() }

// Unwrap returns the reason.
func (e *ProcessorError) Unwrap() error { return e.Err }

// payment compares one payment. If it differs, or its charge is not in the list, all is fetched as it is now.
func (r *Report) payment(
	ctx context.Context, pool *pgxpool.Pool, gateway processor.Gateway, p *payment, id string, there []processor.Record,
) error {
	listed := p == nil || p.reference == "" ||
		slices.ContainsFunc(there, func(r processor.Record) bool { return r.Reference == p.reference })
	if listed && len(compare(p, id, there)) == 0 {
		r.count(p, there)
		return nil
	}
	name, references := r.Processor, make([]string, 0, len(there)+1)
	for _, record := range there {
		references = append(references, record.Reference)
	}
	if !listed {
		references = append(references, p.reference)
	}
	now, err := fetch(ctx, gateway, references)
	if err != nil {
		return err
	}
	if len(compare(p, id, now)) == 0 {
		r.count(p, now)
		return nil
	}
	again := make(map[string]*payment)
	if err := addPayments(ctx, pool, name, again, []string{id}); err != nil {
		return err
	}
	r.count(again[id], now)
	r.Differences = append(r.Differences, compare(again[id], id, now)...)
	return nil
}

func fetch(ctx context.Context, gateway processor.Gateway, references []string) (now []processor.Record, err error) {
	for _, reference := range references {
		record, err := gateway.LookUp(ctx, processor.Query{Reference: reference})
		switch {
		case errors.Is(err, processor.ErrNotFound):
		case err != nil:
			return nil, &ProcessorError{fmt.Errorf("look up the charge %s: %w", reference, err)}
		default:
			now = append(now, record)
		}
	}
	return now, nil
}

func (r *Report) count(p *payment, there []processor.Record) {
	if p != nil && p.calling {
		r.UnderWay++
		return
	}
	r.Charges += len(there)
	for _, record := range there {
		r.Refunds += len(record.Refunds)
	}
}
