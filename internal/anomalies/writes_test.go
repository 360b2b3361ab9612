package anomalies_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lastseat/lastseat/jobs"
)

// A lost update: the cash machine of Rails' documentation. Two withdrawals of 100 from 1000; both read, both compute,
// both write 900.
func TestLostUpdate(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) verdict {
		s.set(oneAccount)
		ends := s.both(func(x *session, _ int) {
			balance := x.int(`SELECT balance FROM accounts WHERE id = 1` + x.forUpdate())
			x.meet()
			if s.by == byVersion { // both have read version 1
				x.expectOne(`UPDATE accounts SET balance = $1, version = version + 1 WHERE id = 1 AND version = 1`, balance-100)
			} else {
				x.exec(`UPDATE accounts SET balance = $1 WHERE id = 1`, balance-100)
			}
		})
		paid := 200
		for _, err := range ends {
			if err != nil {
				paid -= 100
			}
		}
		return s.judge(ends, s.int(`SELECT balance FROM accounts WHERE id = 1`) != 1000-paid)
	}, func(s *stage) {
		ada, machine := s.account("ada", 1000), s.account("machine", 0)
		s.wantDone(s.both(func(x *session, client int) {
			if balance := x.int(`SELECT balance FROM lastseat.account($1)`, ada); x.err == nil && balance != 1000 {
				s.Errorf("client %d sees %d", client, balance)
			}
			x.ask(fmt.Sprint("withdrawal ", client), jobs.Transfer{From: ada, To: machine, Amount: 100, Currency: "EUR"})
			x.meet()
		}))
		s.settle()
		s.wantCodes([]string{"withdrawal 1", "withdrawal 2"}, jobs.CodeTransferred, jobs.CodeTransferred)
		s.wantBalance(ada, 800)
	})
}

// Write skew: two doctors are on call, one has to be. Both see two, and both go.
func TestDoctorsOnCall(t *testing.T) {
	t.Parallel()
	const doctors = `CREATE TABLE doctors (id int PRIMARY KEY, on_call bool NOT NULL,
		version int NOT NULL DEFAULT 1); INSERT INTO doctors VALUES (1, true), (2, true);`
	const onCall = `SELECT count(*) FROM doctors WHERE on_call`
	play(t, func(s *stage) verdict {
		s.set(doctors)
		ends := s.both(func(x *session, me int) {
			others := x.int(`SELECT count(*) FROM (SELECT FROM doctors WHERE on_call ORDER BY id` + x.forUpdate() + `) d`)
			x.meet()
			switch {
			case others < 2:
			case s.by == byVersion: // of the row that is written. It guards that row, and not what was read beside it
				x.expectOne(`UPDATE doctors SET on_call = false, version = version + 1 WHERE id = $1 AND version = 1`, me)
			default:
				x.exec(`UPDATE doctors SET on_call = false WHERE id = $1`, me)
			}
		})
		return s.judge(ends, s.int(onCall) == 0)
	}, func(s *stage) {
		s.set(doctors)
		s.wantDone(s.both(func(x *session, me int) {
			x.ask(fmt.Sprint("leave ", me), goOffCall{Doctor: me})
			x.meet()
		}))
		s.settle()
		s.wantCodes([]string{"leave 1", "leave 2"}, "off_call", "last_on_call")
		if n := s.int(onCall); n != 1 {
			s.Errorf("%d doctors are on call", n)
		}
	})
}

// Write skew, with money: 100 over two accounts, which together may not be below zero.
func TestLimitOverTwoAccounts(t *testing.T) {
	t.Parallel()
	const accounts = `CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL,
		version int NOT NULL DEFAULT 1); INSERT INTO accounts VALUES (1, 50), (2, 50);`
	const sum = `SELECT sum(balance) FROM accounts`
	play(t, func(s *stage) verdict {
		s.set(accounts)
		ends := s.both(func(x *session, account int) {
			both := x.int(`SELECT sum(balance) FROM (SELECT balance FROM accounts ORDER BY id` + x.forUpdate() + `) a`)
			x.meet()
			switch {
			case both < 100:
			case s.by == byVersion:
				x.expectOne(`UPDATE accounts SET balance = balance - 100, version = version + 1 WHERE id = $1 AND version = 1`,
					account)
			default:
				x.exec(`UPDATE accounts SET balance = balance - 100 WHERE id = $1`, account)
			}
		})
		return s.judge(ends, s.int(sum) < 0)
	}, func(s *stage) {
		s.set(accounts)
		s.wantDone(s.both(func(x *session, account int) {
			x.ask(fmt.Sprint("withdrawal ", account), jointWithdrawal{Account: account})
			x.meet()
		}))
		s.settle()
		s.wantCodes([]string{"withdrawal 1", "withdrawal 2"}, "withdrawn", "joint_limit")
		if n := s.int(sum); n != 0 {
			s.Errorf("together they have %d", n)
		}
	})
}

// The last seat: both customers see it free.
func TestLastSeat(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) verdict {
		s.set(`CREATE TABLE flights (id int PRIMARY KEY, seats int NOT NULL,
			version int NOT NULL DEFAULT 1); INSERT INTO flights VALUES (1, 1);
			CREATE TABLE bookings (id bigserial PRIMARY KEY, flight int NOT NULL, seat int NOT NULL, customer int NOT NULL);`)
		if s.by == uniqueKey {
			s.set(`CREATE TABLE flights (id int PRIMARY KEY, seats int NOT NULL,
				version int NOT NULL DEFAULT 1); INSERT INTO flights VALUES (1, 1);
				CREATE TABLE bookings (id bigserial PRIMARY KEY, flight int NOT NULL, seat int NOT NULL, customer int NOT NULL,
				  UNIQUE (flight, seat));`)
		}
		ends := s.both(func(x *session, customer int) {
			seats := x.int(`SELECT seats FROM flights WHERE id = 1` + x.forUpdate())
			taken := x.int(`SELECT count(*) FROM bookings WHERE flight = 1`)
			x.meet()
			if taken >= seats {
				return
			}
			if s.by == byVersion {
				x.expectOne(`UPDATE flights SET version = version + 1 WHERE id = 1 AND version = 1`)
			}
			x.exec(`INSERT INTO bookings (flight, seat, customer) VALUES (1, $1, $2)`, taken+1, customer)
		})
		return s.judge(ends, s.int(`SELECT count(*) FROM bookings`) != 1)
	}, func(s *stage) {
		seat, airline := s.resource("seat 12A"), s.account("airline", 0)
		var customers, keys []string
		for client := 1; client <= 2; client++ {
			customers = append(customers, s.account(fmt.Sprint("customer ", client), 200))
			keys = append(keys, fmt.Sprint("booking ", client))
		}
		s.wantDone(s.both(func(x *session, client int) {
			x.ask(keys[client-1], jobs.Book{
				Reservation: x.name(keys[client-1]), Items: []jobs.Item{{Resource: seat}},
				From: customers[client-1], To: airline, Amount: 150, Currency: "EUR",
			})
			x.meet()
		}))
		s.settle()
		s.wantCodes(keys, jobs.CodeBooked, jobs.CodeSoldOut)
		s.wantBalance(airline, 150)
		if left := s.balance(customers[0]) + s.balance(customers[1]); left != 250 {
			s.Errorf("the customers have %d left: one has to have paid", left)
		}
	})
}

// A room that is booked twice for times that overlap: rows that don't exist yet can't be locked.
func TestOverlap(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) verdict {
		exclude := ""
		if s.by == uniqueKey { // its like for ranges
			exclude = `, EXCLUDE USING gist (during WITH &&)`
		}
		s.set(`CREATE TABLE rooms (id int PRIMARY KEY, version int NOT NULL DEFAULT 1); INSERT INTO rooms VALUES (1);
			CREATE TABLE bookings (room int NOT NULL, during int4range NOT NULL` + exclude + `);`)
		ends := s.both(func(x *session, client int) {
			hours := fmt.Sprintf("[%d,%d)", 9+client, 11+client)
			x.int(`SELECT id FROM rooms WHERE id = 1` + x.forUpdate())
			taken := x.int(`SELECT count(*) FROM bookings WHERE room = 1 AND during && $1::text::int4range`, hours)
			x.meet()
			if taken > 0 {
				return
			}
			if s.by == byVersion {
				x.expectOne(`UPDATE rooms SET version = version + 1 WHERE id = 1 AND version = 1`)
			}
			x.exec(`INSERT INTO bookings VALUES (1, $1::text::int4range)`, hours)
		})
		got := s.judge(ends, s.int(`SELECT count(*) FROM bookings`) != 1)
		if s.by == uniqueKey && got == "40P01" {
			got = "23P01" // two inserts may wait for one another, and then it is a deadlock that refuses one
		}
		return got
	}, func(s *stage) {
		room := s.resource("room")
		nine := time.Date(2030, 1, 1, 9, 0, 0, 0, time.UTC)
		keys := []string{"meeting 1", "meeting 2"}
		s.wantDone(s.both(func(x *session, client int) {
			begins := nine.Add(time.Duration(client) * time.Hour)
			x.ask(keys[client-1], jobs.Hold{Reservation: x.name(keys[client-1]), Items: []jobs.Item{{
				Resource: room, During: &jobs.TimeRange{Start: begins, End: begins.Add(2 * time.Hour)},
			}}})
			x.meet()
		}))
		s.settle()
		s.wantCodes(keys, jobs.CodeHeld, jobs.CodeOverlap)
	})
}
