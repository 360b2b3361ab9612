package anomalies_test

import (
	"errors"
	"testing"
	"time"

	"github.com/lastseat/lastseat/jobs"
)

const oneAccount = `CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL,
	version int NOT NULL DEFAULT 1); INSERT INTO accounts VALUES (1, 1000);`

var errChangedMind = errors.New("the client thinks better of it")

// A dirty read: what another transaction has written and takes back. No level of Postgres has it; READ UNCOMMITTED,
// which is READ COMMITTED there, neither.
func TestDirtyRead(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) verdict {
		s.set(oneAccount)
		var seen int
		ends := s.duet(func(x *session) {
			x.exec(`UPDATE accounts SET balance = balance + 1000000 WHERE id = 1`)
			x.meet()
			x.outwait()
			x.err = errors.Join(x.err, errChangedMind)
		}, func(x *session) {
			if s.by == readCommitted {
				x.exec(`SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED`)
			}
			x.meet()
			seen = x.int(`SELECT balance FROM accounts WHERE id = 1`)
		})
		if !errors.Is(ends[0], errChangedMind) {
			s.Error(ends[0])
		}
		return s.judge([2]error{nil, ends[1]}, seen != 1000)
	}, func(s *stage) {
		ada, shop := s.account("ada", 1000), s.account("shop", 0)
		ends := s.duet(func(x *session) {
			x.ask("order", jobs.Transfer{From: ada, To: shop, Amount: 100, Currency: "EUR"})
			x.meet()
			x.outwait()
			x.err = errors.Join(x.err, errChangedMind)
		}, func(x *session) {
			x.meet()
			s.settle() // must not see what is asked for and not committed
			if got := s.code("order"); got != "unknown" {
				s.Errorf("before its commit the request is seen: %q", got)
			}
			s.wantBalance(ada, 1000)
		})
		if !errors.Is(ends[0], errChangedMind) || ends[1] != nil {
			s.Error(ends)
		}
		s.settle()
		s.wantBalance(ada, 1000)
		s.wantCodes([]string{"order"}, "unknown")
	})
}

// A non-repeatable read: a statement whose head and foot name different balances.
func TestNonRepeatableRead(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) verdict {
		s.set(oneAccount)
		var head, foot int
		ends := s.duet(func(x *session) {
			head = x.int(`SELECT balance FROM accounts WHERE id = 1` + x.forUpdate())
			x.meet()
			x.outwait()
			if s.by == byVersion {
				x.expectOne(`SELECT FROM accounts WHERE id = 1 AND version = 1 FOR SHARE`)
			}
			foot = x.int(`SELECT balance FROM accounts WHERE id = 1`)
		}, func(x *session) {
			x.meet()
			x.exec(`UPDATE accounts SET balance = balance - 100, version = version + 1 WHERE id = 1`)
		})
		return s.judge(ends, ends[0] == nil && head != foot)
	}, func(s *stage) {
		// A statement is made of entries, which are never changed: what it said once it says for ever, at every level, in
		// as many transactions as its pages take.
		ada, shop := s.account("ada", 1000), s.account("shop", 0)
		read := func(x *session, at time.Time) (first, then int) {
			first = x.int(`SELECT balance_after FROM lastseat.statement($1) WHERE version = 1`, ada)
			return first, x.int(`SELECT lastseat.balance_at($1, $2)`, ada, at)
		}
		var at time.Time
		ends := s.duet(func(x *session) {
			at = time.UnixMicro(int64(x.int(`SELECT extract(epoch FROM clock_timestamp()) * 1000000`)))
			head, then := read(x, at)
			x.meet()
			x.outwait()
			foot, later := read(x, at)
			if x.err == nil && (head != foot || head != 1000 || then != later || then != 1000) {
				s.Errorf("head %d, foot %d, the balance at one time %d and %d", head, foot, then, later)
			}
		}, func(x *session) {
			x.meet()
			s.ask("order", jobs.Transfer{From: ada, To: shop, Amount: 100, Currency: "EUR"})
			s.settle()
			s.wantBalance(ada, 900)
		})
		s.wantDone(ends)
		s.wantDone(s.duet(func(x *session) { // and another day
			if first, then := read(x, at); first != 1000 || then != 1000 {
				s.Errorf("later the statement says %d and %d", first, then)
			}
		}, func(*session) {}))
	})
}

// A phantom: a report that counts and then lists, and lists what it has not counted.
func TestPhantom(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) verdict {
		s.set(`CREATE TABLE orders (id int PRIMARY KEY, total int NOT NULL); INSERT INTO orders VALUES (1, 100), (2, 200);`)
		var counted, listed int
		ends := s.duet(func(x *session) {
			counted = x.int(`SELECT count(*) FROM (SELECT FROM orders WHERE total >= 100` + x.forUpdate() + `) o`)
			x.meet()
			x.outwait()
			listed = x.int(`SELECT count(*) FROM (SELECT FROM orders WHERE total >= 100) o`)
		}, func(x *session) {
			x.meet()
			x.exec(`INSERT INTO orders VALUES (3, 300)`)
		})
		return s.judge(ends, ends[0] == nil && counted != listed)
	}, func(s *stage) {
		// An account's entries are numbered without gaps, and only added to: whoever knows the number of the last knows them
		// all.
		ada, shop := s.account("ada", 1000), s.account("shop", 0)
		ends := s.duet(func(x *session) {
			last := x.int(`SELECT max(version) FROM lastseat.statement($1)`, ada)
			x.meet()
			x.outwait()
			listed := x.int(`SELECT count(*) FROM lastseat.statement($1) WHERE version <= $2`, ada, last)
			if x.err == nil && listed != last {
				s.Errorf("counted %d, listed %d", last, listed)
			}
		}, func(x *session) {
			x.meet()
			s.ask("order", jobs.Transfer{From: ada, To: shop, Amount: 100, Currency: "EUR"})
			s.settle()
			s.wantBalance(ada, 900)
		})
		s.wantDone(ends)
	})
}
