package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

const (
	seatPrice = 700
	seatsSold = 500
)

// sale is a file of bookings, with what has to become of each when they are taken strictly in the file's order.
type sale struct {
	file     string
	bookings int
	outcomes map[string]string // "applied booked"
	seats    map[string]int64  // what of each is confirmed
	balances map[string]int64
}

// funds is what the buyers have. Every other one has too little: for no seat at all, or for one alone.
var funds = slices.Repeat([]int64{100_000_000, seatPrice - 1, 100_000_000, seatPrice}, 25)

// newSale has 500 seats, and 100 buyers. Some want two seats at once. Half of the seats are wanted by many more than
// the others.
func newSale(t *testing.T, bookings int) *sale {
	t.Helper()
	s := &sale{
		file: filepath.Join(t.TempDir(), "bookings.jsonl"), bookings: bookings,
		outcomes: make(map[string]string), seats: make(map[string]int64), balances: map[string]int64{"bank": 0,
			"box office": 0},
	}
	for i, amount := range funds {
		s.pay("bank", fmt.Sprint("buyer ", i), amount)
	}
	for i := range seatsSold {
		s.seats[fmt.Sprint("seat ", i)] = 0
	}
	file, err := os.Create(s.file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	out := json.NewEncoder(file)
	random := rand.New(rand.NewPCG(500, 1))
	for n := range bookings {
		key, buyer := fmt.Sprintf("%08x-%d", random.Uint32(), n), fmt.Sprint("buyer ", random.IntN(len(funds)))
		var items []map[string]any
		var wanted []string
		for _, seat := range random.Perm(seatsSold)[:1+random.IntN(8)/7] {
			if random.IntN(2) == 0 {
				seat /= 2
			}
			wanted = append(wanted, fmt.Sprint("seat ", seat))
			items = append(items, map[string]any{"resource": wanted[len(wanted)-1]})
		}
		price := int64(len(items)) * seatPrice
		args := map[string]any{"reservation": "r" + key, "items": items, "customer": buyer, "from": buyer,
			"to": "box office", "amount": price, "currency": "EUR"}
		if err := out.Encode(map[string]any{"kind": "booking.book", "key": key, "args": args}); err != nil {
			t.Fatal(err)
		}
		s.outcomes[key] = s.book(buyer, price, wanted)
	}
	return s
}

func (s *sale) pay(from, to string, amount int64) {
	s.balances[from] -= amount
	s.balances[to] += amount
}

// book is what a booking has to do: seats first, then money, and both or neither.
func (s *sale) book(buyer string, price int64, seats []string) string {
	for i, seat := range seats {
		if s.seats[seat] > 0 || i > 0 && seat == seats[0] {
			return "rejected sold_out"
		}
	}
	if s.balances[buyer] < price {
		return "rejected insufficient_funds"
	}
	for _, seat := range seats {
		s.seats[seat]++
	}
	s.pay(buyer, "box office", price)
	return "applied booked"
}

// opens a database with the accounts, funded, and the seats, and imports the file.
func (s *sale) opens(t *testing.T) string {
	t.Helper()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	testdb.Exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('box office', 'EUR')`)
	testdb.Exec(t, pool,
		`SELECT count(lastseat.open_account('buyer ' || n, 'EUR')) FROM generate_series(0, $1::int - 1) n`, len(funds))
	testdb.Exec(t, pool, `SELECT count(lastseat.transfer('fund ' || n, 'bank', 'buyer ' || n - 1, amount, 'EUR'))
		FROM unnest($1::bigint[]) WITH ORDINALITY AS f(amount, n)`, funds)
	testdb.Exec(t, pool, `SELECT count(lastseat.define_resource('seat ' || n, 1)) FROM generate_series(0, $1::int - 1) n`,
		seatsSold)
	start(t, on(url), "worker", "run", "--drain").exits(t, 0)
	enqueue(t, url, "import", s.file).exits(t, 0)
	pool.Close() // it is copied
	return url
}

// apart are the bookings of which one half is there and the other is not: a booked one has its reservation, confirmed,
// with its items, and its transfer of their price; of a rejected one nothing is left but the reservation that says so.
const apart = `
	SELECT count(*)::int FROM lastseat.requests r
	LEFT JOIN lastseat.reservations v ON v.key = r.key
	LEFT JOIN LATERAL (SELECT count(*) AS n FROM lastseat.reservation_items i WHERE i.reservation_id = v.id) i ON true
	LEFT JOIN LATERAL (SELECT count(*) AS n, sum(amount) AS amount FROM lastseat.transfers t WHERE t.key = r.key) t ON true
	WHERE r.kind = 'booking.book' AND (r.status, coalesce(v.status, 'none'), i.n > 0, t.n, coalesce(t.amount, 0)) NOT IN
		(('applied', 'confirmed', true, 1, i.n * $1), ('rejected', 'rejected', false, 0, 0), ('pending', 'pending', false, 0,
		  0))`

// proves demands that every booking has its outcome, and that money and seats are nowhere apart.
func (s *sale) proves(t *testing.T, url string, pool *pgxpool.Pool, exactly bool) {
	t.Helper()
	t.Log(codes(t, pool, "booking.book"))
	if n := testdb.Scalar[int](t, pool, apart, seatPrice); n != 0 {
		t.Errorf("of %d bookings money and seats are apart", n)
	}
	if got := testdb.Scalar[string](t, pool, `
		SELECT format('%s settled, %s pending, %s paid, %s for seats, %s held, %s too many',
		  count(*) FILTER (WHERE status IN ('applied', 'rejected')), count(*) FILTER (WHERE status = 'pending'),
		              (SELECT balance FROM lastseat.accounts WHERE id = 'box office'), (SELECT sum(confirmed) * $1
		                FROM lastseat.resources),
		              (SELECT sum(held) FROM lastseat.resources), (SELECT count(*) FROM lastseat.resources
		                WHERE confirmed > 1))
		FROM lastseat.requests WHERE kind = 'booking.book'`,
		seatPrice); got != fmt.Sprintf("%d settled, 0 pending, %[2]d paid, %[2]d for seats, 0 held, 0 too many", s.bookings,
		testdb.Scalar[int64](t, pool, `SELECT sum(confirmed)::bigint * $1 FROM lastseat.resources`, seatPrice)) {
		t.Error(got)
	}
	if exactly {
		if got := pairs[string](t, pool, `SELECT key, concat_ws(' ', status, code) FROM lastseat.requests
			WHERE kind = 'booking.book'`); !maps.Equal(got, s.outcomes) {
			t.Error("the outcomes are not those of the file's order")
		}
		if got := pairs[int64](t, pool, `SELECT id, confirmed FROM lastseat.resources`); !maps.Equal(got, s.seats) {
			t.Error("the seats are not those of the file's order")
		}
		if got := pairs[int64](t, pool, `SELECT id, balance FROM lastseat.accounts`); !maps.Equal(got, s.balances) {
			t.Error("the balances are not those of the file's order")
		}
	}
	audited(t, url)
}

// Bookings are settled by workers that are killed with SIGKILL at random, two of them at a time: in one lane every one
// has the outcome that its place in the file gives it; in several, where the order is another, money and seats are
// together all the same.
func TestBookingsWhileWorkersAreKilled(t *testing.T) {
	t.Parallel()
	s := newSale(t, testdb.Soak(1_000, 10_000))
	original := s.opens(t)
	for name, environ := range map[string][]string{
		"serializable": {}, "read committed": {"LASTSEAT_ISOLATION=read committed"},
		"lanes": {"LASTSEAT_LANES=3"}, "lanes, read committed": {"LASTSEAT_LANES=3", "LASTSEAT_ISOLATION=read committed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := copyOf(t, original)
			pool := testdb.Pool(t, url)
			environ := append(environ, "LASTSEAT_BATCH=7")
			before := settled(t, pool)
			workers := []*process{start(t, on(url, environ...), "worker", "run"), start(t, on(url, environ...), "worker", "run")}
			kills := testdb.Soak(5, 40)
			for n := range kills {
				goal := before + n*s.bookings/(kills+1) + rand.IntN(s.bookings/(kills+1))
				clitest.Eventually(t, "the workers to get ahead", func() bool { return settled(t, pool) >= goal })
				if n := testdb.Scalar[int](t, pool, apart, seatPrice); n != 0 {
					t.Errorf("on the way, of %d bookings money and seats are apart", n)
				}
				workers[0].killed(t)
				workers = append(workers[1:], start(t, on(url, environ...), "worker", "run"))
			}
			clitest.Eventually(t, "all to be settled", func() bool { return settled(t, pool) == before+s.bookings })
			connected(t, pool, len(workers)*lanes(environ))
			for _, w := range workers {
				w.signal(t, syscall.SIGTERM)
				w.exits(t, 0)
			}
			s.proves(t, url, pool, lanes(environ) == 1)
		})
	}
}
