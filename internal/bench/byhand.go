package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/lastseat/lastseat/jobs"
)

// maxTries is far beyond what a job needs. Whoever reaches it fails, and with it the contestant.
const maxTries = 200

// handWorker settles one request in one transaction, and writes the rows that the lane writes. Five round trips: begin,
// lock, write, complete, commit.
type handWorker[T river.JobArgs] struct {
	river.WorkerDefaults[T]
	pool      *pgxpool.Pool
	isolation pgx.TxIsoLevel
	progress  *progress
	settle    func(context.Context, pgx.Tx, *river.Job[T]) error
}

// errTooEarly is a request that a worker has taken up before the one that it follows was settled: River's jobs have no
// order.
var errTooEarly = errors.New("what it follows is still to be done")

// Work implements [river.Worker].
func (w *handWorker[T]) Work(ctx context.Context, job *river.Job[T]) error {
	for try := 1; ; try++ {
		err := pgx.BeginTxFunc(ctx, w.pool, pgx.TxOptions{IsoLevel: w.isolation}, func(tx pgx.Tx) error {
			if err := w.settle(ctx, tx, job); err != nil {
				return err
			}
			_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
			return err
		})
		if err == nil {
			w.progress.done(job.JobRow)
			return nil
		}
		if !conflict(err) && !errors.Is(err, errTooEarly) || try == maxTries {
			return fmt.Errorf("try %d: %w", try, err)
		}
		w.progress.retries.Add(1)
		// full jitter, from 2 ms, to 64 ms
		time.Sleep(rand.N(time.Millisecond << min(try, 6)))
	}
}

func conflict(err error) bool {
	pgErr := (*pgconn.PgError)(nil)
	return errors.As(err, &pgErr) && (pgErr.Code == "40001" || pgErr.Code == "40P01")
}

const (
	lockSQL = `
	SELECT id, currency, balance, held, overdraft_limit, entry_count
	FROM lastseat.accounts WHERE id = ANY ($1) ORDER BY id FOR UPDATE`

	transferSQL = `
	INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency)
	VALUES (nextval('lastseat.transfers_id_seq'), @key, @from, @to, @amount, @currency)`

	entriesSQL = `
	INSERT INTO lastseat.entries (account_id, version, transfer_id, amount, balance_after)
	VALUES (@from, @from_entry, currval('lastseat.transfers_id_seq'), -@amount::bigint, @from_balance),
	       (@to, @to_entry, currval('lastseat.transfers_id_seq'), @amount, @to_balance)`

	accountSQL = `
	UPDATE lastseat.accounts SET balance = @balance, entry_count = @entry, version = version + 1, updated_at = now()
	WHERE id = @id`

	outcomeSQL = `
	UPDATE lastseat.requests SET status = @status, code = @code, detail = @detail, attempts = @attempt, settled_at = now()
	WHERE key = @key AND status = 'pending'`
)

type account struct {
	id, currency  string
	balance, held int64
	overdraft     *int64
	entries       int64
}

func settleTransfer(ctx context.Context, tx pgx.Tx, job *river.Job[transferArgs]) error {
	args := &job.Args
	from, to, err := lockTwo(ctx, tx, args.From, args.To)
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	status, code := "rejected", refusal(from, to, args)
	if code == "" {
		status, code = "applied", jobs.CodeTransferred
		queueTransfer(batch, from, to, args)
	}
	return writeWithOutcome(ctx, tx, batch, pgx.NamedArgs{"key": args.Key, "status": status, "code": code,
		"attempt": job.Attempt, "detail": nil})
}

// lockTwo locks and reads two accounts. One that does not exist is empty.
func lockTwo(ctx context.Context, tx pgx.Tx, giver, taker string) (from, to *account, err error) {
	from, to = &account{}, &account{}
	rows, err := tx.Query(ctx, lockSQL, []string{giver, taker})
	if err != nil {
		return nil, nil, fmt.Errorf("lock accounts: %w", err)
	}
	var row account
	_, err = pgx.ForEachRow(rows, []any{&row.id, &row.currency, &row.balance, &row.held, &row.overdraft, &row.entries},
		func() error {
			if row.id == giver {
				*from = row
			} else {
				*to = row
			}
			return nil
		})
	if err != nil {
		return nil, nil, fmt.Errorf("lock accounts: %w", err)
	}
	return from, to, nil
}

func writeWithOutcome(ctx context.Context, tx pgx.Tx, batch *pgx.Batch, outcome pgx.NamedArgs) error {
	batch.Queue(outcomeSQL, outcome)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// refusal is the code of what stands against the transfer; empty: nothing.
func refusal(from, to *account, args *transferArgs) string {
	switch {
	case from.id == "" || to.id == "":
		return jobs.CodeAccountNotFound
	case from.currency != args.Currency || to.currency != args.Currency:
		return jobs.CodeCurrencyMismatch
	case from.overdraft != nil && from.balance-from.held+*from.overdraft < args.Amount:
		return jobs.CodeInsufficientFunds
	}
	return ""
}

func queueTransfer(batch *pgx.Batch, from, to *account, args *transferArgs) {
	from.balance, to.balance = from.balance-args.Amount, to.balance+args.Amount
	from.entries, to.entries = from.entries+1, to.entries+1
	batch.Queue(transferSQL, pgx.NamedArgs{
		"key": args.Key, "from": args.From, "to": args.To, "amount": args.Amount, "currency": args.Currency,
	})
	batch.Queue(entriesSQL, pgx.NamedArgs{
		"from": args.From, "from_entry": from.entries, "from_balance": from.balance, "amount": args.Amount,
		"to": args.To, "to_entry": to.entries, "to_balance": to.balance,
	})
	for _, a := range []*account{from, to} {
		batch.Queue(accountSQL, pgx.NamedArgs{"id": a.id, "balance": a.balance, "entry": a.entries})
	}
}
