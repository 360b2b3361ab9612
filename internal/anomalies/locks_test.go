package anomalies_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/txn"
)

// move moves 10 from one account to another, one row after the other as the caller names them: the row lock's answer is
// to lock both first, in the order of their keys.
func (x *session) move(from, to int) {
	if x.by == rowLock && x.err == nil {
		_, x.err = txn.Lock(x.Context(), x.tx, pgx.Identifier{"accounts"}, []int{from, to}, txn.Mode{})
	}
	x.exec(`UPDATE accounts SET balance = balance - 10 WHERE id = $1`, from)
	x.meet()
	x.exec(`UPDATE accounts SET balance = balance + 10 WHERE id = $1`, to)
}

const manyAccounts = `CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL); INSERT INTO accounts SELECT i,
	1000 FROM generate_series(1, 16) i;`

// A deadlock: from 1 to 2, and from 2 to 1. Each has the row that the other wants.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) verdict {
		s.set(manyAccounts)
		ends := s.both(func(x *session, client int) { x.move(client, 3-client) })
		if sum := s.int(`SELECT sum(balance) FROM accounts`); sum != 16*1000 {
			s.Errorf("the accounts have %d", sum)
		}
		return s.told(ends)
	}, func(s *stage) {
		accounts := []string{s.account("a", 1000), s.account("b", 1000)}
		s.wantDone(s.both(func(x *session, client int) {
			x.ask(fmt.Sprint("there ", client), transferOf(accounts[client-1], accounts[2-client]))
			x.meet()
			x.ask(fmt.Sprint("back ", client), transferOf(accounts[2-client], accounts[client-1]))
		}))
		s.settlesWithoutConflict(1)
		s.wantCodes([]string{"there 1", "there 2", "back 1", "back 2"}, jobs.CodeTransferred, jobs.CodeTransferred,
			jobs.CodeTransferred, jobs.CodeTransferred)
		s.wantBalance(accounts[0], 1000)
		s.wantBalance(accounts[1], 1000)
	})
}

func transferOf(from, to string) jobs.Transfer {
	return jobs.Transfer{From: from, To: to, Amount: 10, Currency: "EUR"}
}

// settlesWithoutConflict has workers settle what was asked for, all at the same time.
func (s *stage) settlesWithoutConflict(workers int) {
	s.Helper()
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			worker := s.worker(3)
			if err := worker.Drain(s.Context()); err != nil {
				s.Error(err)
			}
			if stats := worker.Stats(); stats.Conflicts+stats.Failures != 0 {
				s.Errorf("%+v", stats)
			}
		})
	}
	running.Wait()
}

// pairs deadlock at the same time.
const pairs = 6

// storm plays pairs of opposite transfers at once, and returns how their clients ended.
func (s *stage) storm(script func(x *session, pair, client int)) [pairs][2]error {
	var ends [pairs][2]error
	var all sync.WaitGroup
	for pair := range pairs {
		all.Go(func() { ends[pair] = s.both(func(x *session, client int) { script(x, pair, client) }) })
	}
	all.Wait()
	return ends
}

// A storm of deadlocks: many clients, every pair in opposite order. Each pair costs one of them the transaction, and
// everybody who waits for them the time that it takes to find out.
func TestDeadlockStorm(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) verdict {
		s.set(manyAccounts)
		stopped := 0
		for _, ends := range s.storm(func(x *session, pair, client int) { x.move(2*pair+client, 2*pair+3-client) }) {
			switch v := s.told(ends); v {
			case deadlock:
				stopped++
			case right:
			default:
				s.Errorf("a pair came to %q", v)
			}
		}
		switch stopped {
		case 0:
			return right
		case pairs:
			return deadlock
		}
		return verdict(fmt.Sprintf("%d deadlocks of %d", stopped, pairs))
	}, func(s *stage) {
		var accounts, keys, codes []string
		for i := range 2 * pairs {
			accounts = append(accounts, s.account(fmt.Sprint("account ", i), 0))
			s.ask(fmt.Sprint("top-up ", i), jobs.Transfer{From: "bank", To: accounts[i], Amount: 1000, Currency: "EUR"})
			keys, codes = append(keys, fmt.Sprint("transfer ", i)), append(codes, jobs.CodeTransferred)
		}
		for _, ends := range s.storm(func(x *session, pair, client int) {
			x.ask(keys[2*pair+client-1], transferOf(accounts[2*pair+client-1], accounts[2*pair+2-client]))
			x.meet()
		}) {
			s.wantDone(ends)
		}
		s.settlesWithoutConflict(2)
		s.wantCodes(keys, codes...)
		for _, account := range accounts {
			s.wantBalance(account, 1000)
		}
	})
}

// A long transaction in the critical path: one client has changed the shop's account and thinks, another wants to pay.
func TestLongTransaction(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) verdict {
		s.set(oneAccount)
		waited := false
		ends := s.duet(func(x *session) {
			if balance := x.int(`SELECT balance FROM accounts WHERE id = 1` + x.forUpdate()); s.by == byVersion {
				x.meet()
				x.outwait() // thinks, and holds no lock meanwhile
				x.expectOne(`UPDATE accounts SET balance = $1, version = version + 1 WHERE id = 1 AND version = 1`, balance+1)
				return
			}
			x.exec(`UPDATE accounts SET balance = balance + 1 WHERE id = 1`)
			x.meet()
			waited = x.outwait() // thinks until the other is through, or can't be
		}, func(x *session) {
			x.meet()
			x.exec(`UPDATE accounts SET balance = balance + 1, version = version + 1 WHERE id = 1`)
		})
		return s.judge(ends, waited)
	}, func(s *stage) {
		ada, bob, shop := s.account("ada", 100), s.account("bob", 100), s.account("shop", 0)
		s.wantDone(s.duet(func(x *session) {
			x.ask("slow order", jobs.Transfer{From: ada, To: shop, Amount: 30, Currency: "EUR"})
			x.meet()
			if x.outwait() {
				s.Error("the other client waits for the slow one")
			}
		}, func(x *session) {
			x.meet()
			s.ask("quick order", jobs.Transfer{From: bob, To: shop, Amount: 20, Currency: "EUR"})
			s.settle()
			s.wantCodes([]string{"quick order", "slow order"}, jobs.CodeTransferred, "unknown")
			s.wantBalance(shop, 20)
		}))
		s.settle()
		s.wantCodes([]string{"slow order"}, jobs.CodeTransferred)
		s.wantBalance(shop, 50)
	})
}
