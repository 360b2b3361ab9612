package outbox

import (
	"errors"
	"slices"
	"strings"

	"github.com/lastseat/lastseat/internal/faultpoint"
	"github.com/lastseat/lastseat/internal/retry"
)

// verdict says what caused an error, and with that what the lane does about it ([lane.mend]). The words are those of
// docs/decisions/007-blame.md; docs/lane.md draws the states.
type verdict string

const (
	// nobodysFault: another transaction was in the way. The lane runs the same batch again; no job loses an attempt.
	nobodysFault verdict = "nobody's fault"
	// othersLane: another session has taken the lane, so this one stands by.
	othersLane verdict = "another worker's lane"
	// databaseCondition: shutdown, full disk, missing rights, anything that no job explains. The lane pauses and tries
	// again.
	databaseCondition verdict = "the database's condition"
	// noRoom: Postgres has no room left for predicate locks. The next batch is REPEATABLE READ, which needs none.
	noRoom verdict = "no room for predicate locks"
	// notificationsFull: COMMIT had no room for its notification. The same batch runs again without one.
	notificationsFull verdict = "no room for notifications"
	// commitUnknown: the reply to COMMIT was lost. The next claim, on a new connection, shows what was committed.
	commitUnknown verdict = "commit unknown"
	// connectionGone: this connection is of no use, and that says nothing about any job. The lane connects again.
	connectionGone verdict = "the connection is gone"
	// cutOff: the batch was ended from outside. The lane looks for a job that causes it, but charges none yet.
	cutOff verdict = "cut off from outside"
	// unclaimable: a job's row makes the claim fail. The lane finds it by claiming fewer and fewer, and charges it.
	unclaimable verdict = "a job that can't be claimed"
	// oneOfThem: one of several jobs causes the error. The lane looks for it by bisection.
	oneOfThem verdict = "one of several jobs"
	// itsDoing: the batch had one job, and that job causes the error. Its next turn is a failed attempt.
	itsDoing verdict = "the job's doing"
	// handlersDoing: a handler left the connection or the transaction unusable. Its job is known without a search; its
	// next turn, on a new connection, is a failed attempt.
	handlersDoing verdict = "a handler's doing"
	// unwritable: the job's row can't take a failed attempt. Its next turn discards it.
	unwritable verdict = "its failed attempt can't be written"
	// leftAlone: the job's row can't even be discarded. The lane leaves it where it is, and goes on.
	leftAlone verdict = "its row can't be written"
)

// evidence is what a verdict rests on besides the error.
type evidence struct {
	connected bool // the connection still works
	stopping  bool // the worker gave up on the batch because its time to stop has run out
	jobs      int  // how many jobs the failed batch had; 0: it failed before it had any
	again     bool // the batch had one job, and that job was cut off when it was alone the last time, too
	noRoom    bool // the batch already did without predicate locks
	claiming  bool // the batch's claim failed
	muted     bool // the batch already did without a notification

	charging   bool // the batch only charged a job with a failed attempt
	discarding bool // and only discarded it, because the attempt itself could not be written
}

// judge finds out what caused an error. It is a pure function: what follows from the verdict is up to the lane.
func judge(err error, e evidence) verdict {
	switch {
	case errors.Is(err, errFenced):
		return othersLane
	case errors.As(err, new(*stuckError)):
		return handlersDoing
	case errors.Is(err, ErrCommitUnknown) && retry.SQLState(err) == "": // the SQLSTATE of a session that ended tells more
		return commitUnknown
	case e.stopping:
		return connectionGone
	case e.jobs > 0 && !e.charging && fromOutside(err, e.connected):
		return judgeCutOff(e)
	case !e.connected || retry.SQLState(err) == stateReadOnly:
		return connectionGone
	case conflict(err):
		return nobodysFault
	case e.claiming && unreadable(err):
		return unclaimable
	}
	if lacking := judgeRoom(err, e); lacking != "" {
		return lacking
	}
	return judgeJobs(err, e)
}

// judgeRoom tells whether the server lacks room for something that a batch can do without, and this one did not. It
// is empty otherwise.
func judgeRoom(err error, e evidence) verdict {
	switch retry.SQLState(err) {
	case stateOutOfMemory:
		if !e.noRoom {
			return noRoom
		}
	case stateTooMuch:
		if !e.muted && errors.As(err, new(*commitError)) {
			return notificationsFull
		}
	}
	return ""
}

// judgeJobs judges an error that nothing explains but the database's condition, or the batch's jobs.
func judgeJobs(err error, e evidence) verdict {
	switch {
	case e.jobs == 0 || unavailable(err):
		return databaseCondition
	case e.charging:
		return judgeCharge(err, e)
	case faultpoint.Sabotaged(faultpoint.Blameless):
		return nobodysFault
	case e.jobs == 1:
		return itsDoing
	}
	return oneOfThem
}

// judgeCutOff: the first time may be an operator, a frozen machine, the network. The second time in a row that it
// happens to the same job alone, it is the job.
func judgeCutOff(e evidence) verdict {
	if e.jobs == 1 && e.again {
		return itsDoing
	}
	return cutOff
}

// judgeCharge: a row that refuses its failed attempt, or is damaged, will go on so. Another error of writing it, a
// missing right for example, may go away.
func judgeCharge(err error, e evidence) verdict {
	switch {
	case !refused(err):
		return databaseCondition
	case e.discarding:
		return leftAlone
	}
	return unwritable
}

const (
	stateReadOnly    = "25006" // default_transaction_read_only was on when the connection was made
	stateHeldTooLong = "25P03" // idle_in_transaction_session_timeout
	stateOutOfMemory = "53200"

	stateTooManyConnections = "53300"

	stateLockTimeout = "55P03"
	stateCanceled    = "57014"
	stateTooMuch     = "54000" // at COMMIT: the notification queue is full
)

// errRaced asks for the same as a serialization failure: roll back and run again.
var errRaced = errors.New("another session was quicker")

// conflict tells whether err is nobody's fault: the transaction met another one and may simply run again. A lock that
// another session holds for longer than lock_timeout counts, and so does a plan that a migration has made stale (pgx
// prepares the statement anew).
func conflict(err error) bool {
	code := retry.SQLState(err)
	return retry.Conflict(err) || code == stateLockTimeout || errors.Is(err, errRaced) ||
		code == "0A000" && strings.Contains(err.Error(), "cached plan must not change result type")
}

// unavailable tells whether err describes the database's condition: a shutdown, a full disk, too many connections.
// A lost connection often has no SQLSTATE at all; the lane sees that on the connection.
func unavailable(err error) bool {
	code := retry.SQLState(err)
	return slices.ContainsFunc([]string{"08", "53", "57P", "58"}, func(class string) bool {
		return strings.HasPrefix(code, class)
	})
}

// fromOutside tells whether a batch was ended from outside: the connection was lost, the transaction was held for too
// long, or the statement was cancelled. A job may have caused that (a deadline of its own, a crash), or nobody.
func fromOutside(err error, connected bool) bool {
	code := retry.SQLState(err)
	return !connected && !unavailable(err) || code == stateHeldTooLong || code == stateCanceled
}

// refused tells whether the row itself refuses what is written to it: its types and constraints (22, 23), somebody's
// trigger (P0), damage (XX).
func refused(err error) bool {
	code := retry.SQLState(err)
	return slices.ContainsFunc([]string{"22", "23", "P0", "XX"}, func(class string) bool {
		return strings.HasPrefix(code, class)
	})
}

// unreadable tells whether an error of a claim may come from a job's row: from its data (22), a limit (54),
// damage (XX), or from what pgx makes of it.
func unreadable(err error) bool {
	code := retry.SQLState(err)
	return code == "" || slices.ContainsFunc([]string{"22", "54", "XX"}, func(class string) bool {
		return strings.HasPrefix(code, class)
	})
}
