package jobs

import (
	"slices"

	"github.com/jackc/pgx/v5"
)

// What time brought about, and nobody asked for, is recorded like what was asked for: as a request that is applied. The
// keys are the worker's own: nobody else's begin like them.
const recordSQL = `SELECT lastseat.record(@kind, @argument, @code, @ids::text[])`

func (s *state) writeRecords(write *pgx.Batch) {
	for _, record := range []struct {
		kind, argument, code string
		ids                  []string
	}{
		{"payment.expire", "payment", CodeExpired, s.expired},
		{"reservation.expire", "reservation", CodeExpired, s.ranOut},
		{"reservation.grant", "reservation", CodeHeld, s.granted},
	} {
		if len(record.ids) == 0 {
			continue
		}
		slices.Sort(record.ids)
		write.Queue(recordSQL, pgx.NamedArgs{"kind": record.kind, "argument": record.argument, "code": record.code, "ids": record.ids})
	}
}
