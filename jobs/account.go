package jobs

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// Account is an account to be opened.
type Account struct {
	ID       string
	Currency string // ISO 4217
	// OverdraftLimit is how far below zero the account may go, in minor units; nil: without bound.
	OverdraftLimit *int64
	// IfMissing makes an open account a duplicate whatever its currency and limit are.
	IfMissing bool
}

const openAccountSQL = `SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.open_account($1, $2, $3, $4) r`

// OpenAccount opens an account in the caller's transaction, at once. An open account with the same currency and limit is
// a duplicate; with others it is an [outbox.ErrKeyReused].
func OpenAccount(ctx context.Context, tx pgx.Tx, account Account) (outbox.Receipt, error) {
	var r outbox.Receipt
	err := tx.QueryRow(ctx, openAccountSQL, account.ID, account.Currency, account.OverdraftLimit, account.IfMissing).
		Scan(&r.Key, &r.Kind, &r.Status, &r.Duplicate)
	return r, outbox.ContractError(err)
}
