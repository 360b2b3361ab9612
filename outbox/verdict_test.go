package outbox

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func state(code string) error {
	return fmt.Errorf("claim: %w", &pgconn.PgError{Code: code, Message: "no matter"})
}

// The words of docs/decisions/007-blame.md, over SQLSTATE, connection and size of the batch.
func TestJudge(t *testing.T) {
	t.Parallel()
	settlers := errors.New("the printer is on fire")
	for _, test := range []struct {
		name            string
		err             error
		connected, lost [3]verdict // with no job, one job, several jobs
	}{
		{"serialization failure", state("40001"), same(nobodysFault), lostConnection},
		{"deadlock", state("40P01"), same(nobodysFault), lostConnection},
		{"lock held too long", state("55P03"), same(nobodysFault), lostConnection},
		{"raced", fmt.Errorf("record: %w", errRaced), same(nobodysFault), lostConnection},
		{
			"stale plan", &pgconn.PgError{Code: "0A000", Message: "cached plan must not change result type"},
			same(nobodysFault), lostConnection,
		},
		{"not supported", state("0A000"), jobsDoingIt, lostConnection},

		{"connection failure", state("08006"), same(databaseCondition), same(connectionGone)},
		{"disk full", state("53100"), same(databaseCondition), same(connectionGone)},
		{"too many connections", state("53300"), same(databaseCondition), same(connectionGone)},
		{"shutdown", state("57P01"), same(databaseCondition), same(connectionGone)},
		{"I/O error", state("58030"), same(databaseCondition), same(connectionGone)},
		{"out of shared memory", state("53200"), same(noRoom), same(connectionGone)},
		{"read only", state("25006"), same(connectionGone), lostConnection},

		{"cancelled", state("57014"), [3]verdict{databaseCondition, cutOff, cutOff}, lostConnection},
		{"held too long", state("25P03"), [3]verdict{databaseCondition, cutOff, cutOff}, lostConnection},

		{"too many notifications at COMMIT", &commitError{state("54000")}, same(notificationsFull), lostConnection},
		{"a value that is too big", state("54000"), jobsDoingIt, lostConnection},

		{"constraint", state("23514"), jobsDoingIt, lostConnection},
		{"data", state("22P02"), jobsDoingIt, lostConnection},
		{"no right", state("42501"), jobsDoingIt, lostConnection},
		{"raised", state("P0001"), jobsDoingIt, lostConnection},
		{"settler", settlers, jobsDoingIt, lostConnection},
		{"panic", &panicError{value: "index out of luck"}, jobsDoingIt, lostConnection},

		{
			"reply to COMMIT lost", fmt.Errorf("commit: %w: %w", ErrCommitUnknown, settlers),
			same(commitUnknown), same(commitUnknown),
		},
		{"handler stuck", &stuckError{job: 7, cause: settlers}, same(handlersDoing), same(handlersDoing)},
		{
			"handler stuck in a conflict", &stuckError{job: 7, cause: state("40001")},
			same(handlersDoing), same(handlersDoing),
		},
	} {
		for _, connected := range []bool{true, false} {
			for jobs := range 3 {
				want := test.lost[jobs]
				if connected {
					want = test.connected[jobs]
				}
				if got := judge(test.err, evidence{connected: connected, jobs: jobs}); got != want {
					t.Errorf("%s, %d jobs, connected %v: %q, want %q", test.name, jobs, connected, got, want)
				}
			}
		}
	}
}

func same(v verdict) [3]verdict { return [3]verdict{v, v, v} }

var (
	jobsDoingIt    = [3]verdict{databaseCondition, itsDoing, oneOfThem}
	lostConnection = [3]verdict{connectionGone, cutOff, cutOff}
)

// What the lane already suspects or is about changes the verdict.
func TestJudgeBySuspicion(t *testing.T) {
	t.Parallel()
	lost := errors.New("unexpected EOF")
	charging := evidence{connected: true, jobs: 1, again: true, charging: true}
	discarding := evidence{connected: true, jobs: 1, charging: true, discarding: true}
	stopping := evidence{connected: true, jobs: 1, again: true, stopping: true}
	for _, test := range []struct {
		name string
		err  error
		e    evidence
		want verdict
	}{
		{"cancelled alone again", state("57014"), evidence{connected: true, jobs: 1, again: true}, itsDoing},
		{"held too long alone again", state("25P03"), evidence{jobs: 1, again: true}, itsDoing},
		{"connection lost alone again", lost, evidence{jobs: 1, again: true}, itsDoing},
		{"shutdown alone again", state("57P01"), evidence{jobs: 1, again: true}, connectionGone},
		{"no room again", state("53200"), evidence{connected: true, jobs: 2, noRoom: true}, databaseCondition},

		{"claim of what is no data", state("22P02"), evidence{connected: true, claiming: true}, unclaimable},
		{"claim of too much", state("54001"), evidence{connected: true, claiming: true}, unclaimable},
		{"claim of a damaged row", state("XX001"), evidence{connected: true, claiming: true}, unclaimable},
		{"claim that pgx can't read", errors.New("can't scan"),
			evidence{connected: true, claiming: true}, unclaimable},
		{"claim without a right", state("42501"), evidence{connected: true, claiming: true}, databaseCondition},
		{"conflict over a claim", state("40001"), evidence{connected: true, claiming: true}, nobodysFault},
		{"connection lost with a claim", lost, evidence{claiming: true}, connectionGone},
		{"COMMIT with nothing told", &commitError{state("54000")}, evidence{connected: true, jobs: 2, muted: true},
			oneOfThem},
		{"COMMIT of a charge", &commitError{state("54000")}, charging, notificationsFull},

		{"attempt refused by a constraint", state("23514"), charging, unwritable},
		{"attempt refused as data", state("22003"), charging, unwritable},
		{"discarding refused, too", state("23514"), discarding, leftAlone},
		{"attempt on a damaged row", state("XX001"), charging, unwritable},
		{"discarding of a damaged row", state("XX001"), discarding, leftAlone},
		{"no right to discard", state("42501"), discarding, databaseCondition},
		{"no right to write the attempt", state("42501"), charging, databaseCondition},
		{"conflict over the attempt", state("40001"), charging, nobodysFault},
		{"attempt cancelled", state("57014"), charging, databaseCondition},
		{"connection lost with the attempt", lost, evidence{jobs: 1, again: true, charging: true}, connectionGone},

		{"stopping", state("57014"), stopping, connectionGone},
		{"stopping, and a settler's error", errors.New("stopped"), stopping, connectionGone},
		{"stopping, and the reply to COMMIT lost", ErrCommitUnknown, stopping, commitUnknown},
	} {
		if got := judge(test.err, test.e); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestSuspicion(t *testing.T) {
	t.Parallel()
	job := func(id int64, attempt int) *claimed { return &claimed{Job: Job{ID: id, Attempt: attempt}} }
	var s suspicion
	s.cutOff([]*claimed{job(1, 1), job(2, 1)})
	if s.among != 2 || s.again([]*claimed{job(1, 1)}) {
		t.Errorf("one of two jobs: %+v", s)
	}
	s.cutOff([]*claimed{job(1, 1)})
	if !s.again([]*claimed{job(1, 1)}) || s.again([]*claimed{job(2, 1)}) || s.again([]*claimed{job(1, 1), job(2, 1)}) {
		t.Errorf("job 1, alone: %+v", s)
	}
	s.accuse(job(1, 1), errors.New("cut off twice"))
	if !s.accuses(job(1, 1)) || s.accuses(job(2, 1)) || s.accuses(job(1, 2)) {
		t.Errorf("job 1 at its first attempt: %+v", s.culprit)
	}
	if s.settled(&batch{}, 5); s.culprit == nil || s.among != 0 {
		t.Errorf("others have settled, and the culprit is still to be charged: %+v", s)
	}
	if s.settled(&batch{charged: s.culprit}, 1); s.culprit != nil {
		t.Errorf("the culprit is charged: %+v", s)
	}
}
