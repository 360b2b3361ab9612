package jobs

import (
	"slices"

	"github.com/jackc/pgx/v5"
)

// What time brought about, and nobody asked for, is recorded like what was asked for: as a request that is applied. Its
// key is the worker's own: the SQL functions refuse keys that begin like it.
const recordSQL = `SELECT lastseat.record(@kind, @argument, @code, @ids::text[])`

func (s *state) writeRecords(write *pgx.Batch) {
	for _, record := range []struct {
		kind, argument, code string
		ids                  []string
	}{
		{"payment.expire", "payment", CodeExpired, s.money.expired},
		{"reservation.expire", "reservation", CodeExpired, s.places.expired},
		{"reservation.grant", "reservation", CodeHeld, s.places.line.granted},
	} {
		if len(record.ids) == 0 {
			continue
		}
		slices.Sort(record.ids)
		write.Queue(recordSQL, pgx.NamedArgs{
			"kind": record.kind, "argument": record.argument, "code": record.code, "ids": record.ids,
		})
	}
}
