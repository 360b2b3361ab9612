package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/outbox"
)

// What takes another server, hours or gigabytes to bring about is judged here as it would be read.
func TestJudgements(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ago := func(d time.Duration) *time.Time { return new(now.Add(-d)) }
	held := func(number int, settled time.Duration) lane {
		return lane{Queue: "lastseat", Number: number, Lanes: 2, Holder: "host_1_2026 A 1", PID: 7, Lives: true,
			Taken: ago(time.Hour), Settled: ago(settled), Now: now}
	}
	waiting := queue{Name: "lastseat", Due: mostCounted + 1, Oldest: ago(time.Minute), Worked: true, Now: now}
	age := map[int]time.Time{0: now.Add(-time.Minute), 1: now.Add(-time.Minute)}
	queueOf := func(q queue, lanes ...lane) (all []Finding) {
		for _, one := range judgeQueue(q, lanes, age, 10*time.Second) {
			all = append(all, one.finding)
		}
		return all
	}
	good := server{Encoding: "UTF8", Triggers: "origin", Recorded: "1/1/1", Here: "1/1/1"}
	with := func(change func(*server)) []Finding { s := good; change(&s); return judgeServer(s) }
	for name, c := range map[string]struct {
		found    []Finding
		severity Severity
		says     string
	}{
		"a good server": {judgeServer(good), OK, "UTF8"},
		"a standby":     {with(func(s *server) { s.Recovery, s.Here = true, "" }), Wrong, "is a standby"},
		"an encoding":   {with(func(s *server) { s.Encoding = "LATIN1" }), Wrong, "encoding is LATIN1"},
		"a role without triggers": {with(func(s *server) { s.Elsewhere = []string{"bob in shop"} }), Wrong,
			"not origin for bob in shop"},
		"a promoted server": {with(func(s *server) { s.Here = "1/2/1" }), Warning, "it was restored or promoted"},

		"one lane of two is stuck": {queueOf(waiting, held(0, time.Second), held(1, time.Minute)), Wrong, "lane 1 of 2"},
		"both lanes are behind":    {queueOf(waiting, held(0, time.Second), held(1, time.Second)), Warning, "is behind"},
		"more than are counted":    {queueOf(waiting, held(0, time.Minute)), Wrong, "more than 10000 due"},
		"River's own queue": {queueOf(queue{Name: "lastseat_upkeep", Due: 1, Oldest: ago(time.Hour), Now: now}), Warning,
			"River's part"},
		"calls that nobody makes": {queueOf(queue{Name: outbox.CallQueue("stripe"), Due: 1, Oldest: ago(time.Hour),
			Now: now}), Wrong, "no worker works the queue lastseat_call_stripe"},
		"a queue of a River client's": {queueOf(queue{Name: "mail", Due: 1, Oldest: ago(time.Hour),
			Reported: ago(time.Minute), Now: now}), Warning, "is behind"},
		"a queue that is done with": {judgeLanes([]lane{held(0, 0), {Queue: "old", Lanes: 1, Now: now}}, 0), OK, "1 held"},

		"deaths, and nothing is due": {judgeDeaths([]lane{{Queue: "lastseat", Lanes: 1, Lives: true, Unclean: 3}}, nil), OK,
			""},
		"one death": {judgeDeaths([]lane{{Queue: "lastseat", Lanes: 1, Unclean: 1}}, nil), Warning,
			"1 workers in a row"},

		"no call is slow": {judgeCalls(nil), OK, "no call"},
		"a processor that does not answer": {judgeCalls([]openCalls{{Target: "stripe", Calls: 3, Unsent: 1, Since: now,
			Error: "connection reset", Now: now.Add(time.Hour)}}), Warning, "3 calls of stripe have had no answer"},
		"a full notification queue": {[]Finding{judgeNotifications(notifications{Usage: 0.61, Oldest: new(7)}, "pid 7")},
			Warning, "61% full"},
		"no standby is asked for": {[]Finding{judgeStandbys(standbys{})}, OK, ""},
		"two of three standbys": {[]Finding{judgeStandbys(standbys{Names: "ANY 3 (a, b, c)", Connected: 3, Sync: 2,
			Visible: true})}, Wrong, "2 of 3 are there"},
		"the standbys are there": {[]Finding{judgeStandbys(standbys{Names: "FIRST 1 (a, b)", Connected: 2, Sync: 1,
			Visible: true})}, OK, "1 of 1"},
		"standbys that a viewer can't see": {[]Finding{judgeStandbys(standbys{Names: "2 (a, b)", Connected: 2})}, Note,
			"not visible to this role"},
		"no standby, seen by a viewer": {[]Finding{judgeStandbys(standbys{Names: "*"})}, Wrong, "0 of 1"},

		"a slot that nobody uses": {[]Finding{judgeHolder(holder{What: "slot", Name: "gone", Here: true, Age: 5}, "")},
			Warning, `the replication slot "gone", which is not in use`},
		"what is to be typed is one statement, whoever has chosen the name": {[]Finding{{Told: judgeHolder(holder{
			What: "prepared", Name: "x'; DROP ROLE bob; --", Database: "shop"}, "").Do, Severity: OK}}, OK,
			"ROLLBACK PREPARED 'x''; DROP ROLE bob; --',"},
		"no leader": {judgeOverdue([]overdue{{Queue: "mail", Jobs: 1, Since: now.Add(-time.Hour), Now: now}}, time.Second),
			Wrong, "no River client leads"},
		"a leader that does not get on": {judgeOverdue([]overdue{{Queue: "mail", Jobs: 1, Since: now.Add(-time.Hour),
			Leader: "host_9", Now: now}}, time.Second), Wrong, "which host_9 should run"},
	} {
		if !slices.ContainsFunc(c.found, func(f Finding) bool {
			return f.Severity == c.severity && strings.Contains(f.Told, c.says)
		}) {
			t.Errorf("%s: %+v, want %s and %q", name, c.found, c.severity, c.says)
		}
	}
}

func TestHoldersThatTell(t *testing.T) {
	t.Parallel()
	young, old := 1.0, 3600.0
	for _, c := range []struct {
		h     holder
		tells bool
	}{
		{holder{What: "session", Here: true, Seconds: &old}, true},
		{holder{What: "session", Here: true, Seconds: &young, Age: 2 * oldest}, false},
		{holder{What: "session", Here: true, Age: 2 * oldest}, true},
		{holder{What: "session", Seconds: &old}, false},
		{holder{What: "session", Writes: true, Seconds: &old}, true},
		{holder{What: "slot", Here: true, Active: true}, false},
		{holder{What: "slot", Here: true}, true},
	} {
		if got := c.h.tells(time.Minute); got != c.tells {
			t.Errorf("%+v tells: %t", c.h, got)
		}
	}
}
