package jobs_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// lockedHistory is random requests on few rows that a worker settles while other sessions lock rows at random.
type lockedHistory struct {
	*testing.T
	pool      *pgxpool.Pool
	lanes     int
	random    *rand.Rand
	model     *jobs.Stock
	strangers map[string]pgx.Tx // who has a row locked, by the table and the row

	asked   []outbox.Request
	ordered map[string][]string // the keys of requests that are ordered by the same row, in the order of asking

	transfers, payments, reservations []string
}

// Requests that share a row are settled in the order of asking, whatever other sessions lock meanwhile, and all others
// go on. With one lane everything comes out as the model says, which settles one request after the other. Several lanes
// have an order for what their kinds are ordered by.
func TestHistoriesAmongForeignLocks(t *testing.T) {
	t.Parallel()
	for range testdb.Soak(2, 60) {
		for _, lanes := range []int{1, 4} {
			seed := rand.Uint64()
			settings := outbox.Settings{Lanes: lanes, Batch: 1 + int(seed%40)}
			t.Run(fmt.Sprintf("seed %d, lanes %d, batch %d", seed, lanes, settings.Batch), func(t *testing.T) {
				t.Parallel()
				h := &lockedHistory{T: t, pool: newPool(t), lanes: lanes, random: rand.New(rand.NewPCG(seed, 0)),
					model: jobs.NewStock(), strangers: map[string]pgx.Tx{}, ordered: map[string][]string{}}
				opened := &stockHistory{T: t, pool: h.pool, model: h.model}
				opened.open()
				exec(t, h.pool, `SELECT lastseat.open_account('free', 'EUR', NULL), lastseat.open_account('easy', 'EUR', NULL)`)
				h.ask(jobs.Transfer{From: "top", To: "ada", Amount: 300, Currency: "EUR"}, "top")
				startWorker(t, h.pool, settings)
				for range 150 {
					h.step()
				}
				for _, row := range slices.Collect(maps.Keys(h.strangers)) {
					h.unlock(row)
				}
				h.check()
			})
		}
	}
}

func (h *lockedHistory) step() {
	switch n := h.random.IntN(20); {
	case n < 2 && len(h.strangers) < 3:
		h.lock()
	case n < 3 && len(h.strangers) > 0:
		h.unlock(slices.Sorted(maps.Keys(h.strangers))[h.random.IntN(len(h.strangers))])
	case n < 5:
		h.passBy()
	case n < 13 || len(h.reservations) == 0:
		h.askForMoney()
	default:
		h.askForSeats()
	}
}

// lock has another session lock a row that nobody else has locked yet.
func (h *lockedHistory) lock() {
	h.Helper()
	table := []string{"accounts", "resources", "payments", "reservations"}[h.random.IntN(4)]
	rows := map[string][]string{"accounts": {"top", "ada", "ben"}, "resources": {"seat", "stock", "show1", "show2"},
		"payments": h.payments, "reservations": h.reservations}[table]
	if len(rows) == 0 {
		return
	}
	id := rows[h.random.IntN(len(rows))]
	row := table + " " + id
	if h.strangers[row] != nil {
		return
	}
	ctx := context.WithoutCancel(h.Context())
	conn, err := pgx.ConnectConfig(ctx, h.pool.Config().ConnConfig.Copy())
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = conn.Close(ctx) })
	tx, err := conn.Begin(ctx)
	if err != nil {
		h.Fatal(err)
	}
	how := []string{"UPDATE", "NO KEY UPDATE"}[h.random.IntN(2)]
	if _, err := tx.Exec(ctx, fmt.Sprintf(`SELECT FROM lastseat.%s WHERE id = $1 FOR %s`, table, how), id); err != nil {
		h.Fatal(err)
	}
	h.strangers[row] = tx
}

func (h *lockedHistory) unlock(row string) {
	h.Helper()
	ctx := context.WithoutCancel(h.Context())
	tx := h.strangers[row]
	delete(h.strangers, row)
	if err := tx.Commit(ctx); err != nil {
		h.Fatal(err)
	}
	_ = tx.Conn().Close(ctx)
}

// passBy asks for something that nobody has locked, and waits until it is settled. By then the lane has looked at all
// that was asked for before it.
func (h *lockedHistory) passBy() {
	h.Helper()
	key := fmt.Sprint("free", len(h.asked))
	args := jobs.Transfer{From: "free", To: "easy", Amount: 1, Currency: "EUR"}
	if _, err := outbox.EnqueueMany(h.Context(), h.pool, []outbox.Request{{Key: key, Args: args}}); err != nil {
		h.Fatal(err)
	}
	h.asked = append(h.asked, outbox.Request{Key: key})
	settle(h.T, h.pool, key)
}

func (h *lockedHistory) ask(args outbox.Args, row string) (key string) {
	h.Helper()
	key = fmt.Sprint("k", len(h.asked))
	request := outbox.Request{Key: key, Args: args}
	if _, err := outbox.EnqueueMany(h.Context(), h.pool, []outbox.Request{request}); err != nil {
		h.Fatal(err)
	}
	h.asked = append(h.asked, request)
	h.ordered[row] = append(h.ordered[row], key)
	return key
}

func (h *lockedHistory) accounts() (from, to string) {
	all := []string{"top", "ada", "ben"}
	h.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[0], all[1]
}

func (h *lockedHistory) askForMoney() {
	h.Helper()
	from, to := h.accounts()
	amount := 1 + h.random.Int64N(80)
	kind := h.random.IntN(9)
	switch {
	case kind == 0 && len(h.transfers) > 0 && h.lanes == 1: // a transfer in another lane may not be settled yet
		transfer := h.transfers[h.random.IntN(len(h.transfers))]
		h.ask(jobs.Reverse{Transfer: transfer}, "transfer "+transfer)
	case kind < 4:
		h.transfers = append(h.transfers, h.ask(jobs.Transfer{From: from, To: to, Amount: amount, Currency: "EUR"}, from))
	case kind < 6 || len(h.payments) == 0:
		id := fmt.Sprint("p", len(h.payments))
		h.ask(jobs.Authorize{Payment: id, From: from, To: to, Amount: amount, Currency: "EUR"}, id)
		h.payments = append(h.payments, id)
	default:
		id := h.payments[max(0, len(h.payments)-1-h.random.IntN(3))]
		h.ask([]outbox.Args{
			jobs.Capture{Payment: id}, jobs.Void{Payment: id}, jobs.Refund{Payment: id, Amount: 1},
		}[kind-6], id)
	}
}

func (h *lockedHistory) askForSeats() {
	h.Helper()
	customer := jobs.StockCustomers[h.random.IntN(2)]
	names := []string{"seat", "stock", "show1", "show2"}
	h.random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	items := []jobs.Item{{Resource: names[0]}, {Resource: names[1], Quantity: 1 + h.random.Int64N(2)}}
	items = items[:1+h.random.IntN(2)]
	kind := h.random.IntN(8)
	if kind < 4 || len(h.reservations) == 0 {
		id := fmt.Sprint("r", len(h.reservations))
		from, to := h.accounts()
		if kind == 0 {
			h.ask(jobs.Book{
				Reservation: id, Items: items, Customer: customer, From: from, To: to, Amount: 5, Currency: "EUR",
			}, id)
		} else {
			h.ask(jobs.Hold{Reservation: id, Items: items, Customer: customer, Wait: kind == 1}, id)
		}
		h.reservations = append(h.reservations, id)
		return
	}
	id := h.reservations[max(0, len(h.reservations)-1-h.random.IntN(5))]
	h.ask([]outbox.Args{jobs.Cancel{Reservation: id}, jobs.Cancel{Reservation: id}, jobs.Confirm{Reservation: id},
		jobs.Extend{Reservation: id, ExpiresAt: time.Now().Add(time.Hour)}}[kind-4], id)
}

// check waits until all is settled, and holds what came of it against the model and the order of asking.
func (h *lockedHistory) check() {
	h.Helper()
	keys := make([]string, len(h.asked))
	for i, request := range h.asked {
		keys[i] = request.Key
	}
	settle(h.T, h.pool, keys...)
	if n := retried(h.T, h.pool); n != 0 {
		h.Errorf("%d requests have used more than one attempt", n)
	}
	rows, err := h.pool.Query(h.Context(), `SELECT key FROM lastseat.requests ORDER BY settled_at, place`)
	if err != nil {
		h.Fatal(err)
	}
	settled, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.Fatal(err)
	}
	places := map[string]int{}
	for i, key := range settled {
		places[key] = i
	}
	for row, keys := range h.ordered {
		if !slices.IsSortedFunc(keys, func(a, b string) int { return places[a] - places[b] }) {
			h.Errorf("%s: asked for %v, settled in another order: %v", row, keys, settled)
		}
	}
	proven(h.T, h.pool)
	if h.lanes > 1 {
		return
	}
	for _, request := range h.asked {
		if request.Args == nil {
			continue
		}
		var want string
		switch args := request.Args.(type) {
		case jobs.Authorize, jobs.Capture, jobs.Void, jobs.Refund, jobs.Reverse:
			want = h.model.Money.Do(request.Key, time.Now(), args)
		default:
			want = h.model.Do(request.Key, time.Now(), args)
		}
		if o := outcome(h.T, h.pool, request.Key); o.Code != want {
			h.Errorf("%s %+v: %s %s, the model says %s", request.Key, request.Args, o.Code, o.Detail, want)
		}
	}
}

// More requests than a batch has room for wait behind one locked row: those that need it keep their order and use up no
// attempt, all others go on, also those that are asked for later.
func TestMoreThanABatchBehindALockedRow(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 4} {
		t.Run(fmt.Sprint("lanes ", lanes), func(t *testing.T) {
			t.Parallel()
			stranger := newStranger(t, `SELECT FROM lastseat.accounts WHERE id = 'purse' FOR UPDATE`)
			pool := stranger.pool
			ask := func(prefix, from, to string, n int) (keys []string) {
				requests := make([]outbox.Request, n)
				for i := range requests {
					requests[i] = outbox.Request{Key: fmt.Sprintf("%s-%03d", prefix, i),
						Args: jobs.Transfer{From: from, To: to, Amount: 1, Currency: "EUR"}}
					keys = append(keys, requests[i].Key)
				}
				if _, err := outbox.EnqueueMany(t.Context(), pool, requests); err != nil {
					t.Fatal(err)
				}
				return keys
			}
			waiting := ask("waiting", "purse", "mid", 90)
			others := ask("other", "bank", "cafe", 30)
			startWorker(t, pool, outbox.Settings{Batch: 10, Lanes: lanes})
			settle(t, pool, others...)
			settle(t, pool, ask("later", "bank", "cafe", 30)...)
			n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests
				WHERE key LIKE 'waiting-%' AND status = 'pending' AND attempts = 0`)
			if n != len(waiting) {
				t.Errorf("%d of %d wait, while the row is locked", n, len(waiting))
			}
			stranger.commit()
			settle(t, pool, waiting...)
			got := testdb.Scalar[[]string](t, pool, `
				SELECT array_agg(key ORDER BY settled_at, place) FROM lastseat.requests WHERE key LIKE 'waiting-%'`)
			if !slices.Equal(got, waiting) {
				t.Errorf("settled in another order than they were asked for: %v", got)
			}
			if n := retried(t, pool); n != 0 {
				t.Errorf("%d requests have used more than one attempt", n)
			}
			proven(t, pool)
		})
	}
}
