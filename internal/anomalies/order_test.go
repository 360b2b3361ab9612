package anomalies_test

import (
	"sync"
	"testing"

	"github.com/lastseat/lastseat/jobs"
)

// Out of order: 100 are paid in, then asked for. Two consumers of a queue take one job each, and the second is quicker.
func TestOutOfOrder(t *testing.T) {
	t.Parallel()
	const claim = `SELECT id FROM jobs WHERE outcome IS NULL ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1`
	const outcome = `UPDATE jobs SET outcome = $2 WHERE id = $1`
	play(t, func(s *stage) verdict {
		s.set(`CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL); INSERT INTO accounts VALUES (1, 0);
			CREATE TABLE jobs (id int PRIMARY KEY, amount int NOT NULL, outcome text); INSERT INTO jobs
			  VALUES (1, 100), (2, -100);`)
		work := func(x *session, slow bool) {
			job := x.int(claim)
			x.meet()
			if slow {
				x.outwait()
			}
			amount := x.int(`SELECT amount FROM jobs WHERE id = $1`, job)
			if balance := x.int(`SELECT balance FROM accounts WHERE id = 1` + x.forUpdate()); balance+amount < 0 {
				x.exec(outcome, job, "refused")
				return
			}
			x.exec(`UPDATE accounts SET balance = balance + $1 WHERE id = 1`, amount)
			x.exec(outcome, job, "done")
		}
		ends := s.duet(func(x *session) { work(x, true) }, func(x *session) {
			x.await(x.other.here) // the first has claimed the first
			work(x, false)
		})
		if ends[0] != nil { // at SERIALIZABLE it may be stopped, tries again, and is late all the same
			if v := s.told([2]error{ends[0]}); v != serialization {
				s.Error(v)
			}
			if err := s.session().transactAlone(func(x *session) { work(x, false) }); err != nil {
				s.Error(err)
			}
		}
		if deposited := s.int(`SELECT count(*) FROM jobs WHERE id = 1 AND outcome = 'done'`); deposited != 1 {
			s.Error("the deposit was not made")
		}
		return s.judge([2]error{nil, ends[1]}, s.int(`SELECT count(*) FROM jobs WHERE id = 2 AND outcome = 'refused'`) == 1)
	}, func(s *stage) {
		ada, shop := s.account("ada", 0), s.account("shop", 0)
		s.ask("deposit", jobs.Transfer{From: "bank", To: ada, Amount: 100, Currency: "EUR"})
		s.ask("withdrawal", jobs.Transfer{From: ada, To: shop, Amount: 100, Currency: "EUR"})
		release := s.holdAccount(ada) // the deposit waits for its account, and the withdrawal for the deposit
		var workers sync.WaitGroup
		for range 2 {
			workers.Go(func() {
				if err := s.worker(1).Drain(s.Context()); err != nil { // one job a transaction
					s.Error(err)
				}
			})
		}
		s.laneTaken()
		s.wantCodes([]string{"deposit", "withdrawal"}, "", "")
		release()
		workers.Wait()
		s.wantCodes([]string{"deposit", "withdrawal"}, jobs.CodeTransferred, jobs.CodeTransferred)
		s.wantBalance(shop, 100)
		s.wantBalance(ada, 0)
	})
}
