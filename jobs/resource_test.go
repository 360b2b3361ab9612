package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"math"
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

func define(t *testing.T, pool *pgxpool.Pool, resource jobs.Resource) (receipt outbox.Receipt, err error) {
	t.Helper()
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		receipt, err = jobs.DefineResource(t.Context(), tx, resource)
		return err
	})
	return receipt, err
}

func limit(t *testing.T, pool *pgxpool.Pool, group string, perCustomer *int64) (receipt outbox.Receipt, err error) {
	t.Helper()
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		receipt, err = jobs.DefineLimit(t.Context(), tx, group, perCustomer)
		return err
	})
	return receipt, err
}

func TestDefineResource(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	for _, limits := range []struct {
		group     string
		most      *int64
		duplicate bool
		err       error
	}{
		{"hall", new(int64), false, nil}, {"hall", new(int64), true, nil}, {"hall", nil, false, nil}, {"hall", nil, true,
			nil},
		{"", nil, false, outbox.ErrInvalid}, {strings.Repeat("x", 201), nil, false, outbox.ErrInvalid},
		{"hall", new(int64(-1)), false, outbox.ErrInvalid},
	} {
		if receipt, err := limit(t, pool, limits.group, limits.most); !errors.Is(err, limits.err) ||
			receipt.Duplicate != limits.duplicate {
			t.Errorf("limit %+v: %+v, %v", limits, receipt, err)
		}
	}
	for _, c := range []struct {
		resource  jobs.Resource
		duplicate bool
		err       error
	}{
		{jobs.Resource{ID: "a", Capacity: 5, Overbook: new(int64(1))}, false, nil},
		{jobs.Resource{ID: "a", Capacity: 5, Overbook: new(int64(1))}, true, nil},
		{jobs.Resource{ID: "a", Capacity: 5}, true, nil}, // it keeps its allowance
		{jobs.Resource{ID: "a", Capacity: 4}, false, nil},
		{jobs.Resource{ID: "a", Capacity: 4, Overbook: new(int64(1))}, true, nil},
		{jobs.Resource{ID: "a", Capacity: 5, Overbook: new(int64)}, false, nil},
		{jobs.Resource{ID: "a", Capacity: 5, LimitGroup: "hall"}, false, outbox.ErrKeyReused},
		{jobs.Resource{ID: "b", LimitGroup: "hall"}, false, nil},
		{jobs.Resource{ID: "b", LimitGroup: "hall"}, true, nil},
		{jobs.Resource{ID: "b"}, true, nil}, // it keeps its group
		{jobs.Resource{ID: "c", LimitGroup: "none"}, false, outbox.ErrUnknown},
		{jobs.Resource{ID: "", Capacity: 1}, false, outbox.ErrInvalid},
		{jobs.Resource{ID: "c", Capacity: -1}, false, outbox.ErrInvalid},
		{jobs.Resource{ID: "c", Capacity: math.MaxInt64, Overbook: new(int64(1))}, false, outbox.ErrInvalid},
	} {
		if receipt, err := define(t, pool, c.resource); !errors.Is(err, c.err) || receipt.Duplicate != c.duplicate {
			t.Errorf("%+v: %+v, %v", c.resource, receipt, err)
		}
	}
	exec(t, pool, `SELECT lastseat.hold('h', 'r', '[{"resource": "a", "quantity": 3}]')`)
	drain(t, pool, outbox.Settings{})
	if _, err := define(t, pool, jobs.Resource{ID: "a", Capacity: 2}); !errors.Is(err, outbox.ErrInvalid) {
		t.Errorf("less than is held: %v", err)
	}
	proven(t, pool)
}

// What is read is the same whatever the session's time zone is.
func TestReadReservations(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.define_limit('g', 100), lastseat.define_resource('s/1', 10, 2, 'g'),
		lastseat.define_resource('s/2', 1), lastseat.define_resource('room', 1)`)
	exec(t, pool, `SELECT lastseat.hold('h1', 'r1',
		'[{"resource": "s/1", "quantity": 3}, {"resource": "room", "during": "[2026-12-01T10:00:00Z,2026-12-01T11:30:00.25Z)"}]', '2099-01-01 00:00Z', 'ada'),
		lastseat.hold('h2', 'r2', '[{"resource": "s/1"}]', '2099-01-01 00:00Z', 'ada'), lastseat.confirm('c2', 'r2')`)
	if got, err := jobs.ReservationOf(t.Context(), pool, "r1"); err != nil || got.Status != "pending" ||
		len(got.Items) != 0 {
		t.Errorf("before it is settled: %+v, %v", got, err)
	}
	drain(t, pool, outbox.Settings{})
	during := jobs.TimeRange{Start: time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC), End: time.Date(2026, 12, 1, 11, 30, 0,
		250_000_000, time.UTC)}
	for _, settings := range []string{"TimeZone=UTC", "TimeZone=Asia/Kolkata", "TimeZone=America/St_Johns"} {
		name, value, _ := strings.Cut(settings, "=")
		conn, err := pgx.Connect(t.Context(), pool.Config().ConnString())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), `SELECT set_config($1, $2, false)`, name, value); err != nil {
			t.Fatal(err)
		}
		got, err := jobs.ReservationOf(t.Context(), conn, "r1")
		if err != nil || got.Status != "held" || got.Customer != "ada" || got.Key != "h1" || got.Version != 1 ||
			len(got.Items) != 2 ||
			!got.ExpiresAt.Equal(time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)) || got.ExpiresAt.Location() != time.UTC {
			t.Errorf("%s: %+v, %v", settings, got, err)
		} else if got.Items[0].Resource != "s/1" || got.Items[0].Quantity != 3 || got.Items[0].During != nil ||
			got.Items[1].During == nil || *got.Items[1].During != during {
			t.Errorf("%s: items %+v %v", settings, got.Items, got.Items[1].During)
		}
		if taken, err := jobs.Occupied(t.Context(), conn, "room", time.Time{}, time.Time{}); err != nil || len(taken) != 1 ||
			taken[0] != (jobs.Occupation{During: during, Reservation: "r1", Status: "held"}) {
			t.Errorf("%s: %+v, %v", settings, taken, err)
		}
		_ = conn.Close(context.WithoutCancel(t.Context()))
	}
	for _, c := range []struct {
		from, to time.Time
		want     int
	}{
		{during.End, time.Time{}, 0}, {time.Time{}, during.Start, 0}, {during.End.Add(-time.Microsecond), time.Time{}, 1},
		{time.Time{}, during.Start.Add(time.Microsecond), 1}, {during.Start, during.End, 1},
		{during.Start.In(time.FixedZone("", 3600)), during.End, 1},
	} {
		if taken, err := jobs.Occupied(t.Context(), pool, "room", c.from, c.to); err != nil || len(taken) != c.want {
			t.Errorf("from %v to %v: %+v, %v", c.from, c.to, taken, err)
		}
	}
	if _, err := jobs.ReservationOf(t.Context(), pool, "none"); !errors.Is(err, outbox.ErrUnknown) {
		t.Errorf("no reservation: %v", err)
	}
	if _, err := jobs.Occupied(t.Context(), pool, "none", time.Time{}, time.Time{}); !errors.Is(err, outbox.ErrUnknown) {
		t.Errorf("no resource: %v", err)
	}
	if _, err := jobs.Occupied(t.Context(), pool, "room", during.End, during.Start); !errors.Is(err, outbox.ErrInvalid) {
		t.Errorf("a period backwards: %v", err)
	}

	one := jobs.Available{Resource: "s/1", Free: 8, Capacity: 10, Overbook: 2, Held: 3, Confirmed: 1}
	two := jobs.Available{Resource: "s/2", Free: 1, Capacity: 1}
	for want, read := range map[string]func() ([]jobs.Available, error){
		fmt.Sprint(one, two): func() ([]jobs.Available, error) { return jobs.Availability(t.Context(), pool, "s/", "", 0) },
		fmt.Sprint(one):      func() ([]jobs.Available, error) { return jobs.Availability(t.Context(), pool, "s/", "", 1) },
		fmt.Sprint(two): func() ([]jobs.Available, error) {
			return jobs.Availability(t.Context(), pool, "s/", "s/1",
				5)
		},
		fmt.Sprint(two, one): func() ([]jobs.Available, error) {
			found, err := jobs.AvailabilityOf(t.Context(), pool, "s/2", "none", "s/1")
			slices.Reverse(found) // it is in the order of the ids
			return found, err
		},
		"": func() ([]jobs.Available, error) { return jobs.AvailabilityOf(t.Context(), pool) },
	} {
		found, err := read()
		if got := strings.Trim(fmt.Sprint(found), "[]"); err != nil || got != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
}

func TestBalanceAt(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('ada', 'EUR')`)
	exec(t, pool, `SELECT lastseat.transfer('t', 'bank', 'ada', 100, 'EUR')`)
	drain(t, pool, outbox.Settings{})
	at := testdb.Scalar[time.Time](t, pool, `SELECT created_at FROM lastseat.entries WHERE account_id = 'ada'`)
	for offset, want := range map[time.Duration]int64{0: 0, time.Microsecond: 100, time.Hour: 100, -time.Hour: 0} {
		if got, err := jobs.BalanceAt(t.Context(), pool, "ada", at.Add(offset)); err != nil || got != want {
			t.Errorf("%v later: %d, %v; want %d", offset, got, err, want)
		}
	}
	if _, err := jobs.BalanceAt(t.Context(), pool, "none", at); !errors.Is(err, outbox.ErrUnknown) {
		t.Errorf("no account: %v", err)
	}
}
