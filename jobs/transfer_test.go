package jobs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

var levels = map[string]pgx.TxIsoLevel{"serializable": pgx.Serializable, "read committed": pgx.ReadCommitted}

// A deposit that was committed before a withdrawal was asked for is applied before it: the withdrawal is never refused.
func TestDepositBeforeWithdrawal(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	const customers = 8
	rounds := testdb.Soak(20, 200)
	stop, stopped := context.WithCancel(t.Context())
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	running := make(chan error, 1)
	go func() {
		running <- outbox.NewWorker(testdb.Pool(t, pool.Config().ConnString()), kinds, outbox.Settings{Batch: 10}).Run(stop)
	}()
	defer func() {
		stopped()
		if err := <-running; err != nil {
			t.Error(err)
		}
	}()

	var producers sync.WaitGroup
	for c := range customers {
		producers.Go(func() {
			id := fmt.Sprint("customer:", c)
			if _, err := pool.Exec(t.Context(), `SELECT lastseat.open_account($1, 'EUR')`, id); err != nil {
				t.Error(err)
			}
			for r := range rounds {
				key := fmt.Sprintf("%s/%d", id, r)
				for _, request := range []outbox.Request{
					{Key: key + "/in", Args: jobs.Transfer{From: "bank", To: id, Amount: 100, Currency: "EUR"}},
					{Key: key + "/out", Args: jobs.Transfer{From: id, To: "shop", Amount: 100, Currency: "EUR"}},
				} {
					if _, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{request}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	producers.Wait()
	last := make([]string, customers)
	for c := range last {
		last[c] = fmt.Sprintf("customer:%d/%d/out", c, rounds-1)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := outbox.Wait(ctx, pool, last...); err != nil {
		t.Fatal(err)
	}
	var refused int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM lastseat.requests WHERE code <> 'transferred'
		OR code IS NULL`).Scan(&refused); err != nil || refused != 0 {
		t.Errorf("%d requests were not applied (%v)", refused, err)
	}
	proven(t, pool)
}

// Money in a closed circle, while other sessions lock and change the same accounts in the opposite order, a few hundred
// times each: everything settles, retries are counted, and not a cent is lost. The conflicts are Postgres's own.
func TestConflictsWithOthers(t *testing.T) {
	t.Parallel()
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			const accounts, others, turns = 6, 3, 300
			transfers := testdb.Soak(600, 6000)
			for i := range accounts {
				exec(t, pool, `SELECT lastseat.open_account($1, 'EUR', NULL)`, fmt.Sprint("a", i))
			}
			requests := make([]outbox.Request, transfers)
			for i := range requests {
				from := rand.IntN(accounts)
				requests[i] = outbox.Request{Key: fmt.Sprint("t", i), Args: jobs.Transfer{
					From: fmt.Sprint("a", from), To: fmt.Sprint("a", (from+1+rand.IntN(accounts-1))%accounts),
					Amount: rand.Int64N(100) + 1, Currency: "EUR",
				}}
			}
			if _, err := outbox.EnqueueMany(t.Context(), pool, requests); err != nil {
				t.Fatal(err)
			}
			stop, cancel := context.WithCancel(t.Context())
			var sessions sync.WaitGroup
			var bumps atomic.Int64 // changes of others that were committed: the worker must overwrite none
			for o := range others {
				sessions.Go(func() {
					for i := 0; i < turns && stop.Err() == nil; i++ {
						// an error of theirs, a deadlock or 40001, is theirs to retry
						err := pgx.BeginTxFunc(t.Context(), pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
							if o == 0 {
								for _, id := range []string{"a5", "a0"} { // the opposite of the primary key's order
									if _, err := tx.Exec(t.Context(), `SELECT FROM lastseat.accounts WHERE id = $1 FOR UPDATE`, id); err != nil {
										return err
									}
									time.Sleep(2 * time.Millisecond)
								}
								return nil
							}
							_, err := tx.Exec(t.Context(), `UPDATE lastseat.accounts SET overdraft_limit = NULL, version = version + 1
								WHERE id = $1`, fmt.Sprint("a", rand.IntN(accounts)))
							return err
						})
						if o != 0 && err == nil {
							bumps.Add(1)
						}
						time.Sleep(time.Millisecond)
					}
				})
			}
			stats := drain(t, pool, outbox.Settings{Batch: 20, Isolation: level})
			cancel()
			sessions.Wait()
			t.Logf("%+v", stats)
			if stats.Applied != int64(transfers) || stats.Failures != 0 {
				t.Errorf("%+v", stats)
			}
			var versions, entries int64
			if err := pool.QueryRow(t.Context(), `SELECT sum(version), sum(entry_count) FROM lastseat.accounts`).Scan(&versions,
				&entries); err != nil || versions != entries+bumps.Load() {
				t.Errorf("versions sum to %d after %d entries and %d changes of others (%v)", versions, entries, bumps.Load(), err)
			}
			if level == pgx.Serializable && stats.Conflicts == 0 {
				t.Error("no conflict came about: this test has shown nothing")
			}
			proven(t, pool)
		})
	}
}

// What was asked of an account takes effect in the order in which it was asked, to the entry.
func TestEntriesStandInOrder(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	var requests []outbox.Request
	for i := range 10 {
		exec(t, pool, `SELECT lastseat.open_account($1, 'EUR', NULL)`, fmt.Sprint("a", i))
	}
	for i := range 500 {
		requests = append(requests, outbox.Request{Key: fmt.Sprintf("t%03d", i), Args: jobs.Transfer{
			From: fmt.Sprint("a", i%10), To: fmt.Sprint("a", (i*7+1)%10), Amount: int64(i + 1), Currency: "EUR",
			Description: "no. " + fmt.Sprint(i),
		}})
	}
	requests = slices.DeleteFunc(requests,
		func(r outbox.Request) bool { x := r.Args.(jobs.Transfer); return x.From == x.To })
	if _, err := outbox.EnqueueMany(t.Context(), pool, requests); err != nil {
		t.Fatal(err)
	}
	drain(t, pool, outbox.Settings{Batch: 37})
	var wrong, entries int
	err := pool.QueryRow(t.Context(), `
		SELECT count(*) FILTER (WHERE key < last_key), count(*)
		FROM (SELECT t.key, lag(t.key) OVER (PARTITION BY e.account_id ORDER BY e.version) AS last_key
		      FROM lastseat.entries e JOIN lastseat.transfers t ON t.id = e.transfer_id) x`).Scan(&wrong, &entries)
	if err != nil || wrong != 0 || entries != 2*len(requests) {
		t.Errorf("%d of %d entries are out of order (%v)", wrong, entries, err)
	}
	proven(t, pool)
}

// First use of a new account in the transaction that opens it.
func TestOpenAndUseInOneTransaction(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		for _, account := range []jobs.Account{{ID: "bank", Currency: "JPY"}, {ID: "new", Currency: "JPY",
			OverdraftLimit: new(int64)}} {
			if _, err := jobs.OpenAccount(t.Context(), tx, account); err != nil {
				return err
			}
		}
		_, err := outbox.Enqueue(t.Context(), tx, "first", jobs.Transfer{From: "bank", To: "new", Amount: 1200,
			Currency: "JPY", Metadata: []byte(`{"order": 7}`)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	drain(t, pool, outbox.Settings{})
	if o := outcome(t, pool, "first"); o.Code != jobs.CodeTransferred {
		t.Errorf("%+v", o)
	}
	var order int
	if err := pool.QueryRow(t.Context(),
		`SELECT (metadata ->> 'order')::int FROM lastseat.transfers`).Scan(&order); err != nil || order != 7 {
		t.Errorf("metadata: %d, %v", order, err)
	}
	proven(t, pool)
}
