package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// The workloads. Each is the same requests every time, and all of them can be applied: they move the same rows for
// everybody.
const (
	spread  = "spread"   // transfers between random accounts
	hot     = "hot"      // transfers from random accounts, all to one
	mixed   = "mixed"    // payments: authorized, then captured, in part or whole, or voided; some refunded
	holds   = "holds"    // reservations of one item, held, then confirmed
	stays   = "stays"    // reservations of five nights, held, then confirmed
	hotHold = "hot hold" // reservations of one resource, held, then confirmed
)

const (
	hotAccount  = "hot"
	hotResource = "hot"
	currency    = "EUR"
	nights      = 5
)

// asked is a request in its turn, and what the database is to hold when it is done.
type asked struct {
	key  string
	args outbox.Args
	turn float64
}

// requests are those of the filling, in order.
func (f filling) requests() []asked {
	random := rand.New(rand.NewPCG(1, 2))
	var all []asked
	for i := range f.jobs {
		switch f.workload {
		case mixed:
			all = append(all, f.payment(random, i)...)
		case holds, stays, hotHold:
			all = append(all, f.reservation(random, i)...)
		default:
			all = append(all, f.transfer(random, i))
		}
	}
	slices.SortStableFunc(all, func(a, b asked) int { return cmp.Compare(a.turn, b.turn) })
	return all[:f.jobs]
}

func (f filling) transfer(random *rand.Rand, i int) asked {
	from, to := f.twoAccounts(random)
	if f.workload == hot {
		to = hotAccount
	}
	return asked{
		key: fmt.Sprintf("transfer-%07d", i), turn: float64(i),
		args: jobs.Transfer{From: from, To: to, Amount: 1 + random.Int64N(100_00), Currency: currency},
	}
}

// later is when the next step of something comes: a while after the last, so that most steps have a batch of their
// own, as they do where a customer takes minutes from one to the next.
func (f filling) later(random *rand.Rand, turn float64) float64 {
	return turn + float64(f.jobs)*(0.01+0.09*random.Float64())
}

// payment is the life of a payment: one of ten is voided, two are captured in part; of those that are captured, one of
// ten is refunded whole and one in part.
func (f filling) payment(random *rand.Rand, i int) []asked {
	id, turn := fmt.Sprintf("payment-%07d", i), float64(i)
	from, to := f.twoAccounts(random)
	amount := 2 + random.Int64N(100_00)
	life := []asked{{"authorize " + id, jobs.Authorize{Payment: id, From: from, To: to, Amount: amount,
		Currency: currency}, turn}}
	turn = f.later(random, turn)
	part := int64(0) // the whole
	switch random.IntN(10) {
	case 0:
		return append(life, asked{"void " + id, jobs.Void{Payment: id}, turn})
	case 1, 2:
		part = amount / 2
	}
	life = append(life, asked{"capture " + id, jobs.Capture{Payment: id, Amount: part}, turn})
	turn = f.later(random, turn)
	switch random.IntN(10) {
	case 0:
		life = append(life, asked{"refund " + id, jobs.Refund{Payment: id}, turn})
	case 1:
		life = append(life, asked{"refund " + id, jobs.Refund{Payment: id, Amount: 1}, turn})
	}
	return life
}

func (f filling) reservation(random *rand.Rand, i int) []asked {
	id := fmt.Sprintf("reservation-%07d", i)
	var items []jobs.Item
	switch f.workload {
	case hotHold:
		items = append(items, jobs.Item{Resource: hotResource, Quantity: 1 + random.Int64N(2)})
	case stays:
		arrival := random.IntN(f.accounts)
		for night := range cmp.Or(f.items, nights) {
			items = append(items, jobs.Item{Resource: resourceName((arrival + night) % f.accounts), Quantity: 1})
		}
	default:
		items = append(items, jobs.Item{Resource: resourceName(random.IntN(f.accounts)), Quantity: 1 + random.Int64N(2)})
	}
	return []asked{
		{"hold " + id, jobs.Hold{Reservation: id, Items: items}, float64(i)},
		{"confirm " + id, jobs.Confirm{Reservation: id}, f.later(random, float64(i))},
	}
}

func (f filling) twoAccounts(random *rand.Rand) (from, to string) {
	giver := random.IntN(f.accounts)
	taker := (giver + 1 + random.IntN(f.accounts-1)) % f.accounts // anybody else
	return accountName(giver), accountName(taker)
}

func accountName(i int) string  { return fmt.Sprintf("account-%06d", i) }
func resourceName(i int) string { return fmt.Sprintf("resource-%06d", i) }

// columns of requests, for a statement that takes many.
func columnsOf(requests []asked) (pgx.NamedArgs, error) {
	n := len(requests)
	keys, kinds, args := make([]string, n), make([]string, n), make([]string, n)
	for i, r := range requests {
		encoded, err := json.Marshal(r.args)
		if err != nil {
			return nil, err
		}
		keys[i], kinds[i], args[i] = r.key, r.args.Kind(), string(encoded)
	}
	return pgx.NamedArgs{"keys": keys, "kinds": kinds, "args": args}, nil
}
