package txn_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/txn"
)

func TestLostReplyToCommitIsUnknownAndNotRetried(t *testing.T) {
	t.Parallel()
	pool, url := accountsURL(t)
	for _, late := range []bool{false, true} {
		want := balance(t, pool, 1)
		if late {
			want++
		}
		config, err := pgxpool.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		dial := config.ConnConfig.DialFunc
		config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			return &testdb.CutConn{Conn: conn, Late: late}, err
		}
		cut, err := pgxpool.NewWithConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer cut.Close()

		options, seen := recorder(txn.Options{})
		tries := 0
		err = txn.Run(t.Context(), cut, options, func(ctx context.Context, tx pgx.Tx) error {
			tries++
			return add(ctx, tx, 1, 1)
		})
		wantErr(t, err, outbox.ErrCommitUnknown)
		if wantRetries(t, *seen); tries != 1 {
			t.Errorf("%d tries", tries)
		}
		testdb.Exec(t, pool, `SELECT FROM accounts WHERE id = 1 FOR UPDATE`) // once the server has noticed
		if got := balance(t, pool, 1); got != want {
			t.Errorf("late %v: balance %d, want %d", late, got, want)
		}
	}
}

// A deferred constraint speaks at COMMIT. The server has answered: it is rolled back, and nothing is unknown.
func TestDeferredConstraintFailsAtCommit(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	testdb.Exec(t, pool, `CREATE TABLE cards (account int REFERENCES accounts DEFERRABLE INITIALLY DEFERRED)`)
	options, seen := recorder(txn.Options{})
	err := txn.Run(t.Context(), pool, options, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO cards VALUES (99)`)
		return errors.Join(err, add(ctx, tx, 1, 1))
	})
	wantState(t, err, "23503")
	if wantRetries(t, *seen); errors.Is(err, outbox.ErrCommitUnknown) || balance(t, pool, 1) != 100 {
		t.Errorf("%v, balance %d", err, balance(t, pool, 1))
	}
}
