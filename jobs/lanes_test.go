package jobs_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// Four lanes, and one client that asks for holds, with and without waiting, confirms, cancels and extends on 13
// resources, 150 a second, many of which run out at once. The lanes share all the resources. They never wait for each
// other in a circle, and no job loses an attempt.
func TestLanesShareFewResources(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT count(lastseat.define_resource('place/' || n, 3)) FROM generate_series(0, 12) n`)
	startWorker(t, pool, outbox.Settings{Lanes: 4})
	var keys []string
	asks := testdb.Soak(450, 9000)
	tick := time.NewTicker(time.Second / 150)
	defer tick.Stop()
	for i := range asks {
		<-tick.C
		reservation, key := fmt.Sprint("r", max(0, i-rand.IntN(12))), fmt.Sprint("k", i)
		var args outbox.Args
		switch rand.IntN(6) {
		case 0:
			args = jobs.Confirm{Reservation: reservation}
		case 1:
			args = jobs.Cancel{Reservation: reservation}
		case 2:
			args = jobs.Extend{Reservation: reservation, ExpiresAt: time.Now().Add(time.Second)}
		}
		if hold := fmt.Sprint("r", i); args == nil || i < 12 || !known(t, keys, reservation) {
			first := rand.IntN(13)
			args = jobs.Hold{Reservation: hold, Wait: rand.IntN(2) == 0,
				ExpiresAt: time.Now().Add(time.Duration(100+rand.IntN(900)) * time.Millisecond),
				Items:     []jobs.Item{{Resource: fmt.Sprint("place/", first)}, {Resource: fmt.Sprint("place/", (first+1)%13)}}}
			key = "hold " + hold
		}
		if _, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: key, Args: args}}); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	settle(t, pool, keys...)
	settledWithin(t, pool)
	if n := retried(t, pool); n != 0 {
		t.Errorf("%d requests have used more than one attempt", n)
	}
	deadlocks := testdb.Scalar[int](t, pool, `
		SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()`)
	if deadlocks != 0 {
		t.Errorf("%d deadlocks", deadlocks)
	}
	proven(t, pool)
}

// known tells whether a reservation was asked for.
func known(t *testing.T, keys []string, reservation string) bool {
	t.Helper()
	return slices.Contains(keys, "hold "+reservation)
}

// settledWithin logs how long requests took, and how late ran out what nobody ended.
func settledWithin(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	t.Logf("milliseconds, median, 99th percentile and worst: %s; late by %s", testdb.Scalar[string](t, pool, `
		SELECT percentile_disc(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (
		         ORDER BY (extract(epoch FROM settled_at - requested_at) * 1000)::int)::text
		FROM lastseat.requests WHERE key NOT LIKE 'lastseat:%'`), testdb.Scalar[string](t, pool, `
		SELECT percentile_disc(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (
		         ORDER BY (extract(epoch FROM r.settled_at - v.expires_at) * 1000)::int)::text
		FROM lastseat.requests r JOIN lastseat.reservations v ON r.key = 'lastseat:reservation.expire:' || v.id`))
}
