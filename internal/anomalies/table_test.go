package anomalies_test

import (
	"maps"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

// mechanism is what a column of the table is about.
type mechanism string

const (
	readCommitted  mechanism = "READ COMMITTED"
	repeatableRead mechanism = "REPEATABLE READ"
	serializable   mechanism = "SERIALIZABLE"
	rowLock        mechanism = "row lock"
	byVersion      mechanism = "version"
	uniqueKey      mechanism = "unique key"
	lane           mechanism = "lane"
)

// mechanisms are the columns. Those that are no level are played at READ COMMITTED, the lane at every level.
var mechanisms = []struct {
	name  mechanism
	level pgx.TxIsoLevel
}{
	{readCommitted, pgx.ReadCommitted}, {repeatableRead, pgx.RepeatableRead}, {serializable, pgx.Serializable},
	{rowLock, pgx.ReadCommitted}, {byVersion, pgx.ReadCommitted}, {uniqueKey, pgx.ReadCommitted}, {lane, ""},
}

var levels = []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}

// verdict is what it comes to. Beside these, a SQLSTATE: a client was stopped by that error, and nothing is wrong.
type verdict string

const (
	anomaly verdict = "anomaly" // something is wrong, and nobody was told
	right   verdict = "right"   // all is well, and nobody was stopped
	stale   verdict = "stale"   // a client was stopped by txn.ErrStale, and nothing is wrong

	serialization verdict = "40001"
	deadlock      verdict = "40P01"
	duplicate     verdict = "23505"
	exclusion     verdict = "23P01"
)

// row is the three levels, in their order.
func row(rc, rr, ser verdict, more map[mechanism]verdict) map[mechanism]verdict {
	all := map[mechanism]verdict{readCommitted: rc, repeatableRead: rr, serializable: ser, lane: right}
	maps.Copy(all, more)
	return all
}

type by = map[mechanism]verdict

// verdicts is the table of docs/concurrency.md. A mechanism that is no answer to an anomaly has no entry.
var verdicts = map[string]map[mechanism]verdict{
	"TestDirtyRead":            row(right, right, right, nil),
	"TestNonRepeatableRead":    row(anomaly, right, right, by{rowLock: right, byVersion: stale}),
	"TestPhantom":              row(anomaly, right, right, by{rowLock: anomaly}),
	"TestLostUpdate":           row(anomaly, serialization, serialization, by{rowLock: right, byVersion: stale}),
	"TestDoctorsOnCall":        row(anomaly, anomaly, serialization, by{rowLock: right, byVersion: anomaly}),
	"TestLimitOverTwoAccounts": row(anomaly, anomaly, serialization, by{rowLock: right, byVersion: anomaly}),
	"TestLastSeat": row(anomaly, anomaly, serialization, by{rowLock: right, byVersion: stale,
		uniqueKey: duplicate}),
	"TestOverlap": row(anomaly, anomaly, serialization, by{rowLock: right, byVersion: stale,
		uniqueKey: exclusion}),
	"TestTransferDiesHalfWay": row(anomaly, anomaly, anomaly, nil),
	"TestDeadlock":            row(deadlock, deadlock, deadlock, by{rowLock: right}),
	"TestDeadlockStorm":       row(deadlock, deadlock, deadlock, by{rowLock: right}),
	"TestLongTransaction":     row(anomaly, anomaly, anomaly, by{rowLock: anomaly, byVersion: stale}),
	"TestRepeatedSideEffect":  row(anomaly, anomaly, anomaly, by{uniqueKey: right}),
	"TestLostReplyToCommit":   row(anomaly, anomaly, anomaly, by{uniqueKey: duplicate}),
	"TestDoubleSubmit": row(anomaly, anomaly, serialization, by{rowLock: right, byVersion: stale,
		uniqueKey: duplicate}),
	"TestOutOfOrder": row(anomaly, anomaly, anomaly, by{rowLock: anomaly}),
}
