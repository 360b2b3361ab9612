// Package mail sends a mail for each order, through a provider's HTTP interface. It is a complete example of a call.
package mail

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/outbox"
)

// Schema creates the service's own tables.
const Schema = `
	CREATE TABLE orders (id text PRIMARY KEY, mailed text);`

// Mail is a mail. Its fields are the arguments of the request.
type Mail struct {
	Order string `json:"order"`
	To    string `json:"to"`
	Text  string `json:"text"`
}

// Kind is the name under which the mails are registered.
func (Mail) Kind() string { return "shop.mail" }

// Queue names a queue of their own, so that this worker has nothing to do with payments and seats.
func (Mail) Queue() string { return "shop" }

// PlaceOrder is the business write: the order and the request for its mail are one transaction, both or neither.
func PlaceOrder(ctx context.Context, pool *pgxpool.Pool, id, to string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO orders VALUES ($1)`, id); err != nil {
			return err
		}
		_, err := outbox.Enqueue(ctx, tx, "mail:"+id, Mail{Order: id, To: to, Text: "Thank you for " + id})
		return err
	})
}

// Provider is whoever sends mails. It knows an idempotency key for a day.
type Provider struct{ URL string }

// send makes an attempt, with no transaction open. The provider may have sent the mail although the answer is lost:
// then the same call comes again, with the same key.
func (p Provider) send(ctx context.Context, call outbox.Call, mail Mail) (outbox.Answer, error) {
	body, err := json.Marshal(mail)
	if err != nil {
		return outbox.Answer{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, bytes.NewReader(body))
	if err != nil {
		return outbox.Answer{}, err
	}
	request.Header.Set("Idempotency-Key", call.Key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return outbox.Answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	switch {
	case response.StatusCode < 300:
		return outbox.Answer{Result: outbox.Done, Code: "sent"}, nil
	case response.StatusCode == http.StatusUnprocessableEntity:
		return outbox.Answer{Result: outbox.Declined, Code: "no_such_address"}, nil
	}
	return outbox.Answer{}, fmt.Errorf("the provider says %s", response.Status) // not known: it is tried again
}

// record is called inside the lane's transaction: the order and the outcome of its request are one commit.
func record(ctx context.Context, tx pgx.Tx, mail Mail, answer outbox.Answer) (outbox.Result, error) {
	if _, err := tx.Exec(ctx, `UPDATE orders SET mailed = $2 WHERE id = $1`, mail.Order, answer.Code); err != nil {
		return outbox.Result{}, err
	}
	if answer.Result == outbox.Declined {
		return outbox.Result{Status: outbox.Applied, Code: "not_mailed"}, nil // a rejected one would be rolled back
	}
	return outbox.Result{Status: outbox.Applied, Code: "mailed"}, nil
}

// NewWorker makes a worker. Run it in the service or in a process of its own; any number may run.
func NewWorker(pool *pgxpool.Pool, provider Provider) *outbox.Worker {
	kinds := &outbox.Kinds{}
	outbox.RegisterCall(kinds, outbox.Calling[Mail]{Send: provider.send, Record: record, KeyWindow: 24 * time.Hour})
	return outbox.NewWorker(pool, kinds, outbox.Settings{Queue: Mail{}.Queue()})
}
