package jobs_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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

// Races for seats.

// shared are the ways in which lanes contend for the same rows.
var shared = settingsOf(map[string]outbox.Settings{
	"two lanes":            {Batch: 20, Lanes: 2},
	"four, read committed": {Batch: 20, Lanes: 4, Isolation: pgx.ReadCommitted},
}, map[string]outbox.Settings{
	"two lanes, read committed": {Batch: 20, Lanes: 2, Isolation: pgx.ReadCommitted},
})

// forgottenSQL are those who wait, though nobody is in their way: what remains when everything is settled, and is no
// row that contradicts another.
const forgottenSQL = `
	SELECT r.id FROM lastseat.reservations r
	WHERE r.status = 'waiting'
	  AND NOT EXISTS (
		SELECT FROM (SELECT resource_id, sum(quantity) AS asked FROM lastseat.reservation_items WHERE reservation_id = r.id
		  AND during IS NULL GROUP BY resource_id) i
		JOIN lastseat.resources s ON s.id = i.resource_id WHERE i.asked > s.capacity + s.overbook - s.held - s.confirmed)
	  AND NOT EXISTS (
		SELECT FROM lastseat.reservation_items i JOIN lastseat.reservation_items o ON o.resource_id = i.resource_id
		  AND o.occupies AND o.during && i.during WHERE i.reservation_id = r.id)
	  AND NOT EXISTS (
		SELECT FROM (SELECT s.limit_group, sum(i.quantity) AS asked FROM lastseat.reservation_items i
		  JOIN lastseat.resources s ON s.id = i.resource_id
		             WHERE i.reservation_id = r.id GROUP BY s.limit_group) i
		JOIN lastseat.limit_groups g ON g.id = i.limit_group
		LEFT JOIN lastseat.customer_counts c ON c.limit_group = g.id AND c.customer = r.customer
		WHERE i.asked + coalesce(c.quantity, 0) > g.per_customer OR r.customer IS NULL)`

// untrueSQL are rows that say something else than those that they are the sum of. It is written apart from worker
// audit: the two have to agree.
const untrueSQL = `
	WITH live AS (SELECT r.id, r.customer, r.status, i.resource_id, i.quantity, i.during FROM lastseat.reservations r
	              JOIN lastseat.reservation_items i ON i.reservation_id = r.id WHERE r.status IN ('held', 'confirmed')),
	     sums AS (SELECT resource_id, coalesce(sum(quantity) FILTER (WHERE status = 'held'), 0) AS held,
	       coalesce(sum(quantity) FILTER (WHERE status = 'confirmed'), 0) AS confirmed
	              FROM live WHERE during IS NULL GROUP BY resource_id)
	SELECT format('%s: %s held, %s confirmed of %s, but its items are %s and %s', r.id, r.held, r.confirmed,
	  r.capacity + r.overbook, s.held, s.confirmed)
	FROM lastseat.resources r LEFT JOIN sums s ON s.resource_id = r.id
	WHERE (r.held, r.confirmed) <> (coalesce(s.held, 0), coalesce(s.confirmed, 0))
	  OR r.held + r.confirmed > r.capacity + r.overbook
	UNION ALL
	SELECT format('%s: %s and %s overlap', a.resource_id, a.id, b.id) FROM live a
	  JOIN live b ON a.resource_id = b.resource_id AND a.id < b.id AND a.during && b.during
	UNION ALL
	SELECT format('%s of %s: counted %s, has %s', c.customer, c.limit_group, c.quantity, l.quantity)
	FROM lastseat.customer_counts c
	LEFT JOIN (SELECT customer, limit_group, sum(quantity) AS quantity FROM live JOIN lastseat.resources s
	  ON s.id = live.resource_id GROUP BY customer, limit_group) l
	  USING (customer, limit_group) WHERE c.quantity <> coalesce(l.quantity, 0)
	UNION ALL
	SELECT format('%s waits, and stands in %s lines of %s', r.id, (SELECT count(*) FROM lastseat.waiting_items w
	  WHERE w.reservation_id = r.id), count(DISTINCT i.resource_id))
	FROM lastseat.reservations r JOIN lastseat.reservation_items i ON i.reservation_id = r.id WHERE r.status = 'waiting'
	GROUP BY r.id HAVING count(DISTINCT i.resource_id) <> (SELECT count(*) FROM lastseat.waiting_items w
	  WHERE w.reservation_id = r.id)
	UNION ALL
	SELECT format('%s is %s, and stands in a line', r.id, r.status) FROM lastseat.waiting_items w
	  JOIN lastseat.reservations r ON r.id = w.reservation_id WHERE r.status <> 'waiting'`

// seated is the last line of a race for seats: nobody has more than there is, and nobody is forgotten.
func seated(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for what, sql := range map[string]string{"untrue": untrueSQL, "waits for what is free": forgottenSQL} {
		rows, err := pool.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(found) > 0 {
			t.Errorf("%s: %d, %q (%v)", what, len(found), found[:min(5, len(found))], err)
		}
	}
	proven(t, pool)
}

// leaves is ends, of a race that moved no money.
func (a *arena) leaves() {
	a.Helper()
	a.ends(0)
	// What runs out, and what is free for who waits, as far as the workers have left it.
	drain(a.T, a.pool, outbox.Settings{})
	seated(a.T, a.pool)
	conflicts := int64(0)
	for _, worker := range a.workers {
		conflicts += worker.Stats().Conflicts
	}
	a.Logf("%d conflicts, %d deadlocks", conflicts, testdb.Scalar[int64](a.T, a.pool,
		`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`))
}

// askAll asks for requests in their order, in one transaction.
func (a *arena) askAll(requests ...outbox.Request) (keys []string) {
	a.Helper()
	if _, err := outbox.EnqueueMany(a.Context(), a.pool, requests); err != nil {
		a.Error(err)
	}
	for _, request := range requests {
		keys = append(keys, request.Key)
	}
	return keys
}

// seats defines n resources of one size, prefix0 and so on.
func (a *arena) seats(prefix string, n int, capacity int64) {
	a.Helper()
	exec(a.T, a.pool,
		`SELECT count(lastseat.define_resource($1 || n, $3::bigint)) FROM generate_series(0, $2::int - 1) n`, prefix, n,
		capacity)
}

func one(resource string) []jobs.Item { return []jobs.Item{{Resource: resource}} }

// sum counts words, for a message and for comparison: "held:1 sold_out:3".
func sum(words []string) string {
	counts := make(map[string]int)
	for _, word := range words {
		counts[word]++
	}
	var counted []string
	for _, word := range slices.Sorted(maps.Keys(counts)) {
		counted = append(counted, fmt.Sprintf("%s:%d", word, counts[word]))
	}
	return strings.Join(counted, " ")
}

// A confirmation that comes in the very moment in which its hold runs out, and with it another buyer of the seat: one
// of the two has the seat, or nobody; and nobody is turned away from a seat that is nobody's.
func TestConfirmAgainstExpiry(t *testing.T) {
	t.Parallel()
	for name, settings := range races {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			rounds := testdb.Soak(100, 5000)
			a.seats("seat", rounds, 1)
			var holds []outbox.Request
			var runners []func()
			begin := time.Now().Add(time.Second)
			for i := range rounds {
				hold, seat := fmt.Sprint("hold", i), fmt.Sprint("seat", i)
				expires := begin.Add(time.Duration(i) * 5 * time.Millisecond)
				early := time.Duration(rand.IntN(30)-3) * time.Millisecond
				if i%10 == 0 { // some in time, on a slow machine too
					expires, early = begin.Add(time.Hour), time.Hour
				}
				holds = append(holds, outbox.Request{Key: hold, Args: jobs.Hold{Reservation: hold, Items: one(seat),
					ExpiresAt: expires}})
				for key, args := range map[string]outbox.Args{
					fmt.Sprint("confirm", i): jobs.Confirm{Reservation: hold},
					fmt.Sprint("next", i):    jobs.Hold{Reservation: fmt.Sprint("next", i), Items: one(seat)},
				} {
					runners = append(runners, func() {
						time.Sleep(time.Until(expires) - early)
						a.ask(key, args)
					})
				}
			}
			a.askAll(holds...)
			atOnce(runners...)
			counts := make(map[string]int)
			for i, outcome := range a.lives(rounds) {
				counts[outcome.story]++
				switch outcome.story {
				case "confirm confirmed, then confirmed, 0 expiries; next sold_out, then rejected":
					if !outcome.asked {
						t.Errorf("round %d: confirmed, but not asked for in time", i)
					}
				case "confirm hold_expired, then expired, 1 expiries; next held, then held":
				case "confirm hold_expired, then expired, 1 expiries; next sold_out, then rejected":
					if outcome.nextLate && settings.Lanes <= 1 {
						t.Errorf("round %d: the seat was nobody's, and was not given", i)
					}
				case "confirm not_held, then rejected, 0 expiries; next held, then held":
					counts["late"]++ // the machine is so slow that even the hold was
				default:
					t.Errorf("round %d: %s", i, outcome.story)
				}
			}
			t.Log(counts)
			// A seat that is nobody's for a moment is luck; a busy machine may never show it.
			if len(counts) < 2 {
				t.Error("always the same has won: this test has shown nothing")
			}
			a.leaves()
		})
	}
}

// The same to the microsecond, whatever the batches are cut like: before its end a hold is confirmed, and at its end
// the seat is the next one's.
func TestConfirmAtTheVeryTime(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 7, 2000} {
		for name, level := range levels {
			t.Run(fmt.Sprint(batch, " ", name), func(t *testing.T) {
				t.Parallel()
				pool := newPool(t)
				rounds := testdb.Soak(240, 5000)
				if batch == 1 {
					rounds /= 10
				}
				exec(t, pool, `SELECT count(lastseat.define_resource('seat' || n, 1)) FROM generate_series(1, $1::int) n`, rounds)
				const item = `jsonb_build_array(jsonb_build_object('resource', 'seat' || n))`
				// Asked for 100 seconds ago, one a millisecond, for 50 seconds; by the lane's time nothing has come late.
				exec(t, pool, `SELECT count(lastseat.hold('hold' || n, 'hold' || n, `+item+
					`, now() - interval '50 seconds' + n * interval '1 millisecond')) FROM generate_series(1, $1::int) n`, rounds)
				exec(t, pool, `UPDATE lastseat.river_job SET scheduled_at = now() - interval '100 seconds'`)
				exec(t, pool, `SELECT count(lastseat.confirm('confirm' || n, 'hold' || n)), count(lastseat.hold('next' || n, 'next'
					|| n, `+item+`)) FROM generate_series(1, $1::int) n`, rounds)
				exec(t, pool, `
					UPDATE lastseat.river_job j SET scheduled_at = h.expires_at + (n % 3 - 1) * interval '1 microsecond'
					FROM generate_series(1, $1::int) n JOIN lastseat.reservations h ON h.id = 'hold' || n
					WHERE j.args ->> 'key' IN ('confirm' || n, 'next' || n)`, rounds)
				drain(t, pool, outbox.Settings{Batch: batch, Isolation: level})
				const early, late = "held, confirmed confirmed, sold_out", "held, hold_expired expired, held"
				want := map[string]int{early: rounds / 3, late: rounds - rounds/3}
				rows, err := pool.Query(t.Context(), `
					SELECT format('%s, %s %s, %s', h.code, c.code, v.status, x.code), count(*)::int
					FROM lastseat.reservations v JOIN lastseat.requests h ON h.key = v.key
					JOIN lastseat.requests c ON c.key = replace(v.id, 'hold', 'confirm') JOIN lastseat.requests x
					  ON x.key = replace(v.id, 'hold', 'next')
					WHERE v.id LIKE 'hold%' GROUP BY 1`)
				if err != nil {
					t.Fatal(err)
				}
				got := make(map[string]int)
				var story string
				var n int
				if _, err := pgx.ForEachRow(rows, []any{&story, &n}, func() error { got[story] = n; return nil }); err != nil ||
					!maps.Equal(got, want) {
					t.Errorf("%v, want %v (%v)", got, want, err)
				}
				seated(t, pool)
			})
		}
	}
}

// life is what has become of a hold, its confirmation, and of the next one for its seat.
type life struct {
	story           string
	asked, nextLate bool // the confirmation was asked for in time; the next hold was not before the end of the first
}

// lives waits for all rounds, and tells them in their order.
func (a *arena) lives(rounds int) []life {
	a.Helper()
	var keys []string
	for i := range rounds {
		keys = append(keys, fmt.Sprint("hold", i), fmt.Sprint("confirm", i), fmt.Sprint("next", i))
	}
	a.codes(keys...)
	rows, err := a.pool.Query(a.Context(), `
		SELECT format('confirm %s, then %s, %s expiries; next %s, then %s', c.code, h.status, count(e.key), x.code,
		  n.status), c.requested_at < h.expires_at, x.requested_at >= h.expires_at
		FROM generate_series(0, $1 - 1) i
		JOIN lastseat.reservations h ON h.id = 'hold' || i JOIN lastseat.requests c ON c.key = 'confirm' || i
		JOIN lastseat.reservations n ON n.id = 'next' || i JOIN lastseat.requests x ON x.key = n.id
		LEFT JOIN lastseat.requests e ON e.key = 'lastseat:reservation.expire:' || h.id AND e.code = 'expired'
		  AND e.settled_at >= h.expires_at
		GROUP BY i, c.code, h.status, x.code, n.status, c.requested_at, x.requested_at, h.expires_at ORDER BY i`, rounds)
	if err != nil {
		a.Fatal(err)
	}
	told, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l life, err error) {
		return l, row.Scan(&l.story, &l.asked, &l.nextLate)
	})
	if err != nil || len(told) != rounds {
		a.Fatal(len(told), err)
	}
	return told
}

// A hold is confirmed and cancelled at once, by two, while a third wants its seat. In the end it is cancelled, either
// way.
func TestCancelAgainstConfirm(t *testing.T) {
	t.Parallel()
	for name, settings := range races {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			const abreast = 16
			rounds := testdb.Soak(6, 200) * abreast
			a.seats("seat", rounds, 1)
			var stories []string
			for first := 0; first < rounds; first += abreast {
				var runners []func()
				var keys, holds []string
				for i := first; i < first+abreast; i++ {
					hold, confirm, cancel, next := fmt.Sprint("hold", i), fmt.Sprint("confirm", i), fmt.Sprint("cancel", i),
						fmt.Sprint("next", i)
					holds = append(holds, a.ask(hold, jobs.Hold{Reservation: hold, Items: one(fmt.Sprint("seat", i))}).Key)
					keys = append(keys, confirm, cancel, next)
					runners = append(runners, func() { a.ask(cancel, jobs.Cancel{Reservation: hold}) },
						func() { a.ask(confirm, jobs.Confirm{Reservation: hold}) },
						func() { a.ask(next, jobs.Hold{Reservation: next, Items: one(fmt.Sprint("seat", i))}) })
				}
				a.codes(holds...) // or "next" may be settled first, in another lane
				rand.Shuffle(len(runners), func(i, j int) { runners[i], runners[j] = runners[j], runners[i] })
				atOnce(runners...)
				codes := a.codes(keys...)
				for i := 0; i < len(codes); i += 3 {
					story := strings.Join(codes[i:i+3], " ")
					stories = append(stories, story)
					switch story {
					case "confirmed cancelled held", "confirmed cancelled sold_out", "not_held cancelled held",
						"not_held cancelled sold_out":
					default:
						t.Errorf("%s: %s", keys[i], story)
					}
				}
			}
			t.Log(sum(stories))
			a.leaves()
		})
	}
}

// A reservation that waits is cancelled at the very moment in which it is granted the seat, and another waits behind
// it: in the end the other has the seat.
func TestGrantAgainstCancel(t *testing.T) {
	t.Parallel()
	for name, settings := range shared {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			const abreast = 10
			rounds := testdb.Soak(5, 200) * abreast
			a.seats("seat", rounds, 1)
			for begin := 0; begin < rounds; begin += abreast {
				var runners []func()
				var cancels, last []string
				for _, who := range []string{"first", "second", "third"} { // one after the other, whichever lane is theirs
					var holds []outbox.Request
					for i := begin; i < begin+abreast; i++ {
						key := fmt.Sprint(who, i)
						holds = append(holds, outbox.Request{Key: key, Args: jobs.Hold{Reservation: key, Items: one(fmt.Sprint("seat",
							i)), Wait: true}})
					}
					last = a.askAll(holds...)
					a.codes(last...)
				}
				for i := begin; i < begin+abreast; i++ {
					for _, who := range []string{fmt.Sprint("first", i), fmt.Sprint("second", i)} {
						cancels = append(cancels, "cancel "+who)
						runners = append(runners, func() { a.ask("cancel "+who, jobs.Cancel{Reservation: who}) })
					}
				}
				rand.Shuffle(len(runners), func(i, j int) { runners[i], runners[j] = runners[j], runners[i] })
				atOnce(runners...)
				if got, want := sum(a.codes(cancels...)), fmt.Sprint("cancelled:", 2*abreast); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				if held := testdb.Scalar[int](t, a.pool, `SELECT count(*)::int FROM lastseat.reservations WHERE id = ANY ($1)
					AND status = 'held'`, last); held != abreast {
					t.Errorf("of %d who remain, %d have their seat", abreast, held)
				}
			}
			a.leaves()
		})
	}
}

// Four want the same room for times that overlap, each on a connection of its own: one has it. A job that ran into the
// exclusion constraint would have cost an attempt.
func TestOverlappingRanges(t *testing.T) {
	t.Parallel()
	for name, settings := range shared {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			const abreast, guests = 6, 4
			rounds := testdb.Soak(8, 200) * abreast
			a.seats("room", rounds, 1)
			noon := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
			for first := 0; first < rounds; first += abreast {
				var runners []func()
				var keys []string
				for i := first; i < first+abreast; i++ {
					for guest := range guests {
						key := fmt.Sprintf("%d/%d", i, guest)
						keys = append(keys, key)
						from := noon.Add(time.Duration(rand.IntN(60)) * time.Minute)
						during := &jobs.TimeRange{Start: from, End: from.Add(time.Hour)}
						runners = append(runners, func() {
							a.ask(key, jobs.Hold{Reservation: key, Items: []jobs.Item{{Resource: fmt.Sprint("room", i), During: during}}})
						})
					}
				}
				rand.Shuffle(len(runners), func(i, j int) { runners[i], runners[j] = runners[j], runners[i] })
				atOnce(runners...)
				codes := a.codes(keys...)
				for i := 0; i < len(codes); i += guests {
					if got := sum(codes[i : i+guests]); got != "held:1 overlap:3" {
						t.Errorf("%s: %s", keys[i], got)
					}
				}
			}
			a.leaves()
		})
	}
}

// Holds of six seats, in any order, and cancellations of them, in lanes that lock the same seats: every one has its
// outcome, all of the six or none.
func TestShuffledSixSeats(t *testing.T) {
	t.Parallel()
	for name, settings := range shared {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			const buyers, seats = 8, 16
			rounds := testdb.Soak(12, 300)
			a.seats("seat", seats, 3)
			runners := make([]func(), buyers)
			for buyer := range buyers {
				runners[buyer] = func() {
					for round := range rounds {
						var keys []string
						for n := range 3 {
							key := fmt.Sprintf("%d/%d/%d", buyer, round, n)
							var items []jobs.Item
							for _, seat := range rand.Perm(seats)[:6] {
								items = append(items, jobs.Item{Resource: fmt.Sprint("seat", seat), Quantity: 1})
							}
							keys = append(keys, a.ask(key, jobs.Hold{Reservation: key, Items: items}).Key)
						}
						for i, code := range a.codes(keys...) {
							if code == jobs.CodeHeld && round < rounds-1 {
								a.ask("cancel "+keys[i], jobs.Cancel{Reservation: keys[i]})
							}
						}
					}
				}
			}
			atOnce(runners...)
			a.ask("last", jobs.Hold{Reservation: "last", Items: one("seat0")})
			a.settled()
			odd := testdb.Scalar[string](t, a.pool, `
				SELECT coalesce(string_agg(DISTINCT concat_ws(' ', r.kind, r.code, v.status), ', '), '')
				FROM lastseat.requests r LEFT JOIN lastseat.reservations v ON v.key = r.key
				LEFT JOIN (SELECT reservation_id, count(*) AS n, sum(quantity) AS quantity FROM lastseat.reservation_items
				  GROUP BY reservation_id) i ON i.reservation_id = v.id
				WHERE r.kind LIKE 'reservation.%' AND r.key <> 'last'
				  AND CASE r.code WHEN 'held' THEN v.status NOT IN ('held', 'cancelled') OR i.n <> 6 OR i.quantity <> 6
				                  WHEN 'sold_out' THEN v.status <> 'rejected' OR i.n IS NOT NULL
				                  WHEN 'cancelled' THEN false WHEN 'not_held' THEN false ELSE true END`)
			if odd != "" {
				t.Error(odd)
			}
			t.Log(testdb.Scalar[string](t, a.pool, `SELECT string_agg(code || ':' || n, ' ') FROM (SELECT code, count(*) AS n
				FROM lastseat.requests WHERE kind LIKE 'reservation%' GROUP BY code) c`))
			a.leaves()
		})
	}
}

// settled waits until nothing that was asked for is pending.
func (a *arena) settled() {
	a.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		pending := testdb.Scalar[int](a.T, a.pool, `SELECT count(*)::int FROM lastseat.requests WHERE status = 'pending'`)
		if pending == 0 {
			return
		}
		if time.Now().After(deadline) {
			a.Fatalf("%d requests are pending", pending)
		}
	}
}

// A customer may have three seats of a group and asks for eight, each by itself and all at once. Then they give one
// back and ask for others at once: they never have more than three, and are never given less.
func TestCustomerLimitFromManySides(t *testing.T) {
	t.Parallel()
	for name, settings := range shared {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			const seats = 8
			rounds := testdb.Soak(12, 300)
			exec(t, a.pool, `SELECT lastseat.define_limit('concert', 3)`)
			exec(t, a.pool, `SELECT count(lastseat.define_resource('seat' || n, 100000, limit_group => 'concert'))
				FROM generate_series(0, $1::int - 1) n`, seats)
			want := func(customer, prefix string) (keys []string, runners []func()) {
				for seat := range seats {
					key := fmt.Sprintf("%s/%s%d", customer, prefix, seat)
					keys = append(keys, key)
					runners = append(runners, func() {
						a.ask(key, jobs.Hold{Reservation: key, Items: one(fmt.Sprint("seat", seat)), Customer: customer})
					})
				}
				return keys, runners
			}
			for round := range rounds {
				customer := fmt.Sprint("customer", round)
				keys, runners := want(customer, "")
				atOnce(runners...)
				codes := a.codes(keys...)
				if got := sum(codes); got != "customer_limit:5 held:3" {
					t.Errorf("%s: %s", customer, got)
				}
				given := keys[slices.Index(codes, jobs.CodeHeld)]
				again, runners := want(customer, "again")
				atOnce(append(runners, func() { a.ask("cancel "+given, jobs.Cancel{Reservation: given}) })...)
				switch got := sum(a.codes(again...)); got {
				case "customer_limit:7 held:1", "customer_limit:8": // all came before the cancellation
				default:
					t.Errorf("%s, again: %s", customer, got)
				}
			}
			a.leaves()
		})
	}
}

// Whoever needs a place sooner than the sweep comes has it: in a batch that begins before its holder ran out, and on a
// worker that has nothing else to do.
func TestPlaceOfWhoRanOut(t *testing.T) {
	t.Parallel()
	for name, level := range levels {
		t.Run("same batch, "+name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			exec(t, pool, `SELECT lastseat.define_resource('seat', 1), lastseat.define_resource('room', 1),
				lastseat.define_limit('concert', 1)`)
			exec(t, pool, `SELECT lastseat.define_resource('stall', 1, limit_group => 'concert'),
				lastseat.define_resource('box', 1, limit_group => 'concert')`)
			const noon = `'[2026-12-01T12:00:00Z,2026-12-01T13:00:00Z)'`
			exec(t, pool, `SELECT lastseat.hold('first', 'first',
				'[{"resource": "seat"}, {"resource": "stall"}, {"resource": "room", "during": `+strings.ReplaceAll(noon, "'", `"`)+`}]', now() + interval '1 hour', 'ada')`)
			drain(t, pool, outbox.Settings{})
			// the sweep goes no further than this
			exec(t, pool, `SELECT lastseat.hold('early', 'early', '[{"resource": "seat"}]')`)
			exec(t, pool, `UPDATE lastseat.reservations SET expires_at = now() WHERE id = 'first'`)
			for key, item := range map[string]string{"seat": `{"resource": "seat"}`, "room": `{"resource": "room", "during": ` +
				strings.ReplaceAll(noon, "'", `"`) + `}`, "limit": `{"resource": "box"}`} {
				exec(t, pool, `SELECT lastseat.hold($1, $1, ('[' || $2 || ']')::jsonb, customer => 'ada')`, key, item)
			}
			drain(t, pool, outbox.Settings{Isolation: level})
			for key, want := range map[string]string{"first": "held", "early": "sold_out", "seat": "held", "room": "held",
				"limit": "held"} {
				if o := outcome(t, pool, key); o.Code != want {
					t.Errorf("%s: %s, want %s", key, o.Code, want)
				}
			}
			seated(t, pool)
		})
		t.Run("idle, "+name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 1, outbox.Settings{Isolation: level})
			a.seats("seat", 1, 1)
			for round := range testdb.Soak(20, 500) {
				key := fmt.Sprint("hold", round)
				expires := time.Now().Add(30 * time.Millisecond)
				a.ask(key, jobs.Hold{Reservation: key, Items: one("seat0"), ExpiresAt: expires})
				if code := a.codes(key)[0]; code != jobs.CodeHeld && code != jobs.CodeHoldExpired {
					t.Errorf("%s: %s, though the one before had run out", key, code)
				}
				time.Sleep(time.Until(expires))
			}
			a.leaves()
		})
	}
}

// Many wait for seats, alone and for several at once, in several lanes; others give back, run out, and make their hold
// shorter or longer. In the end nobody waits for what is free.
func TestWaitingLine(t *testing.T) {
	t.Parallel()
	settings := map[string]outbox.Settings{"one lane": {Batch: 20}}
	maps.Copy(settings, shared)
	if !testdb.Soaks() {
		delete(settings, "four, read committed") // deadlocks, each of which takes Postgres a second to see
	}
	for name, settings := range settings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			const buyers, seats = 6, 10
			rounds := testdb.Soak(25, 400)
			a.seats("seat", seats, 2)
			noon := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
			runners := make([]func(), buyers)
			for buyer := range buyers {
				runners[buyer] = func() {
					for round := range rounds {
						key := fmt.Sprintf("%d/%d", buyer, round)
						var items []jobs.Item
						for _, seat := range rand.Perm(seats)[:1+rand.IntN(3)] {
							item := jobs.Item{Resource: fmt.Sprint("seat", seat), Quantity: 1 + rand.Int64N(2)}
							if rand.IntN(4) == 0 {
								from := noon.Add(time.Duration(rand.IntN(8)) * time.Hour)
								item = jobs.Item{Resource: item.Resource, During: &jobs.TimeRange{Start: from, End: from.Add(2 * time.Hour)}}
							}
							items = append(items, item)
						}
						hold := jobs.Hold{Reservation: key, Items: items, Wait: true}
						if rand.IntN(4) == 0 {
							hold.ExpiresAt = time.Now().Add(time.Duration(200+rand.IntN(600)) * time.Millisecond)
						}
						a.ask(key, hold)
						other := fmt.Sprintf("%d/%d", buyer, rand.IntN(round+1))
						switch rand.IntN(5) {
						case 0, 1, 2:
							a.ask("cancel "+key, jobs.Cancel{Reservation: other})
						case 3:
							a.ask("confirm "+key, jobs.Confirm{Reservation: other})
						}
					}
				}
			}
			atOnce(runners...)
			a.settled()
			time.Sleep(900 * time.Millisecond) // the last that run out
			drain(t, a.pool, outbox.Settings{Lanes: settings.Lanes})
			if failed := testdb.Scalar[int](t, a.pool, `SELECT count(*)::int FROM lastseat.requests
				WHERE status NOT IN ('applied', 'rejected') OR code IN ('sold_out', 'overlap', 'invalid_args')`); failed != 0 {
				t.Errorf("%d requests were not dealt with, or turned away though they would wait", failed)
			}
			t.Log(testdb.Scalar[string](t, a.pool, `SELECT string_agg(kind || ' ' || code || ':' || n, ', ')
				FROM (SELECT kind, code, count(*) AS n FROM lastseat.requests WHERE kind LIKE 'reservation%'
				  GROUP BY kind, code) c`))
			a.leaves()
		})
	}
}

// What a waiting line must not forget, one story each: in the end nobody waits for what is free.
func TestNobodyIsForgotten(t *testing.T) {
	t.Parallel()
	for name, story := range map[string]func(t *testing.T, pool *pgxpool.Pool){
		"a hold is made shorter, and runs out in the same batch": func(t *testing.T, pool *pgxpool.Pool) {
			exec(t, pool, `SELECT lastseat.define_resource('seat', 1), lastseat.define_resource('other', 1)`)
			exec(t, pool, `SELECT lastseat.hold('first', 'first', '[{"resource": "seat"}]')`)
			exec(t, pool, `SELECT lastseat.hold('waits', 'waits', '[{"resource": "seat"}]', wait => true)`)
			drain(t, pool, outbox.Settings{})
			exec(t, pool, `SELECT lastseat.extend('shorter', 'first', clock_timestamp() + interval '200 milliseconds')`)
			time.Sleep(300 * time.Millisecond)
			exec(t, pool, `SELECT lastseat.hold('later', 'later', '[{"resource": "other"}]')`)
			drain(t, pool, outbox.Settings{})
			if o := outcome(t, pool, "shorter"); o.Code != jobs.CodeExtended {
				t.Error(o.Code)
			}
		},
		"more get free at once than are looked at": func(t *testing.T, pool *pgxpool.Pool) {
			exec(t, pool, `SELECT lastseat.define_resource('stock', 2500)`)
			exec(t, pool, `SELECT lastseat.hold('all', 'all', '[{"resource": "stock", "quantity": 2500}]')`)
			exec(t, pool, `SELECT count(lastseat.hold('w' || n, 'w' || n, '[{"resource": "stock"}]', wait => true))
				FROM generate_series(1, 2500) n`)
			drain(t, pool, outbox.Settings{})
			exec(t, pool, `SELECT lastseat.cancel('cancel', 'all')`)
			drain(t, pool, outbox.Settings{})
		},
		"a customer gives back another seat of the group": func(t *testing.T, pool *pgxpool.Pool) {
			exec(t, pool, `SELECT lastseat.define_limit('concert', 1)`)
			exec(t, pool, `SELECT lastseat.define_resource('a', 1, limit_group => 'concert'), lastseat.define_resource('b', 1,
				limit_group => 'concert')`)
			exec(t, pool, `SELECT lastseat.hold('eve', 'eve', '[{"resource": "b"}]', customer => 'eve')`)
			exec(t, pool, `SELECT lastseat.hold('ada-b', 'ada-b', '[{"resource": "b"}]', customer => 'ada', wait => true)`)
			exec(t, pool, `SELECT lastseat.hold('ada-a', 'ada-a', '[{"resource": "a"}]', customer => 'ada')`)
			exec(t, pool, `SELECT lastseat.cancel('cancel eve', 'eve')`) // b is free, but ada has a
			drain(t, pool, outbox.Settings{})
			exec(t, pool, `SELECT lastseat.cancel('cancel ada', 'ada-a')`)
			drain(t, pool, outbox.Settings{})
		},
		"a limit is raised": func(t *testing.T, pool *pgxpool.Pool) {
			exec(t, pool, `SELECT lastseat.define_limit('concert', 1)`)
			exec(t, pool, `SELECT lastseat.define_resource('a', 1, limit_group => 'concert'), lastseat.define_resource('b', 1,
				limit_group => 'concert')`)
			exec(t, pool, `SELECT lastseat.hold('eve', 'eve', '[{"resource": "b"}]', customer => 'eve')`)
			exec(t, pool, `SELECT lastseat.hold('ada-b', 'ada-b', '[{"resource": "b"}]', customer => 'ada', wait => true)`)
			exec(t, pool, `SELECT lastseat.hold('ada-a', 'ada-a', '[{"resource": "a"}]', customer => 'ada')`)
			exec(t, pool, `SELECT lastseat.cancel('cancel eve', 'eve')`)
			drain(t, pool, outbox.Settings{})
			exec(t, pool, `SELECT lastseat.define_limit('concert', 2)`)
			drain(t, pool, outbox.Settings{})
		},
		"a hold runs out at the very time of the last request of a batch": func(t *testing.T, pool *pgxpool.Pool) {
			exec(t, pool, `SELECT lastseat.define_resource('seat', 1), lastseat.define_resource('other', 9)`)
			exec(t, pool,
				`SELECT lastseat.hold('first', 'first', '[{"resource": "seat"}]', now() + interval '300 milliseconds')`)
			exec(t, pool, `SELECT lastseat.hold('waits', 'waits', '[{"resource": "seat"}]', wait => true)`)
			drain(t, pool, outbox.Settings{})
			exec(t, pool, `SELECT lastseat.hold('before', 'before', '[{"resource": "other"}]')`) // the sweep goes no further
			exec(t, pool, `SELECT lastseat.hold('at', 'at', '[{"resource": "other"}]')`)
			exec(t, pool, `SELECT lastseat.hold('none', 'none', '[{"resource": "other"}]', (SELECT expires_at
				FROM lastseat.reservations WHERE id = 'first'))`)
			exec(t, pool, `UPDATE lastseat.river_job SET scheduled_at = (SELECT expires_at FROM lastseat.reservations
				WHERE id = 'first') WHERE args ->> 'key' <> 'before'`)
			time.Sleep(400 * time.Millisecond)
			drain(t, pool, outbox.Settings{})
			if o := outcome(t, pool, "none"); o.Code != jobs.CodeHoldExpired {
				t.Errorf("a hold that ends when it was asked for: %s", o.Code)
			}
		},
		"a resource grows, and runs out of who fits": func(t *testing.T, pool *pgxpool.Pool) {
			exec(t, pool, `SELECT lastseat.define_resource('seat', 1)`)
			exec(t, pool, `SELECT lastseat.hold('first', 'first', '[{"resource": "seat"}]')`)
			exec(t, pool, `SELECT count(lastseat.hold('w' || n, 'w' || n, '[{"resource": "seat"}]', wait => true))
				FROM generate_series(1, 5) n`)
			drain(t, pool, outbox.Settings{})
			exec(t, pool, `SELECT lastseat.define_resource('seat', 4)`)
			drain(t, pool, outbox.Settings{})
			exec(t, pool, `SELECT lastseat.cancel('cancel', 'first')`)
			drain(t, pool, outbox.Settings{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			story(t, pool)
			seated(t, pool)
		})
	}
}

// However many have run out before: a request for a place that is nobody's gets it.
func TestPlaceBehindManyThatRanOut(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	const holds = 10_500 // more than a sweep and a batch take care of together
	exec(t, pool, `SELECT lastseat.define_resource('stock', $1), lastseat.define_resource('seat', 1)`, holds)
	exec(t, pool, `SELECT count(lastseat.hold('h' || n, 'h' || n, '[{"resource": "stock"}]',
		now() + interval '10 minutes')) FROM generate_series(1, $1::int) n`, holds)
	exec(t, pool, `SELECT lastseat.hold('last', 'last', '[{"resource": "seat"}]', now() + interval '11 minutes')`)
	drain(t, pool, outbox.Settings{})
	exec(t, pool, `UPDATE lastseat.reservations SET expires_at = now() - CASE id WHEN 'last' THEN interval '1 second'
		ELSE interval '2 seconds' END`)
	exec(t, pool, `SELECT lastseat.hold('next', 'next', '[{"resource": "seat"}]')`)
	drain(t, pool, outbox.Settings{})
	if o := outcome(t, pool, "next"); o.Code != jobs.CodeHeld {
		t.Errorf("next is %s: %s", o.Code, o.Detail)
	}
	seated(t, pool)
}

// A lane that is ahead frees a seat. A reservation of a lane that is behind waits for it: what was asked for it in time
// still counts.
func TestWhoWaitsInALaneBehind(t *testing.T) {
	t.Parallel()
	for _, waits := range []bool{true, false} {
		t.Run(fmt.Sprint(waits), func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			settings := outbox.Settings{Lanes: 2, Batch: 1}
			inLane := func(lane int, prefix string) string {
				return testdb.Scalar[string](t, pool, `SELECT $2 || n FROM generate_series(1, 100) n
					WHERE abs(hashtextextended($2 || n, 0) % 2) = $1 LIMIT 1`, lane, prefix)
			}
			first, waiter, account := inLane(0, "first"), inLane(1, "waits"), inLane(1, "account")
			exec(t, pool, `SELECT lastseat.open_account('shop', 'EUR'), lastseat.open_account($1, 'EUR', NULL)`, account)
			exec(t, pool, `SELECT lastseat.define_resource('seat', 1)`)
			exec(t, pool, `SELECT lastseat.hold($1, $1, '[{"resource": "seat"}]')`, first)
			drain(t, pool, settings)
			ends := time.Now().Add(3 * time.Second) // three drains on a busy machine
			exec(t, pool, `SELECT lastseat.hold($1, $1, '[{"resource": "seat"}]', $2, wait => true)`, waiter, ends)
			drain(t, pool, settings)
			lock, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = lock.Rollback(context.WithoutCancel(t.Context())) }()
			if _, err := lock.Exec(t.Context(), `SELECT FROM lastseat.accounts WHERE id = $1 FOR UPDATE`, account); err != nil {
				t.Fatal(err)
			}
			exec(t, pool, `SELECT lastseat.transfer('behind', $1, 'shop', 1, 'EUR')`, account) // its lane stands still
			if waits {
				exec(t, pool, `SELECT lastseat.extend('in time', $1, now() + interval '1 hour')`, waiter)
			} else {
				exec(t, pool, `SELECT lastseat.cancel('in time', $1)`, waiter)
			}
			time.Sleep(time.Until(ends) + 10*time.Millisecond)
			exec(t, pool, `SELECT lastseat.cancel('ahead', $1)`, first)
			var drained sync.WaitGroup
			drained.Go(func() { drain(t, pool, settings) })
			for deadline := time.Now().Add(2 * time.Minute); outcome(t, pool, "ahead").Status == outbox.Pending &&
				time.Now().Before(deadline); {
				time.Sleep(5 * time.Millisecond)
			}
			if err := lock.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			drained.Wait()
			drain(t, pool, settings)
			want := map[bool]string{true: jobs.CodeExtended, false: jobs.CodeCancelled}[waits]
			if o := outcome(t, pool, "in time"); o.Code != want {
				t.Errorf("asked for in time: %s, want %s", o.Code, want)
			}
			seated(t, pool)
		})
	}
}
