package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/schema"
)

// The worker of a careful engineer who batches: River's workers hand their jobs to a settler, which settles up to 100
// of them in one transaction, with one statement a table.

const (
	handBatch   = 100
	lingerLimit = 2 * time.Millisecond // how long the settler waits for one more job
)

// handed is a job that waits for its batch, and where its worker waits.
type handed struct {
	*river.Job[transferArgs]
	done chan error
}

type batchWorker struct {
	river.WorkerDefaults[transferArgs]
	progress *progress
	handed   chan handed
}

// Work implements [river.Worker].
func (w *batchWorker) Work(ctx context.Context, job *river.Job[transferArgs]) error {
	h := handed{job, make(chan error, 1)}
	select {
	case w.handed <- h:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := <-h.done
	if err == nil {
		w.progress.done(job.JobRow)
	}
	return err
}

func inBatches(workers int) riverContestant {
	return riverContestant{schema.Name, workers, func(added *river.Workers, pool *pgxpool.Pool, p *progress) {
		w := &batchWorker{progress: p, handed: make(chan handed)}
		river.AddWorker(added, w)
		// Two: while one waits for the disk, the other works. Their batches lock accounts in one order.
		for range 2 {
			go w.settleAll(pool)
		}
	}}
}

// settleAll ends with the program: a contest has a few of them.
func (w *batchWorker) settleAll(pool *pgxpool.Pool) {
	for {
		batch := []handed{<-w.handed}
		linger := time.NewTimer(lingerLimit)
		for waits := true; waits && len(batch) < handBatch; {
			select {
			case h := <-w.handed:
				batch = append(batch, h)
			case <-linger.C:
				waits = false
			}
		}
		linger.Stop()
		err := settleTogether(context.Background(), pool, batch)
		for tries := 1; conflict(err) && tries < maxTries; tries++ {
			w.progress.retries.Add(1)
			err = settleTogether(context.Background(), pool, batch)
		}
		for _, h := range batch {
			h.done <- err
		}
	}
}

const (
	completeManySQL = `
	UPDATE lastseat.river_job SET state = 'completed', finalized_at = now()
	WHERE id = ANY (@jobs::bigint[]) AND state = 'running'`

	outcomesSQL = `
	UPDATE lastseat.requests r SET status = o.status, code = o.code, attempts = o.attempt, settled_at = now()
	FROM unnest(@keys::text[], @statuses::text[], @codes::text[], @attempts::int[]) AS o(key, status, code, attempt)
	WHERE r.key = o.key AND r.status = 'pending'`

	// The transfers' ids are drawn before, in the same round trip as the locks.
	transfersSQL = `
	INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency)
	SELECT * FROM unnest(@ids::bigint[], @transfers::text[], @from::text[], @to::text[], @amounts::bigint[],
	  @currencies::text[])`

	entriesManySQL = `
	INSERT INTO lastseat.entries (account_id, version, transfer_id, amount, balance_after)
	SELECT * FROM unnest(@accounts::text[], @versions::bigint[], @sides::bigint[], @moved::bigint[], @after::bigint[])`

	accountsSQL = `
	UPDATE lastseat.accounts a SET balance = n.balance, entry_count = n.entries, version = version + n.more,
	  updated_at = now()
	FROM unnest(@changed::text[], @balances::bigint[], @entries::bigint[], @more::bigint[])
	  AS n(id, balance, entries, more)
	WHERE a.id = n.id`
)

// settleTogether settles a batch in one transaction: four round trips.
func settleTogether(ctx context.Context, pool *pgxpool.Pool, batch []handed) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var ids []string
		for _, h := range batch {
			ids = append(ids, h.Args.From, h.Args.To)
		}
		accounts := make(map[string]*account)
		var numbers []int64
		read := &pgx.Batch{}
		read.Queue(lockSQL, ids).Query(func(rows pgx.Rows) (err error) {
			found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*account, error) {
				a := &account{}
				return a, row.Scan(&a.id, &a.currency, &a.balance, &a.held, &a.overdraft, &a.entries)
			})
			for _, a := range found {
				accounts[a.id] = a
			}
			return err
		})
		read.Queue(`SELECT nextval('lastseat.transfers_id_seq') FROM generate_series(1, $1)`, len(batch)).Query(
			func(rows pgx.Rows) (err error) {
				numbers, err = pgx.CollectRows(rows, pgx.RowTo[int64])
				return err
			})
		if err := tx.SendBatch(ctx, read).Close(); err != nil {
			return fmt.Errorf("lock accounts: %w", err)
		}
		write := writeTogether(batch, accounts, numbers)
		results := tx.SendBatch(ctx, write)
		tag, err := results.Exec() // of the jobs: one that is not running is somebody else's
		if err == nil && int(tag.RowsAffected()) != len(batch) {
			err = errors.New("a job is not running any more")
		}
		return errors.Join(err, results.Close())
	})
}

// columns are the arguments of the statements.
type columns struct {
	jobs, attempts                  []int64
	keys, statuses, codes           []string
	ids, amounts                    []int64
	transfers, from, to, currencies []string
	accounts                        []string
	versions, sides, moved, after   []int64
}

func writeTogether(batch []handed, accounts map[string]*account, numbers []int64) *pgx.Batch {
	c := &columns{}
	more := make(map[string]int64)
	for i, h := range batch {
		from, to := accounts[h.Args.From], accounts[h.Args.To]
		status, code := "rejected", refusal(from, to, &h.Args)
		if code == "" {
			status, code = "applied", jobs.CodeTransferred
			c.transfer(&h.Args, numbers[i])
			c.entry(from, numbers[i], -h.Args.Amount)
			c.entry(to, numbers[i], h.Args.Amount)
			more[from.id]++
			more[to.id]++
		}
		c.jobs, c.attempts = append(c.jobs, h.ID), append(c.attempts, int64(h.Attempt))
		c.keys, c.statuses, c.codes = append(c.keys, h.Args.Key), append(c.statuses, status), append(c.codes, code)
	}
	var changed []string
	var balances, entries, versions []int64
	for id, n := range more {
		changed, versions = append(changed, id), append(versions, n)
		balances, entries = append(balances, accounts[id].balance), append(entries, accounts[id].entries)
	}
	write := &pgx.Batch{}
	write.Queue(completeManySQL, pgx.NamedArgs{"jobs": c.jobs})
	write.Queue(transfersSQL, pgx.NamedArgs{"ids": c.ids, "transfers": c.transfers, "from": c.from, "to": c.to,
		"amounts": c.amounts, "currencies": c.currencies})
	write.Queue(entriesManySQL, pgx.NamedArgs{"accounts": c.accounts, "versions": c.versions, "sides": c.sides,
		"moved": c.moved, "after": c.after})
	write.Queue(accountsSQL, pgx.NamedArgs{"changed": changed, "balances": balances, "entries": entries,
		"more": versions})
	write.Queue(outcomesSQL, pgx.NamedArgs{"keys": c.keys, "statuses": c.statuses, "codes": c.codes,
		"attempts": c.attempts})
	return write
}

func (c *columns) transfer(args *transferArgs, id int64) {
	c.ids, c.amounts = append(c.ids, id), append(c.amounts, args.Amount)
	c.transfers, c.currencies = append(c.transfers, args.Key), append(c.currencies, args.Currency)
	c.from, c.to = append(c.from, args.From), append(c.to, args.To)
}

func (c *columns) entry(a *account, transfer, amount int64) {
	a.balance += amount
	a.entries++
	c.accounts, c.versions = append(c.accounts, a.id), append(c.versions, a.entries)
	c.sides, c.moved, c.after = append(c.sides, transfer), append(c.moved, amount), append(c.after, a.balance)
}
