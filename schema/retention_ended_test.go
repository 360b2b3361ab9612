package schema_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	removePayment = `SELECT lastseat.remove_payments($1, array_fill('\x00'::bytea, ARRAY[cardinality($1::text[])]),
		(SELECT count(*) + 1 FROM lastseat.history), now(), '\x00')`

	removeReservation = `SELECT lastseat.remove_reservations($1, array_fill('\x00'::bytea, ARRAY[cardinality($1::text[])]),
		$2, array_fill('\x00'::bytea, ARRAY[cardinality($2::text[])]), (SELECT count(*) + 1 FROM lastseat.history), now(),
		'\x00', '\x00')`
)

// A keeper removes payments and reservations that have ended, as it has read them, with all of their items, and no
// other.
func TestOnlyWhatHasEndedIsRemoved(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	keeper := connect(t, pool, "lastseat_keeper")
	exec(t, pool, `SELECT lastseat.define_limit('fans', 4), lastseat.define_resource('hall', 1),
		lastseat.define_resource('night', 1), lastseat.define_resource('pit', 1, 0, 'fans')`)
	exec(t, pool, `INSERT INTO lastseat.payments (id, key, from_account, to_account, amount, currency, expires_at, processor,
		method) SELECT id, id, 'a', 'b', 1, 'EUR', now(), CASE id WHEN 'by-card' THEN 'stripe' END,
		CASE id WHEN 'by-card' THEN 'pm' END FROM unnest('{waits,live,void,void@1,by-card}'::text[]) AS id`)
	exec(t, pool, `UPDATE lastseat.payments SET status = 'authorized', version = 1 WHERE id <> 'waits'`)
	exec(t, pool, `UPDATE lastseat.payments SET status = 'voided', version = 2 WHERE id IN ('void', 'void@1', 'by-card')`)
	exec(t, pool, `INSERT INTO lastseat.reservations (id, key, customer, expires_at)
		SELECT id, id, CASE WHEN id IN ('fan', 'past') THEN 'kim' END, now()
		FROM unnest('{waits,live,gone,past,ahead,counted,fan,refused}'::text[]) AS id`)
	exec(t, pool, `UPDATE lastseat.reservations SET version = 1,
		status = CASE id WHEN 'refused' THEN 'rejected' ELSE 'held' END WHERE id <> 'waits'`)
	exec(t, pool, `UPDATE lastseat.reservations SET version = 2,
		status = CASE id WHEN 'gone' THEN 'cancelled' ELSE 'confirmed' END
		WHERE id IN ('gone', 'past', 'ahead', 'counted', 'fan')`)
	exec(t, pool, `INSERT INTO lastseat.reservation_items (reservation_id, position, resource_id, quantity, during, occupies)
		VALUES ('gone', 1, 'night', 1, NULL, NULL), ('gone', 2, 'night', 1, NULL, NULL),
		       ('past', 1, 'hall', 1, '[2020-01-01,2020-01-02)', true),
		       ('ahead', 1, 'hall', 1, '[2020-01-02,2020-01-03)', true),
		       ('ahead', 2, 'hall', 1, '[2200-01-02,2200-01-03)', true),
		       ('counted', 1, 'hall', 1, '[2020-01-03,2020-01-04)', true), ('counted', 2, 'night', 1, NULL, NULL),
		       ('fan', 1, 'pit', 1, '[2020-01-01,2020-01-02)', true)`)
	refused := func(code, sql string, args ...any) {
		t.Helper()
		trial(t, pool, func(tx pgx.Tx) {
			exec(t, tx, `SET LOCAL ROLE lastseat_keeper`)
			_, err := tx.Exec(t.Context(), sql, args...)
			wantRefusal(t, err, code)
		})
	}
	list := func(all ...string) []string { return append([]string{}, all...) }
	for _, table := range []string{"payments", "reservations", "reservation_items", "removed_ids"} {
		refused("42501", `DELETE FROM lastseat.`+table)
	}
	refused("42501", `INSERT INTO lastseat.removed_ids VALUES ('payments', 'live')`)
	refused("40001", removePayment, list("void@2")) // no policy
	refused("40001", removeReservation, list("refused@1"), list())
	exec(t, pool, `SELECT lastseat.keep('payments', 1), lastseat.keep('reservations', 1)`)
	refused("40001", removePayment, list("void@2")) // of today
	refused("40001", removeReservation, list("refused@1"), list())
	exec(t, pool, `SELECT lastseat.keep('payments', 0), lastseat.keep('reservations', 0)`)
	for _, key := range []string{"waits@0", "live@1", "by-card@2", "void@1", "void@3", "void", "nobody@2"} {
		refused("40001", removePayment, list(key))
		refused("40001", removePayment, list("void@2", key))
	}
	refused("23505", removePayment, list("void@2", "void@2"))
	for _, of := range [][2][]string{
		{list("waits@0"), list()}, {list("live@1"), list()}, {list("gone@1"), list("gone#1", "gone#2")},
		{list("ahead@2"), list("ahead#1", "ahead#2")}, {list("counted@2"), list("counted#1", "counted#2")},
		{list("fan@2"), list("fan#1")}, {list("gone@2"), list("gone#1", "gone#2", "past#1")},
		{list("gone@2", "live@1"), list("gone#1", "gone#2")},
	} {
		refused("40001", removeReservation, of[0], of[1])
	}
	refused(integrity, removeReservation, list("gone@2"), list("gone#1")) // an item without a link
	refused(integrity, removeReservation, list("gone@2"), list("gone#1", "past#1"))
	exec(t, keeper, removePayment, list("void@2", "void@1@2"))
	exec(t, keeper, removeReservation, list("gone@2", "past@2", "refused@1"), list("gone#1", "gone#2", "past#1"))
	if got := scalar[string](t, pool, `SELECT string_agg(id, ' ' ORDER BY id COLLATE "C") FROM (
		SELECT id FROM lastseat.payments UNION ALL SELECT id FROM lastseat.reservations) r`); got !=
		"ahead by-card counted fan live live waits waits" {
		t.Errorf("left are %s", got)
	}
	if got := scalar[string](t, pool, `SELECT string_agg(what || ' ' || id, ', ' ORDER BY what, id COLLATE "C")
		FROM lastseat.removed_ids`); got != "payments void, payments void@1, reservations gone, reservations past, reservations refused" {
		t.Errorf("removed are %s", got)
	}
	// nobody deletes past that
	for _, row := range []string{`payments WHERE id = 'live'`, `reservations WHERE id = 'fan'`,
		`reservation_items WHERE reservation_id = 'fan'`} {
		_, err := pool.Exec(t.Context(), `DELETE FROM lastseat.`+row)
		wantRefusal(t, err, integrity)
	}
	for _, insert := range []string{`payments (id, key, from_account, to_account, amount, currency, expires_at)
		VALUES ('void', 'x', 'a', 'b', 1, 'EUR', now())`, `reservations (id, key, expires_at) VALUES ('gone', 'x', now())`} {
		_, err := pool.Exec(t.Context(), `INSERT INTO lastseat.`+insert)
		wantContract(t, err, "LS001", "asked for before")
	}
}

// A day is 24 hours, whatever the time zone of a keeper's session says: a zone may have days of two weeks' summer time.
func TestKeepersCannotMoveTheCutoff(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, `SELECT lastseat.keep(what, 30)
		FROM unnest('{requests,outcome_log,taken_events,payments,reservations}'::text[]) AS what`)
	summer := fmt.Sprintf("AAA167BBB-167,J%d/0,J365/24", max(1, time.Now().YearDay()-10)) // began ten days ago
	for _, zone := range []string{"UTC", summer} {
		trial(t, pool, func(tx pgx.Tx) {
			exec(t, tx, `SELECT set_config('timezone', $1, true)`, zone)
			var right bool
			if err := tx.QueryRow(t.Context(), `SELECT lastseat.kept_since('payments') = now() - interval '720 hours'
				AND lastseat.log_cutoff() = now() - interval '720 hours'`).Scan(&right); err != nil || !right {
				t.Errorf("in the time zone %s what is old is another time (%v)", zone, err)
			}
		})
	}
	var found string
	if err := pool.QueryRow(t.Context(), `SELECT coalesce(string_agg(p.proname, ', '), '') FROM pg_proc p
		WHERE p.pronamespace = 'lastseat'::regnamespace AND p.prosrc ~ 'make_interval[(]days|interval .[0-9]+ days?'`).
		Scan(&found); err != nil || found != "" {
		t.Errorf("%s reckon in days, which depend on the session's time zone (%v)", found, err)
	}
}
