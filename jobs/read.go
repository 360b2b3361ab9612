package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// Balance is an account as it is now. Amounts are minor units of its currency.
type Balance struct {
	ID             string    `json:"account"`
	Currency       string    `json:"currency"`
	Balance        int64     `json:"balance"`
	Held           int64     `json:"held"`            // by authorizations; part of the balance
	OverdraftLimit *int64    `json:"overdraft_limit"` // nil: without bound
	Version        int64     `json:"version"`         // goes up by one with every change
	UpdatedAt      time.Time `json:"updated_at"`
}

// BalanceOf reads an account. One that is not there is an [outbox.ErrUnknown].
func BalanceOf(ctx context.Context, db outbox.Queryer, id string) (Balance, error) {
	b := Balance{ID: id}
	err := queryOne(ctx, db, "account", id, `SELECT currency, balance, held, overdraft_limit, version, updated_at FROM lastseat.account($1)`,
		&b.Currency, &b.Balance, &b.Held, &b.OverdraftLimit, &b.Version, &b.UpdatedAt)
	b.UpdatedAt = b.UpdatedAt.UTC()
	return b, err
}

// Payment is a payment as it is now. Amounts are minor units of its currency.
type Payment struct {
	ID        string    `json:"payment"`
	Status    string    `json:"status"` // pending, authorized, captured, declined, voided, expired
	From      string    `json:"from"`
	To        string    `json:"to"`
	Amount    int64     `json:"amount"` // authorized
	Captured  int64     `json:"amount_captured"`
	Refunded  int64     `json:"amount_refunded"`
	Currency  string    `json:"currency"`
	ExpiresAt time.Time `json:"expires_at"`
	Version   int64     `json:"version"` // goes up by one with every change
}

// PaymentOf reads a payment. One that is not there is an [outbox.ErrUnknown].
func PaymentOf(ctx context.Context, db outbox.Queryer, id string) (Payment, error) {
	p := Payment{ID: id}
	err := queryOne(ctx, db, "payment", id, `
		SELECT status, from_account, to_account, amount, amount_captured, amount_refunded, currency, expires_at, version FROM lastseat.payment($1)`,
		&p.Status, &p.From, &p.To, &p.Amount, &p.Captured, &p.Refunded, &p.Currency, &p.ExpiresAt, &p.Version)
	p.ExpiresAt = p.ExpiresAt.UTC()
	return p, err
}

func queryOne(ctx context.Context, db outbox.Queryer, what, id, sql string, targets ...any) error {
	rows, err := db.Query(ctx, sql, id)
	if err == nil {
		_, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) {
			return struct{}{}, row.Scan(targets...)
		})
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%w: there is no %s %q", outbox.ErrUnknown, what, id)
	case err != nil:
		return fmt.Errorf("read %s %q: %w", what, id, outbox.ContractError(err))
	}
	return nil
}

// Entry is a line of an account's statement. Amounts are minor units of its currency.
type Entry struct {
	Version      int64     `json:"version"` // 1, 2, 3 ... within the account
	At           time.Time `json:"at"`
	Amount       int64     `json:"amount"` // negative: taken from the account
	BalanceAfter int64     `json:"balance_after"`
	Counterparty string    `json:"counterparty"` // the other account
	Kind         string    `json:"kind"`         // of the request that moved it
	Key          string    `json:"key"`          // of that request
	Payment      string    `json:"payment,omitempty"`
	Description  string    `json:"description,omitempty"`
}

// Period says which entries a statement has. Its zero value: all.
type Period struct {
	From, To     time.Time // from, included, to, not included; zero: without bound
	AfterVersion int64     // the entries after this one: the last one of the page before
	MaxEntries   int64     // 0: without bound
}

const statementSQL = `
	SELECT version, at, amount, balance_after, counterparty, coalesce(kind, ''), key, coalesce(payment_id, ''), coalesce(description, '')
	FROM lastseat.statement($1, coalesce($2::timestamptz, '-infinity'), coalesce($3::timestamptz, 'infinity'), $4, nullif($5::bigint, 0))`

// Statement calls each for every entry of an account, in order, and stops at its first error. An account that is not
// there is an [outbox.ErrUnknown].
func Statement(ctx context.Context, db outbox.Queryer, account string, period Period, each func(Entry) error) error {
	rows, err := db.Query(ctx, statementSQL, account, bound(period.From), bound(period.To), period.AfterVersion, period.MaxEntries)
	if err != nil {
		return fmt.Errorf("read a statement: %w", outbox.ContractError(err))
	}
	var e Entry
	targets := []any{&e.Version, &e.At, &e.Amount, &e.BalanceAfter, &e.Counterparty, &e.Kind, &e.Key, &e.Payment, &e.Description}
	_, err = pgx.ForEachRow(rows, targets, func() error {
		e.At = e.At.UTC()
		return each(e)
	})
	return outbox.ContractError(err)
}

func bound(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
