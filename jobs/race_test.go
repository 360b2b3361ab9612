package jobs_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// Races between requests, asked for on connections of their own, while workers settle them.

// arena is a database with accounts, in which workers run.
type arena struct {
	*testing.T
	pool    *pgxpool.Pool
	workers []*outbox.Worker
	stop    func() // all workers, to their end
}

// anchor is reserved on the account "ada" all the time: releasing a reserve twice would take it from here.
const anchor = 7

// connections are those of who asks in an arena. Each is a session that has to read the catalog and every function
// first, which costs more than all that it asks for; and cold ones that begin at once are not at once when they ask.
var connections = testdb.Soak(16, 60)

// newArena opens bank and shop (EUR, unlimited) and ada, with a million.
func newArena(t *testing.T, workers int, settings outbox.Settings) *arena {
	t.Helper()
	return newArenaFor(t, connections, workers, settings)
}

// newArenaFor is newArena for so many that ask at once.
func newArenaFor(t *testing.T, connections, workers int, settings outbox.Settings) *arena {
	t.Helper()
	at, err := url.Parse(testdb.New(t))
	if err != nil {
		t.Fatal(err)
	}
	query := at.Query()
	query.Set("pool_max_conns", strconv.Itoa(connections))
	at.RawQuery = query.Encode()
	a := &arena{T: t, pool: testdb.Pool(t, at.String())}
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	a.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	for range workers {
		// Pools of their own: the test may hold all of its connections.
		worker := outbox.NewWorker(testdb.Pool(t, at.String()), kinds, settings)
		a.workers = append(a.workers, worker)
		running.Go(func() {
			if err := worker.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(a.stop)
	exec(t, a.pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR', NULL),
		lastseat.open_account('ada', 'EUR')`)
	// One after the other: in several lanes, what was asked first need not be first.
	a.ask("top-up", jobs.Transfer{From: "bank", To: "ada", Amount: 1_000_000, Currency: "EUR"})
	a.codes("top-up")
	a.ask("anchor", jobs.Authorize{Payment: "anchor", From: "ada", To: "shop", Amount: anchor, Currency: "EUR"})
	a.codes("anchor")
	return a
}

// races are the ways in which workers run in a race.
var races = settingsOf(map[string]outbox.Settings{
	"serializable":          {Batch: 50},
	"three, read committed": {Batch: 50, Lanes: 3, Isolation: pgx.ReadCommitted},
}, map[string]outbox.Settings{
	"read committed": {Batch: 50, Isolation: pgx.ReadCommitted},
	"three lanes":    {Batch: 50, Lanes: 3},
})

// settingsOf are those in which a test always runs, and under make soak also those that pair the same ones otherwise.
func settingsOf(always, soak map[string]outbox.Settings) map[string]outbox.Settings {
	if testdb.Soaks() {
		maps.Copy(always, soak)
	}
	return always
}

// ask asks for one request, in a transaction of its own.
func (a *arena) ask(key string, args outbox.Args) outbox.Receipt {
	a.Helper()
	receipts, err := outbox.EnqueueMany(a.Context(), a.pool, []outbox.Request{{Key: key, Args: args}})
	if err != nil {
		a.Errorf("%s: %v", key, err)
		return outbox.Receipt{}
	}
	return receipts[0]
}

// codes waits for the outcomes of requests and returns their codes.
func (a *arena) codes(keys ...string) []string {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), time.Minute)
	defer cancel()
	outcomes, err := outbox.Wait(ctx, a.pool, keys...)
	if err != nil {
		a.Fatal(err)
	}
	codes := make([]string, len(outcomes))
	for i := range outcomes {
		codes[i] = outcomes[i].Code
	}
	return codes
}

// authorized makes n payments of 100 each, p0 and so on.
func (a *arena) authorized(n int) {
	a.Helper()
	requests, keys := make([]outbox.Request, n), make([]string, n)
	for i := range requests {
		keys[i] = fmt.Sprint("a", i)
		requests[i] = outbox.Request{Key: keys[i], Args: jobs.Authorize{Payment: fmt.Sprint("p", i), From: "ada", To: "shop",
			Amount: 100, Currency: "EUR"}}
	}
	if _, err := outbox.EnqueueMany(a.Context(), a.pool, requests); err != nil {
		a.Fatal(err)
	}
	for i, code := range a.codes(keys...) {
		if code != jobs.CodeAuthorized {
			a.Fatalf("%s: %s", keys[i], code)
		}
	}
}

// atOnce runs them all from one starting shot.
func atOnce(runners ...func()) {
	var ready, done sync.WaitGroup
	shot := make(chan struct{})
	for _, run := range runners {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-shot
			run()
		})
	}
	ready.Wait()
	close(shot)
	done.Wait()
}

// ends is the last line of a race: held is what ada holds, shop what the shop has got, and everything is proven.
func (a *arena) ends(shop int64) {
	a.Helper()
	a.stop()
	for id, want := range map[string]jobs.Balance{"ada": {Balance: 1_000_000 - shop, Held: anchor},
		"shop": {Balance: shop}, "bank": {Balance: -1_000_000}} {
		got, err := jobs.BalanceOf(a.Context(), a.pool, id)
		if err != nil || got.Balance != want.Balance || got.Held != want.Held {
			a.Errorf("%s has %d and holds %d, want %d and %d (%v)", id, got.Balance, got.Held, want.Balance, want.Held, err)
		}
	}
	for _, worker := range a.workers {
		if stats := worker.Stats(); stats.Failures != 0 {
			a.Errorf("%+v: a race has cost a job an attempt", stats)
		}
	}
	proven(a.T, a.pool)
}

func TestCaptureAgainstVoid(t *testing.T) {
	t.Parallel()
	for name, settings := range races {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			rounds := testdb.Soak(48, 1000)
			a.authorized(rounds)
			captured := int64(0)
			const abreast = 8
			for first := 0; first < rounds; first += abreast {
				var runners []func()
				var keys []string
				for i := first; i < first+abreast; i++ {
					capture, void := fmt.Sprint("capture", i), fmt.Sprint("void", i)
					keys = append(keys, capture, void)
					runners = append(runners, func() { a.ask(void, jobs.Void{Payment: fmt.Sprint("p", i)}) },
						func() { a.ask(capture, jobs.Capture{Payment: fmt.Sprint("p", i)}) })
				}
				rand.Shuffle(len(runners), func(i, j int) { runners[i], runners[j] = runners[j], runners[i] })
				atOnce(runners...)
				codes := a.codes(keys...)
				for i := 0; i < len(codes); i += 2 {
					switch codes[i] + " " + codes[i+1] {
					case jobs.CodeCaptured + " " + jobs.CodeAlreadyCaptured:
						captured++
					case jobs.CodeAlreadyVoided + " " + jobs.CodeVoided:
					default:
						t.Errorf("%s and %s: %s", keys[i], keys[i+1], codes[i:i+2])
					}
				}
			}
			t.Logf("%d of %d were captured", captured, rounds)
			a.ends(100 * captured)
		})
	}
}

// Two refunds that together exceed what was captured: the first in the lane is paid.
func TestRefundsThatExceedTheCapture(t *testing.T) {
	t.Parallel()
	for name, settings := range races {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			rounds := testdb.Soak(20, 400)
			a.authorized(rounds)
			for i := range rounds {
				payment, one, two := fmt.Sprint("p", i), fmt.Sprint("one", i), fmt.Sprint("two", i)
				a.ask(fmt.Sprint("capture", i), jobs.Capture{Payment: payment})
				atOnce(func() { a.ask(one, jobs.Refund{Payment: payment, Amount: 60}) },
					func() { a.ask(two, jobs.Refund{Payment: payment, Amount: 60}) })
				switch got := strings.Join(a.codes(one, two), " "); got {
				case jobs.CodeRefunded + " " + jobs.CodeAmountExceedsCaptured, jobs.CodeAmountExceedsCaptured + " " +
					jobs.CodeRefunded:
				default:
					t.Errorf("round %d: %s", i, got)
				}
			}
			a.ends(40 * int64(rounds))
		})
	}
}

func TestRefundTwiceUnderOneKey(t *testing.T) {
	t.Parallel()
	for name, settings := range races {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			rounds := testdb.Soak(20, 400)
			a.authorized(rounds)
			for i := range rounds {
				payment, key := fmt.Sprint("p", i), fmt.Sprint("refund", i)
				a.ask(fmt.Sprint("capture", i), jobs.Capture{Payment: payment})
				var receipts [2]outbox.Receipt
				ask := func(n int) func() {
					return func() { receipts[n] = a.ask(key, jobs.Refund{Payment: payment, Amount: 30}) }
				}
				atOnce(ask(0), ask(1))
				if receipts[0].Duplicate == receipts[1].Duplicate || receipts[0].Key != key || receipts[1].Key != key {
					t.Errorf("%+v", receipts)
				}
				if again := a.ask(key, jobs.Refund{Payment: payment, Amount: 30}); !again.Duplicate {
					t.Errorf("%+v", again)
				}
				if codes := a.codes(key); codes[0] != jobs.CodeRefunded {
					t.Error(codes)
				}
			}
			a.ends(70 * int64(rounds))
		})
	}
}
