package audit

import (
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Whoever may write a time may write infinity, which pgx reads into no time.Time. The audit has to name such a row: so
// it reads infinity as a time that no row can have, and the row is not what the history has of it.

// endless stands for infinity, and one year before it for -infinity.
var endless = time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC)

type timesCodec struct{ *pgtype.TimestamptzCodec }

// PlanScan implements [pgtype.Codec].
func (c timesCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, plain := target.(*time.Time); !plain {
		return c.TimestamptzCodec.PlanScan(m, oid, format, target)
	}
	if plan := c.TimestamptzCodec.PlanScan(m, oid, format, &pgtype.Timestamptz{}); plan != nil {
		return timesPlan{plan}
	}
	return nil
}

type timesPlan struct{ plan pgtype.ScanPlan }

// Scan implements [pgtype.ScanPlan].
func (p timesPlan) Scan(src []byte, target any) error {
	into, _ := target.(*time.Time) // PlanScan has looked
	if src == nil {
		return p.plan.Scan(src, into)
	}
	var read pgtype.Timestamptz
	err := p.plan.Scan(src, &read)
	switch read.InfinityModifier {
	case pgtype.Infinity:
		*into = endless
	case pgtype.NegativeInfinity:
		*into = endless.AddDate(-1, 0, 0)
	default:
		*into = read.Time
	}
	return err
}

// readEveryTime has a connection read infinity, until the function that it returns is called.
func readEveryTime(conn *pgx.Conn) (restore func()) {
	times := func(codec pgtype.Codec) {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: codec})
	}
	times(timesCodec{&pgtype.TimestamptzCodec{}})
	return func() { times(&pgtype.TimestamptzCodec{}) }
}
