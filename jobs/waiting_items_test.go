package jobs_test

import (
	"fmt"
	"testing"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// Ten parties wait with 2,500 items each, which is more than one transaction looks at. What they wait for is cancelled,
// and only the last of them can have it: the sweeps come to it.
func TestLineOfManyItemsIsReadInParts(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT count(lastseat.define_resource('i/' || n, 100)) FROM generate_series(1, 2498) n`)
	exec(t, pool, `SELECT lastseat.define_resource('gate', 1), lastseat.define_resource('never', 0)`)
	var items []jobs.Item
	for n := range 2498 {
		items = append(items, jobs.Item{Resource: fmt.Sprint("i/", n+1)})
	}
	askInOrder(t, pool, jobs.Hold{Reservation: "has", Items: one("gate")})
	for n := range 10 {
		wants := append([]jobs.Item{{Resource: "gate"}, {Resource: "never"}}, items...)
		if n == 9 {
			wants = append([]jobs.Item{{Resource: "gate"}}, items...)
		}
		key := fmt.Sprint("waits", n)
		request := outbox.Request{Key: key, Args: jobs.Hold{Reservation: key, Items: wants, Wait: true}}
		if _, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{request}); err != nil {
			t.Fatal(err)
		}
	}
	drain(t, pool, outbox.Settings{Batch: 1})
	if _, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{
		{Key: "gone", Args: jobs.Cancel{Reservation: "has"}},
	}); err != nil {
		t.Fatal(err)
	}
	drain(t, pool, outbox.Settings{})
	for n := range 10 {
		want := "waiting"
		if n == 9 {
			want = "held"
		}
		if r, err := jobs.ReservationOf(t.Context(), pool, fmt.Sprint("waits", n)); err != nil || r.Status != want {
			t.Errorf("%s is %s, want %s (%v)", r.ID, r.Status, want, err)
		}
	}
	proven(t, pool)
}
