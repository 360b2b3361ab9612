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
	// IfMissing leaves an open account as it is, whatever its currency and limit are: the receipt is a duplicate.
	IfMissing bool
}

const openAccountSQL = `
	SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.open_account($1, $2, $3, $4) r`

// OpenAccount opens an account in the caller's transaction, at once. If it is open with the same currency and limit,
// the receipt is a duplicate; with others the error is an [outbox.ErrKeyReused].
func OpenAccount(ctx context.Context, tx pgx.Tx, account Account) (outbox.Receipt, error) {
	return define(ctx, tx, openAccountSQL, account.ID, account.Currency, account.OverdraftLimit, account.IfMissing)
}
