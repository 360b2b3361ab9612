package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// Races between those who ask, and between workers for the lane.

// askedBy asks in a transaction of that isolation level, and again if that has lost to another one, as every service
// does.
func (a *arena) askedBy(level pgx.TxIsoLevel, ask func(tx pgx.Tx) error) error {
	for {
		err := pgx.BeginTxFunc(a.Context(), a.pool, pgx.TxOptions{IsoLevel: level}, ask)
		if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && (pgErr.Code == "40001" || pgErr.Code == "40P01") {
			continue
		}
		return err
	}
}

func TestFiftyAskAtOnce(t *testing.T) {
	t.Parallel()
	const callers = 50
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rounds := testdb.Soak(3, 40)
			// Both kinds in one arena: what costs most is fifty sessions.
			a := newArenaFor(t, callers, 1, outbox.Settings{Isolation: level})
			for kind, args := range map[string]func(round int) outbox.Args{
				"transfer": func(int) outbox.Args { return jobs.Transfer{From: "ada", To: "shop", Amount: 100, Currency: "EUR"} },
				"authorize": func(round int) outbox.Args { // each caller reckons the time anew
					return jobs.Authorize{Payment: fmt.Sprint("p", round), From: "ada", To: "shop", Amount: 100, Currency: "EUR",
						ExpiresAt: time.Now().Add(15 * time.Minute)}
				},
			} {
				for round := range rounds {
					a.askedOnce(callers, level, fmt.Sprint(kind, round), func() outbox.Args { return args(round) })
				}
			}
			for round := range rounds {
				a.ask(fmt.Sprint("void", round), jobs.Void{Payment: fmt.Sprint("p", round)})
				if code := a.codes(fmt.Sprint("void", round))[0]; code != jobs.CodeVoided {
					t.Error(code)
				}
			}
			a.ends(100 * int64(rounds)) // the transfers
		})
	}
}

// askedOnce has so many ask for one key at once: one is the first, and the others are told of their duplicate.
func (a *arena) askedOnce(callers int, level pgx.TxIsoLevel, key string, args func() outbox.Args) {
	a.Helper()
	var mu sync.Mutex
	answers := make(map[outbox.Receipt]int)
	ask := func() {
		var receipt outbox.Receipt
		err := a.askedBy(level, func(tx pgx.Tx) (err error) {
			receipt, err = outbox.Enqueue(a.Context(), tx, key, args())
			return err
		})
		if err != nil {
			a.Error(err)
		}
		receipt.Status = "" // pending, or meanwhile applied
		mu.Lock()
		answers[receipt]++
		mu.Unlock()
	}
	atOnce(slices.Repeat([]func(){ask}, callers)...)
	first := outbox.Receipt{Key: key, Kind: args().Kind()}
	same := first
	same.Duplicate = true
	if len(answers) != 2 || answers[first] != 1 || answers[same] != callers-1 {
		a.Errorf("%+v, want one answer to the first and %d to its duplicates", answers, callers-1)
	}
	if code := a.codes(key)[0]; code != jobs.CodeTransferred && code != jobs.CodeAuthorized {
		a.Errorf("%s: %s", key, code)
	}
}

// Money goes to and fro between two accounts that may not go below zero, asked for by many, settled by workers that
// contend for the lanes and are stopped one after the other.
func TestToAndFro(t *testing.T) {
	t.Parallel()
	settings := settingsOf(map[string]outbox.Settings{
		"one lane":          {Batch: 20},
		"2 lanes":           {Batch: 20, Lanes: 2},
		"4, read committed": {Batch: 20, Lanes: 4, Isolation: pgx.ReadCommitted},
	}, map[string]outbox.Settings{
		"one, read committed": {Batch: 20, Isolation: pgx.ReadCommitted},
		"2, read committed":   {Batch: 20, Lanes: 2, Isolation: pgx.ReadCommitted},
		"3 lanes":             {Batch: 20, Lanes: 3},
		"3, read committed":   {Batch: 20, Lanes: 3, Isolation: pgx.ReadCommitted},
		"4 lanes":             {Batch: 20, Lanes: 4},
	})
	for name, settings := range settings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 1, settings)
			exec(t, a.pool, `SELECT lastseat.open_account('to', 'EUR'), lastseat.open_account('fro', 'EUR')`)
			a.ask("fund-to", jobs.Transfer{From: "ada", To: "to", Amount: 500, Currency: "EUR"})
			a.ask("fund-fro", jobs.Transfer{From: "ada", To: "fro", Amount: 500, Currency: "EUR"})
			a.codes("fund-to", "fund-fro")
			a.stop()

			var workers []*outbox.Worker
			var stops []func()
			var running sync.WaitGroup
			for range 4 {
				ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
				defer stop()
				kinds := &outbox.Kinds{}
				jobs.Register(kinds)
				worker := outbox.NewWorker(testdb.Pool(t, a.pool.Config().ConnString()), kinds, settings)
				workers, stops = append(workers, worker), append(stops, stop)
				running.Go(func() {
					if err := worker.Run(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			const producers, together = 4, 5
			each := testdb.Soak(15, 1000)
			var asked []func()
			keys := make([]string, 0, producers*each*together)
			for p := range producers {
				from, to := "to", "fro"
				if p%2 == 1 {
					from, to = to, from
				}
				for n := range each * together {
					keys = append(keys, fmt.Sprintf("%d/%d", p, n))
				}
				asked = append(asked, func() {
					for r := range each {
						requests := make([]outbox.Request, together)
						for n := range requests {
							requests[n] = outbox.Request{Key: fmt.Sprintf("%d/%d", p, r*together+n), Args: jobs.Transfer{From: from, To: to,
								Amount: 1 + rand.Int64N(100), Currency: "EUR"}}
						}
						if _, err := outbox.EnqueueMany(t.Context(), a.pool, requests); err != nil {
							t.Error(err)
						}
						if p < 3 && r == each*(p+1)/4 {
							stops[p]() // one remains
						}
					}
				})
			}
			atOnce(asked...)
			transferred := 0
			for i, code := range a.codes(keys...) {
				switch code {
				case jobs.CodeTransferred:
					transferred++
				case jobs.CodeInsufficientFunds:
				default:
					t.Errorf("%s: %s", keys[i], code)
				}
			}
			stops[3]()
			running.Wait()
			conflicts := int64(0)
			for _, worker := range workers {
				if conflicts += worker.Stats().Conflicts; worker.Stats().Failures != 0 {
					t.Errorf("%+v: a race has cost a job an attempt", worker.Stats())
				}
			}
			t.Logf("%d of %d transferred, %d conflicts", transferred, len(keys), conflicts)
			if sum := testdb.Scalar[int64](t, a.pool, `SELECT sum(balance)::bigint FROM lastseat.accounts
				WHERE id IN ('to', 'fro')`); sum != 1000 || transferred == 0 {
				t.Errorf("the two have %d together, want 1000", sum)
			}
			proven(t, a.pool)
		})
	}
}

// Several services use a new account for the first time, each opens it in its own transaction, and none waits for
// another's worker.
func TestFirstUseByMany(t *testing.T) {
	t.Parallel()
	const services = 8
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, outbox.Settings{Isolation: level})
			rounds := testdb.Soak(10, 200)
			for round := range rounds {
				account := fmt.Sprint("new", round)
				var runners []func()
				var keys []string
				for s := range services {
					key := fmt.Sprintf("%s/%d", account, s)
					keys = append(keys, key)
					runners = append(runners, func() {
						err := a.askedBy(level, func(tx pgx.Tx) error {
							if _, err := jobs.OpenAccount(t.Context(), tx, jobs.Account{ID: account, Currency: "EUR"}); err != nil {
								return err
							}
							_, err := outbox.Enqueue(t.Context(), tx, key, jobs.Authorize{Payment: key, From: account, To: "shop",
								Amount: 10, Currency: "EUR"})
							return err
						})
						if err != nil {
							t.Errorf("%s: %v", key, err)
						}
					})
				}
				atOnce(runners...)
				for i, code := range a.codes(keys...) {
					if code != jobs.CodeAuthorized {
						t.Errorf("%s: %s", keys[i], code)
					}
				}
				if b, err := jobs.BalanceOf(t.Context(), a.pool, account); err != nil || b.Held != 10*services || b.Balance != 0 ||
					b.Version != services {
					t.Errorf("%+v, %v", b, err)
				}
			}
			a.ends(0)
		})
	}
}

// What funds a request was committed before that was asked for, by another connection: it is never refused.
func TestFundedByAnother(t *testing.T) {
	t.Parallel()
	const customers = 8
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, outbox.Settings{Batch: 7, Isolation: level})
			rounds := testdb.Soak(30, 600)
			var services sync.WaitGroup
			load, loaded := context.WithCancel(t.Context())
			for p := range 3 { // the lane is busy with others
				services.Go(func() {
					for n := 0; load.Err() == nil && n < 4000; n++ {
						a.ask(fmt.Sprintf("load%d/%d", p, n), jobs.Transfer{From: "bank", To: "shop", Amount: 1, Currency: "EUR"})
					}
				})
			}
			var pairs sync.WaitGroup
			for c := range customers {
				id := fmt.Sprint("customer:", c)
				exec(t, a.pool, `SELECT lastseat.open_account($1, 'EUR')`, id)
				funded := make(chan int)
				pairs.Go(func() {
					defer close(funded)
					for r := range rounds {
						a.ask(fmt.Sprintf("%s/%d/in", id, r), jobs.Transfer{From: "bank", To: id, Amount: 100, Currency: "EUR"})
						funded <- r
					}
				})
				pairs.Go(func() {
					for r := range funded {
						key := fmt.Sprintf("%s/%d/out", id, r)
						if r%2 == 0 {
							a.ask(key, jobs.Transfer{From: id, To: "shop", Amount: 100, Currency: "EUR"})
							continue
						}
						a.ask(key, jobs.Authorize{Payment: key, From: id, To: "shop", Amount: 100, Currency: "EUR"})
						a.ask(key+"/capture", jobs.Capture{Payment: key})
					}
				})
			}
			pairs.Wait()
			loaded()
			services.Wait()
			a.ask("last", jobs.Transfer{From: "bank", To: "shop", Amount: 1, Currency: "EUR"})
			a.codes("last")
			if refused := testdb.Scalar[int](t, a.pool,
				`SELECT count(*)::int FROM lastseat.requests WHERE status <> 'applied'`); refused != 0 {
				t.Errorf("%d requests were not applied", refused)
			}
			a.stop()
			proven(t, a.pool)
		})
	}
}

// Two services use one key for two things: one has it, the other an error, and of its business row nothing is left. If
// the first thinks better of it, the other has it.
func TestOneKeyForTwoThings(t *testing.T) {
	t.Parallel()
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 1, outbox.Settings{Isolation: level})
			exec(t, a.pool, `CREATE TABLE public.orders (key text, amount bigint)`)
			rounds := testdb.Soak(40, 800)
			changesItsMind := errors.New("changed its mind")
			shop := int64(0)
			for round := range rounds {
				key := fmt.Sprint("k", round)
				var errs [2]error
				order := func(n int) func() {
					return func() {
						errs[n] = a.askedBy(level, func(tx pgx.Tx) error {
							amount := int64(n + 1)
							if _, err := tx.Exec(t.Context(), `INSERT INTO public.orders VALUES ($1, $2)`, key, amount); err != nil {
								return err
							}
							if _, err := outbox.Enqueue(t.Context(), tx, key, jobs.Transfer{From: "ada", To: "shop", Amount: amount,
								Currency: "EUR"}); err != nil {
								return err
							}
							if n == 0 && round%4 == 0 {
								return changesItsMind
							}
							return nil
						})
					}
				}
				atOnce(order(0), order(1))
				var won int
				switch {
				case errs[0] == nil && errors.Is(errs[1], outbox.ErrKeyReused):
					won = 0
				case errs[1] == nil && (errors.Is(errs[0], outbox.ErrKeyReused) || errors.Is(errs[0], changesItsMind)):
					won = 1
				default:
					t.Errorf("round %d: %v, %v", round, errs[0], errs[1])
					continue
				}
				amount := testdb.Scalar[int64](t, a.pool, `SELECT CASE WHEN count(*) = 1 THEN min(amount) ELSE -1 END
					FROM public.orders WHERE key = $1`, key)
				if amount != int64(won+1) {
					t.Errorf("round %d: the orders are not those of the one that has the key (%d, %d)", round, amount, won)
				}
				shop += amount
			}
			a.ask("last", jobs.Transfer{From: "bank", To: "ada", Amount: 1, Currency: "EUR"})
			a.ask("last back", jobs.Transfer{From: "ada", To: "bank", Amount: 1, Currency: "EUR"})
			a.codes("last", "last back")
			a.ends(shop)
		})
	}
}
