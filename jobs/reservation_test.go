package jobs_test

import (
	"testing"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func TestReservationLife(t *testing.T) {
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR'), lastseat.open_account('poor', 'EUR')`)
	for _, size := range []int{1, 2000} {
		prefix := map[int]string{1: "one-", 2000: "all-"}[size]
		exec(t, pool, `SELECT lastseat.define_resource($1 || 'seat', 1), lastseat.define_resource($1 || 'room', 1), lastseat.define_resource($1 || 'stock', 10, 2)`, prefix)
		for _, call := range []string{
			`hold($1 || 'h1', $1 || 'r1', jsonb_build_array(jsonb_build_object('resource', $1 || 'seat', 'quantity', 1)))`,
			`hold($1 || 'h2', $1 || 'r2', jsonb_build_array(jsonb_build_object('resource', $1 || 'seat')))`,
			`hold($1 || 'h3', $1 || 'r3', jsonb_build_array(jsonb_build_object('resource', $1 || 'seat')), wait => true)`,
			`confirm($1 || 'c1', $1 || 'r1')`,
			`cancel($1 || 'x1', $1 || 'r1')`,
			`confirm($1 || 'c3', $1 || 'r3')`,
			`confirm($1 || 'c2', $1 || 'r2')`,
			`hold($1 || 'h4', $1 || 'r4', jsonb_build_array(jsonb_build_object('resource', $1 || 'room', 'during', '[2026-01-01 10:00,2026-01-01 11:30)')))`,
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
			"h1": "held", "h2": "sold_out", "h3": "waiting", "c1": "confirmed", "x1": "cancelled", "c3": "confirmed", "c2": "not_held",
			"h4": "held", "h5": "overlap", "h6": "held", "x4": "cancelled", "h7": "held", "b1": "booked", "b2": "sold_out", "x8": "cancelled", "b3": "insufficient_funds",
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
