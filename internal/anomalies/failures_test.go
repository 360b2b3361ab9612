package anomalies_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/txn"
)

// A bank transfer that dies half way: taken from one account, and its process is gone before it reaches the other. No
// level helps against two transactions; it takes one, and Lastseat's is the whole way from the request to its outcome.
func TestTransferDiesHalfWay(t *testing.T) {
	t.Parallel()
	const twoAccounts = `CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL); INSERT INTO accounts
		VALUES (1, 1000), (2, 0);`
	play(t, func(s *stage) verdict {
		s.set(twoAccounts)
		conn, err := s.pool.Acquire(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		defer conn.Release()
		// autocommit: each statement is a transaction
		for _, sql := range []string{
			`SET default_transaction_isolation = '` + string(s.level) + `'`,
			`UPDATE accounts SET balance = balance - 100 WHERE id = 1`,
		} {
			if _, err := conn.Exec(s.Context(), sql); err != nil {
				s.Fatal(err)
			}
		}
		testdb.Exec(s.T, s.pool, `SELECT pg_terminate_backend($1)`, conn.Conn().PgConn().PID())
		if _, err := conn.Exec(s.Context(), `UPDATE accounts SET balance = balance + 100 WHERE id = 2`); err == nil {
			s.Error("the process is dead and goes on")
		}
		return s.judge([2]error{}, s.int(`SELECT sum(balance) FROM accounts`) != 1000)
	}, func(s *stage) {
		ada, bob := s.account("ada", 1000), s.account("bob", 0)
		// The service dies when it has asked, and not committed.
		ends := s.duet(func(x *session) {
			x.ask("lost order", jobs.Transfer{From: ada, To: bob, Amount: 1, Currency: "EUR"})
			x.exec(`SELECT pg_terminate_backend(pg_backend_pid())`)
		}, func(*session) {})
		if ends[0] == nil {
			s.Error("the service is dead and has committed")
		}
		s.ask("order", jobs.Transfer{From: ada, To: bob, Amount: 100, Currency: "EUR"})
		// The worker dies in the middle: the transfer is written, and its entries wait for somebody's lock.
		release := s.holdEntries()
		died := make(chan error, 1)
		go func() { died <- s.worker(0).Drain(s.Context()) }()
		lane := s.stuckLane()
		s.wantBalance(ada, 1000)
		testdb.Exec(s.T, s.pool, `SELECT pg_terminate_backend($1)`, lane)
		if err := <-died; err == nil {
			s.Error("the worker is dead and has drained the lane")
		}
		release()
		s.wantBalance(ada, 1000)
		s.wantCodes([]string{"order", "lost order"}, "", "unknown")
		s.settle() // the next worker, at once
		s.wantCodes([]string{"order", "lost order"}, jobs.CodeTransferred, "unknown")
		s.wantBalance(ada, 900)
		s.wantBalance(bob, 100)
	})
}

// A retry that repeats its side effect: two payments run into a deadlock, the one that is stopped tries again, and its
// mail goes out twice.
func TestRepeatedSideEffect(t *testing.T) {
	t.Parallel()
	const rows = `CREATE TABLE stock (id int PRIMARY KEY, left_over int NOT NULL); INSERT INTO stock
		VALUES (1, 10), (2, 10);
		CREATE TABLE mails (payment int PRIMARY KEY);`
	take := func(x *session, id int) { x.exec(`UPDATE stock SET left_over = left_over - 1 WHERE id = $1`, id) }
	play(t, func(s *stage) verdict {
		s.set(rows)
		var mails, tries atomic.Int32
		clients := [2]*session{s.session(), s.session()}
		clients[0].other, clients[1].other = clients[1], clients[0]
		var both sync.WaitGroup
		for client, x := range clients {
			both.Go(func() {
				defer close(x.done)
				for again := true; again; { // what a retry around a transaction looks like
					err := pgx.BeginTxFunc(s.Context(), s.pool, pgx.TxOptions{IsoLevel: s.level}, func(tx pgx.Tx) error {
						tries.Add(1)
						return x.in(tx, func(x *session) {
							take(x, client+1)
							if s.by == uniqueKey { // the mail is a row, and whoever sends it looks for rows
								x.exec(`INSERT INTO mails VALUES ($1)`, client)
							} else {
								mails.Add(1)
							}
							x.meet()
							take(x, 2-client)
						})
					})
					if v := s.told([2]error{err}); v != right && v != deadlock && v != serialization {
						s.Error(v)
					}
					again = err != nil && !s.Failed()
				}
			})
		}
		both.Wait()
		if tries.Load() < 3 {
			s.Errorf("%d tries: nothing was repeated", tries.Load())
		}
		return s.judge([2]error{}, int(mails.Load())+s.int(`SELECT count(*) FROM mails`) != 2)
	}, func(s *stage) {
		s.set(rows)
		ada, shop := s.account("ada", 1000), s.account("shop", 0)
		var tries atomic.Int32
		keys := []string{"payment 1", "payment 2"}
		s.wantDone(s.both(func(x *session, client int) {
			tries.Add(1)
			take(x, client)
			x.ask(keys[client-1], jobs.Transfer{From: ada, To: shop, Amount: 100, Currency: "EUR"})
			x.meet()
			take(x, 3-client)
		}))
		if tries.Load() < 3 {
			s.Errorf("%d tries: nothing was repeated", tries.Load())
		}
		s.settle()
		s.wantCodes(keys, jobs.CodeTransferred, jobs.CodeTransferred)
		s.wantBalance(shop, 200)
	})
}

// losesReplies is a connection like those of the pool, but for its replies to COMMIT.
func (s *stage) losesReplies() *pgx.Conn {
	s.Helper()
	config := s.pool.Config().ConnConfig
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &testdb.CutConn{Conn: conn, Late: true}, err
	}
	conn, err := pgx.ConnectConfig(s.Context(), config)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close(context.WithoutCancel(s.Context())) })
	return conn
}

// The reply to COMMIT is lost. The client can't know, tries again, and pays a second time.
func TestLostReplyToCommit(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) verdict {
		s.set(oneAccount + `CREATE TABLE payments (id bigserial PRIMARY KEY, order_id int NOT NULL);`)
		if s.by == uniqueKey {
			testdb.Exec(s.T, s.pool, `ALTER TABLE payments ADD UNIQUE (order_id)`)
		}
		pay := func(tx pgx.Tx) error {
			_, err := tx.Exec(s.Context(), `INSERT INTO payments (order_id) VALUES (1042)`)
			if err == nil {
				_, err = tx.Exec(s.Context(), `UPDATE accounts SET balance = balance - 100 WHERE id = 1`)
			}
			return err
		}
		level := pgx.TxOptions{IsoLevel: s.level}
		if err := pgx.BeginTxFunc(s.Context(), s.losesReplies(), level, pay); err == nil {
			s.Error("the reply was not lost")
		}
		again := pgx.BeginTxFunc(s.Context(), s.pool, level, pay)
		return s.judge([2]error{again}, s.int(`SELECT balance FROM accounts`) != 900)
	}, func(s *stage) {
		ada, shop := s.account("ada", 1000), s.account("shop", 0)
		pay := func(db txn.Beginner) (receipt outbox.Receipt, err error) {
			err = txn.Run(s.Context(), db, txn.Options{Isolation: s.level}, func(ctx context.Context, tx pgx.Tx) (err error) {
				receipt, err = outbox.Enqueue(ctx, tx, s.name("order"), jobs.Transfer{From: ada, To: shop, Amount: 100,
					Currency: "EUR"})
				return err
			})
			return receipt, err
		}
		if _, err := pay(s.losesReplies()); !errors.Is(err, outbox.ErrCommitUnknown) {
			s.Errorf("the client is told %v", err)
		}
		if again, err := pay(s.pool); err != nil || !again.Duplicate {
			s.Errorf("asked again: %+v, %v", again, err)
		}
		s.settle()
		s.wantCodes([]string{"order"}, jobs.CodeTransferred)
		s.wantBalance(ada, 900)
	})
}

// Double submit: a click, and another one. Both requests look whether the order is paid, and both pay.
func TestDoubleSubmit(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) verdict {
		unique := ""
		if s.by == uniqueKey {
			unique = `, UNIQUE (order_id)`
		}
		s.set(`CREATE TABLE orders (id int PRIMARY KEY, version int NOT NULL DEFAULT 1); INSERT INTO orders VALUES (1042);
			CREATE TABLE payments (id bigserial PRIMARY KEY, order_id int NOT NULL, amount int NOT NULL` + unique + `);`)
		ends := s.both(func(x *session, _ int) {
			x.int(`SELECT id FROM orders WHERE id = 1042` + x.forUpdate())
			paid := x.int(`SELECT count(*) FROM payments WHERE order_id = 1042`)
			x.meet()
			if paid > 0 {
				return
			}
			if s.by == byVersion {
				x.expectOne(`UPDATE orders SET version = version + 1 WHERE id = 1042 AND version = 1`)
			}
			x.exec(`INSERT INTO payments (order_id, amount) VALUES (1042, 100)`)
		})
		return s.judge(ends, s.int(`SELECT count(*) FROM payments`) != 1)
	}, func(s *stage) {
		ada, shop := s.account("ada", 1000), s.account("shop", 0)
		order := jobs.Transfer{From: ada, To: shop, Amount: 100, Currency: "EUR"}
		var receipts [2]outbox.Receipt
		s.wantDone(s.both(func(x *session, click int) {
			receipts[click-1] = x.ask("order", order)
			x.meet()
		}))
		if receipts[0].Duplicate == receipts[1].Duplicate {
			s.Errorf("%+v", receipts)
		}
		s.settle()
		if late := s.ask("order", order); !late.Duplicate || late.Status != outbox.Applied {
			s.Errorf("a late click: %+v", late)
		}
		s.settle()
		s.wantCodes([]string{"order"}, jobs.CodeTransferred)
		s.wantBalance(ada, 900)
		if n := s.int(fmt.Sprintf(`SELECT count(*) FROM lastseat.transfers WHERE key = '%s'`, s.name("order"))); n != 1 {
			s.Errorf("%d transfers", n)
		}
	})
}
