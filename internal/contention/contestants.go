package main

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/txn"
)

const currency = "EUR"

// contestant is a mechanism.
type contestant struct {
	name   string
	colour color.Color // of its line in the plot
	// withdraw does one withdrawal, however often it has to try, and tells whether the account had that much.
	withdraw func(context.Context, *client, withdrawal) (bool, error)
	lane     bool // asks a lane that settles meanwhile
	asksOnly bool // and does not wait: what counts is when all is settled
}

const (
	byRowLock      = "row lock"
	bySerializable = "SERIALIZABLE"
)

// The colours are Okabe and Ito's, which all can tell apart.
var contestants = []contestant{
	{name: byRowLock, colour: rgb(0x0072B2), withdraw: transaction(pgx.ReadCommitted, lockRow)},
	{name: "row lock, same rows", colour: rgb(0x000000), withdraw: withRecords},
	{name: "version", colour: rgb(0xE69F00), withdraw: optimistic},
	{name: bySerializable, colour: rgb(0xD55E00), withdraw: transaction(pgx.Serializable, look)},
	{name: "advisory lock", colour: rgb(0x56B4E9), withdraw: transaction(pgx.ReadCommitted, lockAdvisory)},
	{name: "one statement", colour: rgb(0x999999), withdraw: oneStatement},
	{name: "lane, waiting", colour: rgb(0x009E73), withdraw: askAndWait, lane: true},
	{name: "lane, asking", colour: rgb(0xCC79A7), withdraw: ask, lane: true, asksOnly: true},
}

// withdrawal is a request; a negative amount is paid in.
type withdrawal struct {
	key     string
	account int
	amount  int64
}

// client is one of those who withdraw, with a connection of its own.
type client struct {
	*arena
	conn               *pgx.Conn
	retries, deadlocks int64
}

// forEver is how often conflicts are repeated: a withdrawal that was given up would have no latency.
const forEver = 1 << 30

func (c *client) retried(r txn.Retry) {
	c.retries++
	if pgErr := (*pgconn.PgError)(nil); errors.As(r.Err, &pgErr) && pgErr.Code == "40P01" {
		c.deadlocks++
	}
}

const (
	lookSQL     = `SELECT balance, version FROM accounts WHERE id = $1`
	lockRowSQL  = `SELECT balance, version FROM accounts WHERE id = $1 FOR UPDATE`
	advisorySQL = `SELECT pg_advisory_xact_lock($1)`
	updateSQL   = `UPDATE accounts SET balance = $2, version = version + 1 WHERE id = $1`
	versionSQL  = updateSQL + ` AND version = $3`
	movementSQL = `INSERT INTO movements (key, account, amount, balance_after) VALUES ($1, $2, $3, $4)`

	askedSQL = `
		INSERT INTO asked (key, kind, status, requested_at, settled_at) VALUES ($1, 'withdrawal', $2, now(), now())`
	// The bank's row is not touched: then everybody would wait for it.
	entriesSQL = `
		INSERT INTO entries (key, account, amount, balance_after)
		VALUES ($1, $2, -$3::bigint, $4), ($1, -1, $3, NULL)`

	oneStatementSQL = `
		WITH taken AS (UPDATE accounts SET balance = balance - $2, version = version + 1 WHERE id = $1 AND balance >= $2
		  RETURNING balance),
		     moved AS (INSERT INTO movements (key, account, amount, balance_after) SELECT $3, $1, $2, balance
		       FROM taken RETURNING 1)
		SELECT count(*) FROM moved`
)

type lookFunc func(ctx context.Context, tx pgx.Tx, account int) (balance, version int64, err error)

func look(ctx context.Context, tx pgx.Tx, account int) (balance, version int64, err error) {
	err = tx.QueryRow(ctx, lookSQL, account).Scan(&balance, &version)
	return balance, version, err
}

func lockRow(ctx context.Context, tx pgx.Tx, account int) (balance, version int64, err error) {
	err = tx.QueryRow(ctx, lockRowSQL, account).Scan(&balance, &version)
	return balance, version, err
}

// lockAdvisory looks in a second statement: the snapshot of the first is older than its lock.
func lockAdvisory(ctx context.Context, tx pgx.Tx, account int) (balance, version int64, err error) {
	if _, err := tx.Exec(ctx, advisorySQL, account); err != nil {
		return 0, 0, err
	}
	return look(ctx, tx, account)
}

// transaction is: look, decide in code, change, in four round trips with BEGIN and COMMIT. What look locks, or the
// level, makes it right.
func transaction(level pgx.TxIsoLevel, look lookFunc) func(context.Context, *client, withdrawal) (bool, error) {
	return func(ctx context.Context, c *client, w withdrawal) (applied bool, err error) {
		err = txn.Run(ctx, c.conn, txn.Options{Isolation: level, Retries: forEver, OnRetry: c.retried},
			func(ctx context.Context, tx pgx.Tx) error {
				balance, _, err := look(ctx, tx, w.account)
				applied = err == nil && balance >= w.amount
				if !applied {
					return err
				}
				batch := &pgx.Batch{}
				batch.Queue(updateSQL, w.account, balance-w.amount)
				batch.Queue(movementSQL, w.key, w.account, w.amount, balance-w.amount)
				return tx.SendBatch(ctx, batch).Close()
			})
		return applied, err
	}
}

// withRecords writes what the lane keeps of a withdrawal, in one round trip: that it was asked for and what became of
// it, the withdrawal, and two entries.
func withRecords(ctx context.Context, c *client, w withdrawal) (applied bool, err error) {
	err = txn.Run(ctx, c.conn, txn.Options{Isolation: pgx.ReadCommitted, Retries: forEver, OnRetry: c.retried},
		func(ctx context.Context, tx pgx.Tx) error {
			balance, _, err := lockRow(ctx, tx, w.account)
			if err != nil {
				return err
			}
			batch, status := &pgx.Batch{}, outbox.Rejected
			if applied = balance >= w.amount; applied {
				status = outbox.Applied
				batch.Queue(updateSQL, w.account, balance-w.amount)
				batch.Queue(movementSQL, w.key, w.account, w.amount, balance-w.amount)
				batch.Queue(entriesSQL, w.key, w.account, w.amount, balance-w.amount)
			}
			batch.Queue(askedSQL, w.key, status)
			return tx.SendBatch(ctx, batch).Close()
		})
	return applied, err
}

// optimistic waits between its tries as txn.Run does.
func optimistic(ctx context.Context, c *client, w withdrawal) (applied bool, err error) {
	for try := 0; ; try++ {
		err := txn.Run(ctx, c.conn, txn.Options{Isolation: pgx.ReadCommitted, Retries: forEver, OnRetry: c.retried},
			func(ctx context.Context, tx pgx.Tx) error {
				balance, version, err := look(ctx, tx, w.account)
				applied = err == nil && balance >= w.amount
				if !applied {
					return err
				}
				batch, changed := &pgx.Batch{}, int64(0)
				batch.Queue(versionSQL, w.account, balance-w.amount, version).Exec(func(tag pgconn.CommandTag) error {
					changed = tag.RowsAffected()
					return nil
				})
				batch.Queue(movementSQL, w.key, w.account, w.amount, balance-w.amount)
				if err := tx.SendBatch(ctx, batch).Close(); err != nil {
					return err
				}
				if changed != 1 {
					return txn.ErrStale
				}
				return nil
			})
		if !errors.Is(err, txn.ErrStale) {
			return applied, err
		}
		c.retries++
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(rand.N(min(5*time.Millisecond<<min(try, 16), time.Second) + 1)):
		}
	}
}

func oneStatement(ctx context.Context, c *client, w withdrawal) (applied bool, err error) {
	var moved int
	err = c.conn.QueryRow(ctx, oneStatementSQL, w.account, w.amount, w.key).Scan(&moved)
	return moved == 1, err
}

func ask(ctx context.Context, c *client, w withdrawal) (bool, error) {
	account := fmt.Sprint("account-", w.account)
	args := jobs.Transfer{From: account, To: "bank", Amount: w.amount, Currency: currency}
	if w.amount < 0 {
		args = jobs.Transfer{From: "bank", To: account, Amount: -w.amount, Currency: currency}
	}
	batch := []outbox.Request{{Key: w.key, Args: args}}
	_, err := outbox.EnqueueMany(ctx, c.conn, batch)
	return false, err
}

func askAndWait(ctx context.Context, c *client, w withdrawal) (bool, error) {
	if _, err := ask(ctx, c, w); err != nil {
		return false, err
	}
	outcomes, err := outbox.Wait(ctx, c.pool, w.key)
	if err != nil {
		return false, err
	}
	return outcomes[0].Status == outbox.Applied, nil
}
