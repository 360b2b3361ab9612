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
func BalanceOf(ctx context.Context, db outbox.Querier, id string) (Balance, error) {
	b := Balance{ID: id}
	err := queryOne(ctx, db, "account", id, `
		SELECT currency, balance, held, overdraft_limit, version, updated_at FROM lastseat.account($1)`,
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
func PaymentOf(ctx context.Context, db outbox.Querier, id string) (Payment, error) {
	p := Payment{ID: id}
	err := queryOne(ctx, db, "payment", id, `
		SELECT status, from_account, to_account, amount, amount_captured, amount_refunded, currency, expires_at, version
		FROM lastseat.payment($1)`,
		&p.Status, &p.From, &p.To, &p.Amount, &p.Captured, &p.Refunded, &p.Currency, &p.ExpiresAt, &p.Version)
	p.ExpiresAt = p.ExpiresAt.UTC()
	return p, err
}

func queryOne(ctx context.Context, db outbox.Querier, what, id, sql string, targets ...any) error {
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
	SELECT version, at, amount, balance_after, counterparty, coalesce(kind, ''), key, coalesce(payment_id, ''),
	       coalesce(description, '')
	FROM lastseat.statement($1, coalesce($2::timestamptz, '-infinity'), coalesce($3::timestamptz, 'infinity'), $4,
	                        nullif($5::bigint, 0))`

// Statement calls each for every entry of an account, in order, and stops at its first error. It begins after the last
// closing ([ClosingOf]). An account that is not there is an [outbox.ErrUnknown], an AfterVersion after which entries
// were closed an [outbox.ErrInvalid].
func Statement(ctx context.Context, db outbox.Querier, account string, period Period, each func(Entry) error) error {
	rows, err := db.Query(ctx, statementSQL,
		account, bound(period.From), bound(period.To), period.AfterVersion, period.MaxEntries)
	if err != nil {
		return fmt.Errorf("read a statement: %w", outbox.ContractError(err))
	}
	var e Entry
	targets := []any{
		&e.Version, &e.At, &e.Amount, &e.BalanceAfter, &e.Counterparty, &e.Kind, &e.Key, &e.Payment, &e.Description,
	}
	_, err = pgx.ForEachRow(rows, targets, func() error {
		e.At = e.At.UTC()
		return each(e)
	})
	return outbox.ContractError(err)
}

// Closing is where an account was closed: its entries up to Version are no longer shown, and may be gone.
type Closing struct {
	Version  int64     `json:"version"`
	Balance  int64     `json:"balance"`   // right after that entry, in minor units
	Through  time.Time `json:"through"`   // when that entry was settled, UTC
	ClosedAt time.Time `json:"closed_at"` // UTC
}

// ClosingOf is where an account was last closed, from which its statement goes on; nil: it was not.
func ClosingOf(ctx context.Context, db outbox.Querier, account string) (*Closing, error) {
	rows, err := db.Query(ctx, `SELECT version, balance, through, closed_at FROM lastseat.closing($1)`, account)
	var all []Closing
	if err == nil {
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Closing])
	}
	if err != nil || len(all) == 0 {
		return nil, outbox.ContractError(err)
	}
	all[0].Through, all[0].ClosedAt = all[0].Through.UTC(), all[0].ClosedAt.UTC()
	return &all[0], nil
}

// BalanceAt is what an account's balance was just before a time, in minor units of its currency. An account that is not
// there is an [outbox.ErrUnknown], a time up to which it is closed an [outbox.ErrInvalid].
func BalanceAt(ctx context.Context, db outbox.Querier, account string, at time.Time) (balance int64, err error) {
	rows, err := db.Query(ctx, `SELECT lastseat.balance_at($1, $2)`, account, at)
	if err == nil {
		balance, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
	}
	if err != nil {
		return 0, fmt.Errorf("read the balance at %v: %w", at, outbox.ContractError(err))
	}
	return balance, nil
}

// Reservation is a reservation as it is now.
type Reservation struct {
	ID        string    `json:"reservation"`
	Status    string    `json:"status"` // pending, waiting, held, confirmed, cancelled, rejected, expired
	Customer  string    `json:"customer,omitempty"`
	Items     []Item    `json:"items"`      // once it was held, or waits
	ExpiresAt time.Time `json:"expires_at"` // UTC; of no meaning once it is confirmed
	Version   int64     `json:"version"`    // goes up by one with every change
	Key       string    `json:"key"`        // of the request that holds or books it
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// ReservationOf reads a reservation. One that is not there is an [outbox.ErrUnknown].
func ReservationOf(ctx context.Context, db outbox.Querier, id string) (Reservation, error) {
	r := Reservation{ID: id}
	err := queryOne(ctx, db, "reservation", id, `
		SELECT status, coalesce(customer, ''), expires_at, items, version, key, created_at, updated_at
		FROM lastseat.reservation($1)`,
		&r.Status, &r.Customer, &r.ExpiresAt, &r.Items, &r.Version, &r.Key, &r.CreatedAt, &r.UpdatedAt)
	r.ExpiresAt, r.CreatedAt, r.UpdatedAt = r.ExpiresAt.UTC(), r.CreatedAt.UTC(), r.UpdatedAt.UTC()
	return r, err
}

// Available is how much of a resource can be taken now, and what has been taken. It counts items without a time range;
// for those with one, see [Occupied].
type Available struct {
	Resource  string `json:"resource"`
	Free      int64  `json:"available"` // capacity + overbook - held - confirmed
	Capacity  int64  `json:"capacity"`
	Overbook  int64  `json:"overbook"`
	Held      int64  `json:"held"`
	Confirmed int64  `json:"confirmed"`
	Waiting   int64  `json:"waiting"` // reservations that wait for it
}

// Availability reads the resources whose ids begin with prefix, in the order of their ids' bytes: those that come after
// the id after, at most limit of them; 0: all. It reads an index: a page costs what its rows cost, however many
// resources there are.
func Availability(ctx context.Context, db outbox.Querier, prefix, after string, limit int64) ([]Available, error) {
	const from = `lastseat.availability($1, after => nullif($2, ''), max_rows => nullif($3::bigint, 0))`
	return availability(ctx, db, from, prefix, after, limit)
}

// AvailabilityOf reads the resources of these ids, in the order of their ids. Those that are not there are left out.
func AvailabilityOf(ctx context.Context, db outbox.Querier, ids ...string) ([]Available, error) {
	return availability(ctx, db, `lastseat.availability($1::text[])`, ids)
}

func availability(ctx context.Context, db outbox.Querier, from string, args ...any) ([]Available, error) {
	const columns = `SELECT resource, available, capacity, overbook, held, confirmed, waiting FROM `
	rows, err := db.Query(ctx, columns+from, args...)
	if err != nil {
		return nil, fmt.Errorf("read what is available: %w", outbox.ContractError(err))
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Available])
	if err != nil {
		return nil, fmt.Errorf("read what is available: %w", outbox.ContractError(err))
	}
	return found, nil
}

// Occupation is a time for which a resource is taken as a whole.
type Occupation struct {
	During      TimeRange `json:"during"` // UTC
	Reservation string    `json:"reservation"`
	Status      string    `json:"status"` // held, confirmed
}

const occupiedSQL = `SELECT lower(during), upper(during), reservation, status FROM lastseat.occupied($1, $2, $3)`

// Occupied reads the times for which a resource is held or confirmed, in their order, as far as they overlap a period.
// from is included and to is not; the zero time is without bound. A resource that is not there is an
// [outbox.ErrUnknown], and a period that ends before it begins an [outbox.ErrInvalid].
func Occupied(ctx context.Context, db outbox.Querier, resource string, from, to time.Time) ([]Occupation, error) {
	if !from.IsZero() && !to.IsZero() && to.Before(from) {
		return nil, fmt.Errorf("%w: the period ends at %v, before it begins", outbox.ErrInvalid, to)
	}
	rows, err := db.Query(ctx, occupiedSQL, resource, bound(from), bound(to))
	if err != nil {
		return nil, fmt.Errorf("read what is occupied: %w", outbox.ContractError(err))
	}
	var all []Occupation
	var o Occupation
	_, err = pgx.ForEachRow(rows, []any{&o.During.Start, &o.During.End, &o.Reservation, &o.Status}, func() error {
		o.During = TimeRange{Start: o.During.Start.UTC(), End: o.During.End.UTC()}
		all = append(all, o)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what is occupied: %w", outbox.ContractError(err))
	}
	if len(all) == 0 {
		if found, err := AvailabilityOf(ctx, db, resource); err != nil || len(found) > 0 {
			return nil, err
		}
		return nil, fmt.Errorf("%w: there is no resource %q", outbox.ErrUnknown, resource)
	}
	return all, nil
}

func bound(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
