package stripe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	api "github.com/stripe/stripe-go/v85"

	"github.com/lastseat/lastseat/processor"
)

const (
	pageSize = 100
	// around is by how much our clock and Stripe's may differ.
	around = time.Hour
)

// recordOf is an intent without its refunds.
func recordOf(intent *api.PaymentIntent) (processor.Record, error) {
	r := processor.Record{
		Reference: intent.ID, Payment: intent.Metadata[metaPayment], Key: intent.Metadata[metaKey],
		CaptureKey: intent.Metadata[metaCaptureKey], Created: time.Unix(intent.Created, 0).UTC(),
	}
	var err1, err2 error
	r.Amount, r.Currency, err1 = fromStripe(intent.Amount, string(intent.Currency))
	r.Captured, _, err2 = fromStripe(intent.AmountReceived, string(intent.Currency))
	switch intent.Status {
	case api.PaymentIntentStatusRequiresCapture:
		r.Status = processor.StatusAuthorized
	case api.PaymentIntentStatusSucceeded:
		r.Status = processor.StatusCaptured
	case api.PaymentIntentStatusCanceled:
		r.Status = processor.StatusVoided
	case api.PaymentIntentStatusRequiresPaymentMethod:
		r.Status = processor.StatusDeclined
		if failed := intent.LastPaymentError; failed != nil {
			r.Code, r.Message = declineCode(failed), short(failed.Msg)
		}
	default: // processing, or waiting for the customer
		r.Status = processor.StatusPending
	}
	return r, errors.Join(err1, err2)
}

// answerOfIntent reads a success. What does not fit the operation is unknown: something was carried out.
func answerOfIntent(op processor.Operation, intent *api.PaymentIntent) processor.Answer {
	if intent == nil || intent.ID == "" {
		return bad("it names no charge")
	}
	record, err := recordOf(intent)
	if err != nil {
		return bad(err.Error())
	}
	answer := record.Answer(op)
	if answer.Code == processor.CodeNotDone || answer.Result == processor.Done && record.Currency != op.Currency {
		answer.Result, answer.Code = processor.Unknown, processor.CodeBadAnswer
		answer.Message = "the charge is " + string(intent.Status) + ", in " + record.Currency
	}
	return answer
}

func refundOf(refund *api.Refund) (processor.RefundRecord, error) {
	r := processor.RefundRecord{
		Reference: refund.ID, Key: refund.Metadata[metaKey], Created: time.Unix(refund.Created, 0).UTC(),
	}
	var err error
	r.Amount, _, err = fromStripe(refund.Amount, string(refund.Currency))
	switch refund.Status {
	case api.RefundStatusSucceeded:
		r.Result = processor.Done
	case api.RefundStatusFailed, api.RefundStatusCanceled:
		r.Result, r.Code = processor.Declined, string(refund.FailureReason)
		if r.Code == "" {
			r.Code = string(refund.Status)
		}
	default:
		r.Result = processor.Unknown
	}
	return r, err
}

func answerOfRefund(op processor.Operation, refund *api.Refund) processor.Answer {
	if refund == nil || refund.ID == "" {
		return bad("it names no refund")
	}
	r, err := refundOf(refund)
	if err != nil {
		return bad(err.Error())
	}
	_, currency, _ := fromStripe(0, string(refund.Currency))
	return processor.Record{
		Reference: op.Reference, Currency: currency, Refunds: []processor.RefundRecord{r},
	}.Answer(op)
}

func bad(message string) processor.Answer {
	return processor.Answer{Result: processor.Unknown, Code: processor.CodeBadAnswer, Message: short(message)}
}

// decide looks at a charge that is not where an operation would have it, and says whether the operation was carried
// out.
func (g *Gateway) decide(ctx context.Context, op processor.Operation, refused processor.Answer) processor.Answer {
	record, err := g.LookUp(ctx, processor.Query{Reference: op.Reference})
	if err != nil {
		refused.Result = processor.Unknown
		refused.Message = short(refused.Message + " (and a look at it failed: " + err.Error() + ")")
		return refused
	}
	answer := record.Answer(op)
	if answer.Code == processor.CodeNotDone { // it was refused, so it is not on its way
		return refused
	}
	answer.Stored, answer.Replayed, answer.Request = refused.Stored, refused.Replayed, refused.Request
	return answer
}

// LookUp implements [processor.Gateway].
func (g *Gateway) LookUp(ctx context.Context, query processor.Query) (processor.Record, error) {
	intent, err := g.find(ctx, query)
	if err != nil {
		return processor.Record{}, explain(err)
	}
	record, err := recordOf(intent)
	if err != nil {
		return processor.Record{}, err
	}
	record.Refunds, err = g.refundsOf(ctx, intent.ID)
	return record, err
}

func (g *Gateway) find(ctx context.Context, query processor.Query) (*api.PaymentIntent, error) {
	if query.Reference != "" {
		return g.api.V1PaymentIntents.Retrieve(ctx, query.Reference, nil)
	}
	if query.Key == "" {
		return nil, errors.New("neither a reference nor a key to look for")
	}
	// A search is quick, but it may lag behind, and not every account has it: only what it finds counts.
	found := g.api.V1PaymentIntents.Search(ctx, &api.PaymentIntentSearchParams{
		SearchParams: api.SearchParams{Query: fmt.Sprintf("metadata['%s']:'%s'", metaKey, query.Key)},
	})
	if found.Err() == nil {
		for _, intent := range found.Data() {
			if intent.Metadata[metaKey] == query.Key { // its status may be that of a minute ago
				return g.api.V1PaymentIntents.Retrieve(ctx, intent.ID, nil)
			}
		}
	}
	if query.From.IsZero() || query.To.Before(query.From) {
		return nil, errors.New("when the attempts began is not given")
	}
	params := &api.PaymentIntentListParams{CreatedRange: &api.RangeQueryParams{
		GreaterThanOrEqual: query.From.Add(-around).Unix(), LesserThanOrEqual: query.To.Add(processor.Late + around).Unix(),
	}}
	if query.Customer != "" {
		params.Customer = &query.Customer
	}
	for {
		page, next, err := g.page(ctx, params)
		if err != nil {
			return nil, err
		}
		for _, intent := range page {
			if intent.Metadata[metaKey] == query.Key {
				return intent, nil
			}
		}
		if next == "" {
			return nil, processor.ErrNotFound
		}
		params.StartingAfter = &next
	}
}

// page is one page of a list, and where the next one begins.
func (g *Gateway) page(ctx context.Context, params *api.PaymentIntentListParams) ([]*api.PaymentIntent, string, error) {
	params.Limit = api.Int64(pageSize)
	list := g.api.V1PaymentIntents.List(ctx, params)
	if err := list.Err(); err != nil {
		return nil, "", err
	}
	intents := list.Data()
	if !list.Meta().HasMore || len(intents) == 0 {
		return intents, "", nil
	}
	return intents, intents[len(intents)-1].ID, nil
}

// List implements [processor.Gateway]. The cursor is the last charge of the page before.
func (g *Gateway) List(ctx context.Context, since time.Time, cursor string) (processor.Page, error) {
	params := &api.PaymentIntentListParams{
		CreatedRange: &api.RangeQueryParams{GreaterThanOrEqual: since.Unix()},
		Expand:       []*string{api.String("data.latest_charge")},
	}
	if cursor != "" {
		params.StartingAfter = &cursor
	}
	intents, next, err := g.page(ctx, params)
	if err != nil {
		return processor.Page{}, explain(err)
	}
	page := processor.Page{Next: next}
	for _, intent := range intents {
		record, err := recordOf(intent)
		if err != nil {
			return processor.Page{}, fmt.Errorf("%s: %w", intent.ID, err)
		}
		if intent.LatestCharge != nil && intent.LatestCharge.AmountRefunded > 0 {
			if record.Refunds, err = g.refundsOf(ctx, intent.ID); err != nil {
				return processor.Page{}, err
			}
		}
		page.Records = append(page.Records, record)
	}
	return page, nil
}

func (g *Gateway) refundsOf(ctx context.Context, reference string) (refunds []processor.RefundRecord, err error) {
	params := &api.RefundListParams{PaymentIntent: &reference}
	params.Limit = api.Int64(pageSize)
	for {
		list := g.api.V1Refunds.List(ctx, params)
		if err := list.Err(); err != nil {
			return nil, explain(err)
		}
		for _, refund := range list.Data() {
			r, err := refundOf(refund)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", refund.ID, err)
			}
			refunds = append(refunds, r)
		}
		if !list.Meta().HasMore || len(list.Data()) == 0 {
			return refunds, nil
		}
		params.StartingAfter = &list.Data()[len(list.Data())-1].ID
	}
}

// explain is an error of a look, without the JSON that the library's errors are.
func explain(err error) error {
	said := (*api.Error)(nil)
	switch {
	case !errors.As(err, &said):
		return err
	case said.HTTPStatusCode == http.StatusNotFound && said.Code == api.ErrorCodeResourceMissing:
		return processor.ErrNotFound
	}
	return fmt.Errorf("an answer of Stripe with status %d: %s", said.HTTPStatusCode, short(said.Msg))
}
