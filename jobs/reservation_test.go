package jobs_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func TestReservationLife(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR'),
		lastseat.open_account('poor', 'EUR')`)
	for _, size := range []int{1, 2000} {
		prefix := map[int]string{1: "one-", 2000: "all-"}[size]
		exec(t, pool, `SELECT lastseat.define_resource($1 || 'seat', 1), lastseat.define_resource($1 || 'room', 1),
			lastseat.define_resource($1 || 'stock', 10, 2)`, prefix)
		for _, call := range []string{
			`hold($1 || 'h1', $1 || 'r1', jsonb_build_array(jsonb_build_object('resource', $1 || 'seat', 'quantity', 1)))`,
			`hold($1 || 'h2', $1 || 'r2', jsonb_build_array(jsonb_build_object('resource', $1 || 'seat')))`,
			`hold($1 || 'h3', $1 || 'r3', jsonb_build_array(jsonb_build_object('resource', $1 || 'seat')), wait => true)`,
			`confirm($1 || 'c1', $1 || 'r1')`,
			`cancel($1 || 'x1', $1 || 'r1')`,
			`confirm($1 || 'c3', $1 || 'r3')`,
			`confirm($1 || 'c2', $1 || 'r2')`,
			`hold($1 || 'h4', $1 || 'r4', jsonb_build_array(jsonb_build_object('resource', $1 || 'room', 'during', '[2026-01-01 10:00Z,2026-01-01 11:30Z)')))`,
			`hold($1 || 'h5', $1 || 'r5', jsonb_build_array(jsonb_build_object('resource', $1 || 'room', 'during', tstzrange('2026-01-01 11:00Z', '2026-01-01 12:00Z'))))`,
			`hold($1 || 'h6', $1 || 'r6', jsonb_build_array(jsonb_build_object('resource', $1 || 'room', 'during', '[2026-01-01T11:30:00Z,2026-01-01T12:00:00Z)')))`,
			`cancel($1 || 'x4', $1 || 'r4')`,
			`hold($1 || 'h7', $1 || 'r7', jsonb_build_array(jsonb_build_object('resource', $1 || 'room', 'during', tstzrange('2026-01-01 11:00Z', '2026-01-01 11:30Z'))))`,
			`book($1 || 'b1', $1 || 'r8', jsonb_build_array(jsonb_build_object('resource', $1 || 'stock', 'quantity', 12)), 'bank', 'shop', 500, 'EUR')`,
			`book($1 || 'b2', $1 || 'r9', jsonb_build_array(jsonb_build_object('resource', $1 || 'stock', 'quantity', 1)), 'bank', 'shop', 500, 'EUR')`,
			`cancel($1 || 'x8', $1 || 'r8')`,
			`book($1 || 'b3', $1 || 'r10', jsonb_build_array(jsonb_build_object('resource', $1 || 'stock', 'quantity', 1)), 'poor', 'shop', 500, 'EUR')`,
		} {
			exec(t, pool, `SELECT lastseat.`+call, prefix)
		}
		drain(t, pool, outbox.Settings{Batch: size})
		for key, code := range map[string]string{
			"h1": "held", "h2": "sold_out", "h3": "waiting", "c1": "confirmed", "x1": "cancelled", "c3": "confirmed",
			"c2": "not_held",
			"h4": "held", "h5": "overlap", "h6": "held", "x4": "cancelled", "h7": "held", "b1": "booked", "b2": "sold_out",
			"x8": "cancelled", "b3": "insufficient_funds",
		} {
			if o := outcome(t, pool, prefix+key); o.Code != code {
				t.Errorf("%s%s: %s %s, want %s", prefix, key, o.Code, o.Detail, code)
			}
		}
		if o := outcome(t, pool, "lastseat:reservation.grant:"+prefix+"r3"); o.Code != jobs.CodeHeld {
			t.Errorf("%+v", o)
		}
	}
	proven(t, pool)
}

// Random histories through the real thing, in batches of any size: through SQL where that takes them, else straight
// into river_job, some jobs twice. What comes of them is what the model says.
func TestReservationHistories(t *testing.T) {
	t.Parallel()
	for i := range testdb.Soak(4, 300) {
		seed := rand.IntN(1 << 30)
		settings := outbox.Settings{Batch: 1 + seed%40, Isolation: []pgx.TxIsoLevel{pgx.Serializable, pgx.ReadCommitted}[i%2]}
		t.Run(fmt.Sprintf("seed %d, batch %d, %s", seed, settings.Batch, settings.Isolation), func(t *testing.T) {
			t.Parallel()
			h := &stockHistory{T: t, pool: newPool(t), model: jobs.NewStock(), settings: settings,
				start: time.Now().Add(-time.Hour).Truncate(time.Second)}
			h.open()
			for i, step := range jobs.StockHistories(h.start, 80).Example(seed) {
				switch args := step.Args.(type) {
				case nil:
				case jobs.Define:
					h.settle()
					h.define(args)
				default:
					h.ask(step, (i+seed)%5 == 0)
				}
			}
			h.settle()
			proven(t, h.pool)
		})
	}
}

// stockHistory is a history on its way through the database.
type stockHistory struct {
	*testing.T
	pool     *pgxpool.Pool
	model    *jobs.Stock
	settings outbox.Settings
	start    time.Time
	asked    []jobs.Step // and not settled yet
}

func (h *stockHistory) open() {
	h.Helper()
	for id, a := range h.model.Money.Accounts {
		exec(h.T, h.pool, `SELECT lastseat.open_account($1, $2, $3::text::bigint)`, id, a.Currency, text(a.Limit))
	}
	exec(h.T, h.pool, `SELECT lastseat.define_limit('show', 2), lastseat.define_limit('most', 9223372036854775807),
		lastseat.define_limit('free', NULL)`)
	for id, r := range h.model.Resources {
		exec(h.T, h.pool, `SELECT lastseat.define_resource($1, $2, $3, nullif($4, ''))`, id, r.Capacity-min(2, r.Capacity),
			min(2, r.Capacity), r.Group)
	}
}

func (h *stockHistory) ask(step jobs.Step, twice bool) {
	h.Helper()
	_, err := outbox.EnqueueMany(h.Context(), h.pool, []outbox.Request{{Key: step.Key, Args: step.Args}})
	if raw := errors.Is(err, outbox.ErrUnknown) || errors.Is(err, outbox.ErrKeyReused); err != nil && !raw {
		h.Fatal(err)
	} else if raw || twice {
		insertJob(h.T, h.pool, step.Key, step.Args)
	}
	if err == nil {
		expiresAt := time.Now().Add(15 * time.Minute)
		if hold, ok := step.Args.(jobs.Hold); ok && !hold.ExpiresAt.IsZero() {
			expiresAt = hold.ExpiresAt
		}
		h.model.Begin(step.Key, step.Args, expiresAt)
	}
	exec(h.T, h.pool, `UPDATE lastseat.river_job SET scheduled_at = $2 WHERE args ->> 'key' = $1`, step.Key,
		h.start.Add(step.After))
	h.asked = append(h.asked, step)
}

// define changes a capacity, which has to be refused where the model does so.
func (h *stockHistory) define(d jobs.Define) {
	h.Helper()
	_, err := h.pool.Exec(h.Context(), `SELECT lastseat.define_resource($1, $2, 0)`, d.Resource, d.Capacity)
	if done := h.model.Define(d, time.Now()); done != (err == nil) {
		h.Errorf("%+v: %v", d, err)
	}
	h.settle()
}

// settle drains the lane, and holds everything against the model.
func (h *stockHistory) settle() {
	h.Helper()
	waiting := testdb.Scalar[int](h.T, h.pool, `SELECT count(*)::int FROM lastseat.river_job`)
	if stats := drain(h.T, h.pool, h.settings); stats.Failures != 0 || stats.Conflicts == 0 &&
		int(stats.Batches) > (waiting+h.settings.Batch-1)/h.settings.Batch {
		h.Errorf("%d jobs: %+v", waiting, stats) // more batches: the database has refused one, which was cut
	}
	for _, step := range h.asked {
		want := h.model.Do(step.Key, h.start.Add(step.After), step.Args)
		if o := outcome(h.T, h.pool, step.Key); o.Code != want {
			h.Errorf("%s %+v: %s %s, the model says %s", step.Key, step.Args, o.Code, o.Detail, want)
		}
	}
	h.asked = nil
	h.model.Advance(time.Now())
	h.compare()
}

func (h *stockHistory) compare() {
	h.Helper()
	m := h.model
	for id, r := range m.Resources {
		want := fmt.Sprintf("%d of %d, %d held, %d confirmed, %v wait", r.Capacity-m.Sum(id, "held")-m.Sum(id, "confirmed"),
			r.Capacity, m.Sum(id, "held"), m.Sum(id, "confirmed"), m.Line(id))
		got := testdb.Scalar[string](h.T, h.pool, `SELECT format('%s of %s, %s held, %s confirmed, [%s] wait', a.available,
			a.capacity + a.overbook, a.held, a.confirmed,
			(SELECT string_agg(w.reservation_id, ' ' ORDER BY w.number) FROM lastseat.waiting_items w
			  WHERE w.resource_id = a.resource)) FROM lastseat.availability(ARRAY[$1]) a`, id)
		if got != want {
			h.Errorf("%s: %s; the model: %s", id, got, want)
		}
	}
	want := ""
	for _, id := range slices.Sorted(maps.Keys(m.Reservations)) {
		want += fmt.Sprint(id, " ", m.Reservations[id].Status, " ", m.Reservations[id].Key, "\n")
	}
	if got := testdb.Scalar[string](h.T, h.pool, `SELECT coalesce(string_agg(format(E'%s %s %s\n', id, status, key), ''
		ORDER BY id), '') FROM lastseat.reservations`); got != want {
		h.Errorf("reservations:\n%s; the model's:\n%s", got, want)
	}
	for _, group := range []string{"show", "free", "most"} {
		for _, customer := range jobs.StockCustomers {
			got := testdb.Scalar[string](h.T, h.pool, `SELECT coalesce((SELECT quantity::text FROM lastseat.customer_counts
				WHERE limit_group = $1 AND customer = $2), '0')`, group, customer)
			if want := m.Count(group, customer, nil).String(); got != want {
				h.Errorf("%s has %s of %s, the model says %s", customer, got, group, want)
			}
		}
	}
	for prefix, ids := range map[string][]string{"lastseat:reservation.grant:": m.Granted,
		"lastseat:reservation.expire:": m.RanOut} {
		got := testdb.Scalar[string](h.T, h.pool, `SELECT coalesce(string_agg(substr(key, char_length($1) + 1), ' '
			ORDER BY key), '') FROM lastseat.requests WHERE starts_with(key, $1) AND status = 'applied'`, prefix)
		if want := strings.Join(slices.Sorted(slices.Values(ids)), " "); got != want {
			h.Errorf("%s of %s; the model: %s", prefix, got, want)
		}
	}
	if n := testdb.Scalar[int](h.T, h.pool, `SELECT count(*)::int FROM lastseat.resources WHERE grown`); n != 0 {
		h.Errorf("%d resources have grown still", n)
	}
}

// A hold that failed, and is asked to be tried again: it is late for its time. A booking is not, for it waits for
// nobody.
func TestRetryOfFailedHolds(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR'),
		lastseat.define_resource('seat', 5)`)
	exec(t, pool, `CREATE TRIGGER broken BEFORE UPDATE ON lastseat.reservations FOR EACH ROW
		WHEN (NEW.id LIKE 'bad%') EXECUTE FUNCTION lastseat.refuse_change('It is broken.')`)
	const seat = `'[{"resource": "seat"}]'`
	exec(t, pool, `SELECT lastseat.hold('hold', 'bad hold', `+seat+`), lastseat.hold('late', 'bad late', `+seat+
		`), lastseat.book('book', 'bad book', `+seat+`, 'bank', 'shop', 5, 'EUR'), lastseat.hold('good', 'good', `+seat+`)`)
	exec(t, pool, `UPDATE lastseat.river_job SET max_attempts = 1`)
	if stats := drain(t, pool, outbox.Settings{}); stats.Failures != 3 {
		t.Errorf("%+v", stats)
	}
	for key, code := range map[string]string{"hold": outbox.CodeRetriesExhausted, "late": outbox.CodeRetriesExhausted,
		"book": outbox.CodeRetriesExhausted, "good": jobs.CodeHeld} {
		if o := outcome(t, pool, key); o.Code != code {
			t.Errorf("%s: %+v", key, o)
		}
	}
	if held := testdb.Scalar[int64](t, pool, `SELECT held FROM lastseat.resources`); held != 1 {
		t.Errorf("%d are held", held)
	}
	// nobody else can have its id meanwhile
	insertJob(t, pool, "thief", jobs.Hold{Reservation: "bad hold", Items: []jobs.Item{{Resource: "seat"}}})
	exec(t, pool, `DROP TRIGGER broken ON lastseat.reservations`)
	// an hour later
	exec(t, pool, `ALTER TABLE lastseat.reservations DISABLE TRIGGER fixed; UPDATE lastseat.reservations
		SET expires_at = now() - interval '1 hour'
		  WHERE id IN ('bad late', 'bad book'); ALTER TABLE lastseat.reservations ENABLE TRIGGER fixed`)
	exec(t, pool, `SELECT lastseat.retry('hold'), lastseat.retry('late'), lastseat.retry('book')`)
	drain(t, pool, outbox.Settings{})
	for key, code := range map[string]string{"hold": jobs.CodeHeld, "late": jobs.CodeHoldExpired, "book": jobs.CodeBooked,
		"thief": outbox.CodeInvalidArgs} {
		if o := outcome(t, pool, key); o.Code != code {
			t.Errorf("%s: %s %s, want %s", key, o.Code, o.Detail, code)
		}
	}
	proven(t, pool)
}

// What is not there when a hold is settled is not waited for, though somebody defines it later: the same key is the
// same answer.
func TestResourceThatIsDefinedLater(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.define_resource('seat', 1)`)
	hold := jobs.Hold{Reservation: "r", Items: []jobs.Item{{Resource: "seat"}, {Resource: "later"}}, Wait: true}
	insertJob(t, pool, "k", hold)
	drain(t, pool, outbox.Settings{})
	exec(t, pool, `SELECT lastseat.define_resource('later', 1)`)
	insertJob(t, pool, "k", hold)
	insertJob(t, pool, "k2", hold)
	hold.Reservation = "r2"
	insertJob(t, pool, "k3", hold)
	drain(t, pool, outbox.Settings{})
	for key, code := range map[string]string{"k": jobs.CodeResourceNotFound, "k2": outbox.CodeInvalidArgs,
		"k3": jobs.CodeHeld} {
		if o := outcome(t, pool, key); o.Code != code {
			t.Errorf("%s: %s %s, want %s", key, o.Code, o.Detail, code)
		}
	}
	proven(t, pool)
}
