package jobs

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

const defineCurrencySQL = `SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.define_currency($1, $2) r`

// DefineCurrency defines a currency that accounts can have, in the caller's transaction, at once: points, tokens, a
// code that is newer than this release. Its code has 3 to 12 capital letters and digits; digits are its decimals, 0 to
// 18. If
// it is there with as many digits, the receipt is a duplicate; with others the error is an [outbox.ErrKeyReused].
func DefineCurrency(ctx context.Context, tx pgx.Tx, code string, digits int) (outbox.Receipt, error) {
	return define(ctx, tx, defineCurrencySQL, code, digits)
}

const currencySQL = `SELECT c.digits FROM lastseat.currency($1) c`

// DigitsOf returns the decimals of a currency of the database; pgx.ErrNoRows: there is no such currency.
func DigitsOf(ctx context.Context, db outbox.Querier, code string) (digits int, err error) {
	rows, err := db.Query(ctx, currencySQL, code)
	if err != nil {
		return 0, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
}
