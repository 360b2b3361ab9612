package jobs_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// Races for seats and money together.

const price = 100

// together is the last line of a race of bookings: the shop has the price of every confirmed seat, from exactly those
// bookings.
func (a *arena) together() {
	a.Helper()
	a.stop()
	for _, worker := range a.workers {
		if stats := worker.Stats(); stats.Failures != 0 {
			a.Errorf("%+v: a race has cost a job an attempt", stats)
		}
	}
	a.Logf("%+v", a.workers[0].Stats())
	if apart := testdb.Scalar[int](a.T, a.pool, `
		SELECT count(*)::int FROM lastseat.requests r JOIN lastseat.reservations v ON v.key = r.key
		  LEFT JOIN lastseat.transfers t ON t.key = r.key
		LEFT JOIN (SELECT reservation_id, count(*) * $1::int AS price FROM lastseat.reservation_items
		  GROUP BY reservation_id) i ON i.reservation_id = v.id
		WHERE r.kind = 'booking.book'
		  AND ((r.status = 'applied') <> (v.status IN ('confirmed', 'cancelled'))
		    OR (r.status = 'applied') <> (t.key IS NOT NULL) OR t.amount IS DISTINCT FROM i.price)`, price); apart != 0 {
		a.Errorf("of %d bookings money and seats are apart", apart)
	}
	seated(a.T, a.pool)
}

// Four customers want one seat, and all have the money for it; one customer wants four seats and has the money for one.
// All of it is asked for at once: of each four requests one is booked.
func TestBookingsForOneSeatAndFromOnePurse(t *testing.T) {
	t.Parallel()
	settings := settingsOf(map[string]outbox.Settings{"one lane": {Batch: 20}}, map[string]outbox.Settings{
		"one lane, read committed": {Batch: 20, Isolation: pgx.ReadCommitted},
	})
	maps.Copy(settings, shared)
	for name, settings := range settings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			const four = 4
			rounds := testdb.Soak(15, 300)
			a.seats("wanted", rounds, 1)
			a.seats("other", rounds*four, 1)
			exec(t, a.pool, `SELECT count(lastseat.open_account('purse' || n, 'EUR')),
				count(lastseat.transfer('fund' || n, 'bank', 'purse' || n, $2, 'EUR'))
				  FROM generate_series(0, $1::int - 1) n`, rounds, price)
			a.settled()
			booked := int64(0)
			for round := range rounds {
				var seat, purse []string
				var runners []func()
				for n := range four {
					bySeat, byPurse := fmt.Sprintf("seat%d/%d", round, n), fmt.Sprintf("purse%d/%d", round, n)
					seat, purse = append(seat, bySeat), append(purse, byPurse)
					runners = append(runners, func() {
						a.ask(bySeat, jobs.Book{Reservation: bySeat, Items: one(fmt.Sprint("wanted", round)), From: "bank", To: "shop",
							Amount: price, Currency: "EUR"})
					}, func() {
						a.ask(byPurse, jobs.Book{Reservation: byPurse, Items: one(fmt.Sprint("other", round*four+n)),
							From: fmt.Sprint("purse", round), To: "shop", Amount: price, Currency: "EUR"})
					})
				}
				rand.Shuffle(len(runners), func(i, j int) { runners[i], runners[j] = runners[j], runners[i] })
				atOnce(runners...)
				if got := sum(a.codes(seat...)); got != "booked:1 sold_out:3" {
					t.Errorf("round %d, one seat: %s", round, got)
				}
				if got := sum(a.codes(purse...)); got != "booked:1 insufficient_funds:3" {
					t.Errorf("round %d, one purse: %s", round, got)
				}
				booked += 2
			}
			if b, err := jobs.BalanceOf(t.Context(), a.pool, "shop"); err != nil || b.Balance != booked*price {
				t.Errorf("the shop has %d, want %d (%v)", b.Balance, booked*price, err)
			}
			a.together()
		})
	}
}

// A booking of three seats against whatever takes one of them or the money away at once: a hold, another booking, a
// transfer. And against what gives a seat back. All of it or nothing.
func TestBookingAgainstEverything(t *testing.T) {
	t.Parallel()
	for name, settings := range races {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			rounds := testdb.Soak(20, 400)
			a.seats("seat", rounds*3, 1)
			exec(t, a.pool, `SELECT count(lastseat.open_account('purse' || n, 'EUR')),
				count(lastseat.transfer('fund' || n, 'bank', 'purse' || n, $2, 'EUR'))
				  FROM generate_series(0, $1::int - 1) n`, rounds, 3*price)
			a.settled()
			var stories []string
			for round := range rounds {
				key := func(what string) string { return fmt.Sprint(what, round) }
				var items []jobs.Item
				for n := range 3 {
					items = append(items, jobs.Item{Resource: fmt.Sprint("seat", round*3+n)})
				}
				if round%4 == 0 {
					a.ask(key("before"), jobs.Hold{Reservation: key("before"), Items: items[:1]})
					a.codes(key("before"))
				}
				runners := []func(){
					func() {
						a.ask(key("book"), jobs.Book{Reservation: key("book"), Items: items, From: key("purse"), To: "shop",
							Amount: 3 * price, Currency: "EUR"})
					},
					func() { a.ask(key("hold"), jobs.Hold{Reservation: key("hold"), Items: items[2:]}) },
					func() {
						a.ask(key("pay"), jobs.Transfer{From: key("purse"), To: "ada", Amount: 1, Currency: "EUR"})
					},
				}
				keys := []string{key("book"), key("hold"), key("pay")}
				if round%4 == 0 {
					keys = append(keys, key("cancel"))
					runners = append(runners, func() { a.ask(key("cancel"), jobs.Cancel{Reservation: key("before")}) })
				}
				rand.Shuffle(len(runners), func(i, j int) { runners[i], runners[j] = runners[j], runners[i] })
				atOnce(runners...)
				codes := a.codes(keys...)
				story := fmt.Sprint(codes[:3])
				stories = append(stories, story)
				switch story {
				case "[booked sold_out insufficient_funds]", "[sold_out held transferred]", "[insufficient_funds held transferred]":
				default:
					t.Errorf("round %d: %s", round, codes)
				}
			}
			t.Log(sum(stories))
			a.together()
		})
	}
}
