package jobs

import (
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// recordKinds are the kinds of what time brought about. Nobody can ask for them: a job of such a kind is invalid.
var recordKinds = []outbox.Kind{
	{Name: kindExpire, OrderBy: "payment", LocksWhatItReads: true},
	{Name: "reservation.expire", OrderBy: "reservation", LocksWhatItReads: true},
	{Name: "reservation.grant", OrderBy: "reservation", LocksWhatItReads: true},
}

func refuseRecord([]byte) (operation, error) {
	return nil, errors.New("nobody can ask for this: the worker records it when it happens")
}

// What time brought about, and nobody asked for, is recorded like what was asked for: as a request that is applied. Its
// key is the worker's own: the SQL functions refuse keys that begin like it.
const recordSQL = `SELECT lastseat.record(@kind, @argument, @code, @ids::text[])`

// record is what happened to rows with these ids.
type record struct {
	kind, argument, code string
	ids                  []string
}

func (s *state) records() []record {
	return []record{
		{kindExpire, "payment", CodeExpired, s.money.expired},
		{"reservation.expire", "reservation", CodeExpired, s.places.expired},
		{"reservation.grant", "reservation", CodeHeld, s.places.line.granted},
	}
}

// letGoSQL asks for the expiry of authorizations by card.
const letGoSQL = `SELECT lastseat.expire_by_card(@ids::text[])`

func (s *state) writeRecords(write *pgx.Batch) {
	if len(s.money.letGo) > 0 {
		slices.Sort(s.money.letGo)
		write.Queue(letGoSQL, pgx.NamedArgs{"ids": s.money.letGo})
	}
	for _, record := range s.records() {
		if len(record.ids) == 0 {
			continue
		}
		slices.Sort(record.ids)
		write.Queue(recordSQL, pgx.NamedArgs{
			"kind": record.kind, "argument": record.argument, "code": record.code, "ids": record.ids,
		})
	}
}

// Records describes the kinds of what time brings about. Nobody can ask for them; they have outcomes.
func Records() []Kind {
	does := map[string]string{
		kindExpire:           "An authorization that expired",
		"reservation.expire": "A hold or a wait that expired",
		"reservation.grant":  "A waiting reservation that got its place",
	}
	var all []Kind
	for _, record := range (&state{}).records() {
		all = append(all, Kind{Name: record.kind, Applied: []string{record.code}, Does: does[record.kind]})
	}
	return all
}
