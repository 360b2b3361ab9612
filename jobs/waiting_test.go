package jobs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// script asks for requests, a line each: what to do, the id of a reservation, and what it needs. Keys are the line's
// first two words.
//
//	hold r seat stock=3 room@10-12 [wait] [by ann] [for 5]      book r seat      confirm r      cancel r      extend r
//
// to 5
//
// Times are seconds after the time of the script; "at 3" at the beginning of a line has it and the next ones asked for
// then. Lines that begin with "raw" come past the SQL functions.
type script struct {
	*testing.T
	pool   *pgxpool.Pool
	start  time.Time
	prefix string // of all ids and keys, so that a database can have many scripts
}

func newScript(t *testing.T) *script {
	t.Helper()
	return &script{T: t, pool: newPool(t), start: time.Now().Add(-time.Hour).Truncate(time.Second)}
}

func (s *script) ask(text string) {
	s.Helper()
	at := 0
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if words[0] == "at" {
			_, _ = fmt.Sscan(words[1], &at)
			words = words[2:]
		}
		raw := words[0] == "raw"
		if raw {
			words = words[1:]
		}
		key, args := s.prefix+words[0]+" "+words[1], s.args(words)
		if raw {
			insertJob(s.T, s.pool, key, args)
		} else if _, err := outbox.EnqueueMany(s.Context(), s.pool, []outbox.Request{{Key: key, Args: args}}); err != nil {
			s.Fatal(err)
		}
		exec(s.T, s.pool, `UPDATE lastseat.river_job SET scheduled_at = $2 WHERE args ->> 'key' = $1`, key, s.at(at))
	}
}

func (s *script) at(seconds int) time.Time { return s.start.Add(time.Duration(seconds) * time.Second) }

func (s *script) args(words []string) outbox.Args {
	s.Helper()
	hold := jobs.Hold{Reservation: s.prefix + words[1]}
	for i := 2; i < len(words); i++ {
		seconds := 0
		if i+1 < len(words) {
			_, _ = fmt.Sscan(words[i+1], &seconds)
		}
		switch words[i] {
		case "wait":
			hold.Wait = true
		case "by":
			i++
			hold.Customer = words[i]
		case "for", "to":
			i++
			hold.ExpiresAt = s.at(seconds)
		default:
			hold.Items = append(hold.Items, s.item(words[i]))
		}
	}
	switch words[0] {
	case "hold":
		return hold
	case "book":
		return jobs.Book{Reservation: hold.Reservation, Items: hold.Items, Customer: hold.Customer, From: "bank", To: "shop",
			Amount: 100, Currency: "EUR"}
	case "confirm":
		return jobs.Confirm{Reservation: hold.Reservation}
	case "cancel":
		return jobs.Cancel{Reservation: hold.Reservation}
	case "extend":
		return jobs.Extend{Reservation: hold.Reservation, ExpiresAt: hold.ExpiresAt}
	}
	s.Fatalf("%q", words)
	return nil
}

func (s *script) item(word string) (item jobs.Item) {
	if id, hours, found := strings.Cut(word, "@"); found {
		from, to := 0, 0
		_, _ = fmt.Sscanf(hours, "%d-%d", &from, &to)
		day := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
		return jobs.Item{Resource: s.prefix + id, During: &jobs.TimeRange{Start: day.Add(time.Duration(from) * time.Hour),
			End: day.Add(time.Duration(to) * time.Hour)}}
	}
	id, quantity, _ := strings.Cut(word, "=")
	_, _ = fmt.Sscan(quantity, &item.Quantity)
	item.Resource = s.prefix + id
	return item
}

// statuses are those of all reservations, in the order of their ids.
func (s *script) statuses() string {
	s.Helper()
	return testdb.Scalar[string](s.T, s.pool, `SELECT coalesce(string_agg(substr(id, char_length($1) + 1) || ' '
		|| status, ', ' ORDER BY id), '') FROM lastseat.reservations WHERE starts_with(id, $1)`, s.prefix)
}

// granted are the reservations whose grant is recorded.
func (s *script) granted() string {
	s.Helper()
	return testdb.Scalar[string](s.T, s.pool, `SELECT coalesce(string_agg(substr(key, 28 + char_length($1)), ' '
		ORDER BY key), '') FROM lastseat.requests
		WHERE starts_with(key, 'lastseat:reservation.grant:' || $1) AND kind = 'reservation.grant' AND status = 'applied'
		  AND code = 'held' AND settled_at IS NOT NULL`, s.prefix)
}

// What becomes of those who wait is the same in one batch and in batches of one.
func TestWaiting(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	exec(t, s.pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	for name, c := range map[string]struct{ script, ends, granted string }{
		"in order, granted by a cancellation": {`
			hold a seat
			hold b seat wait
			hold c seat wait
			cancel a
			confirm b`, "a cancelled, b confirmed, c waiting", "b"},
		"granted by running out": {`
			hold a seat for 5
			hold b seat wait
			at 6 confirm b`, "a expired, b confirmed", "b"},
		"of a hold that says no time, which was made past SQL": {`
			raw hold a seat
			hold b seat wait
			at 1000 confirm b`, "a expired, b confirmed", "b"},
		"granted by a cancelled booking": {`
			book a seat
			hold b seat wait
			cancel a
			confirm b`, "a cancelled, b confirmed", "b"},
		"by a hold that is extended to an earlier time": {`
			hold a seat for 5000
			hold b seat wait
			at 1 extend a to 3
			at 4 confirm b`, "a expired, b confirmed", "b"},
		"first fit: a party that wants too much is passed by, and stays first": {`
			hold a stock=5
			hold b stock=2
			hold c stock=6 wait
			hold d stock=2 wait
			cancel b
			hold e stock=2 wait
			confirm d
			cancel a
			confirm e
			cancel d
			cancel e
			confirm c`, "a cancelled, b cancelled, c confirmed, d cancelled, e cancelled", "c d e"},
		"all items or none": {`
			hold a seat
			hold b room@10-12
			hold w seat room@11-13 stock=2 wait
			hold v room@11-12 wait
			cancel a
			cancel b
			confirm w
			cancel w
			confirm v`, "a cancelled, b cancelled, v confirmed, w cancelled", "v w"},
		"not past its own time": {`
			hold a seat
			hold b seat wait for 5
			hold c seat wait
			at 5 cancel a
			confirm c
			confirm b`, "a cancelled, b expired, c confirmed", "c"},
		"not at its own time either": {`
			hold a seat for 5
			hold b seat wait for 5
			hold c seat wait for 6
			at 5 confirm c`, "a expired, b expired, c confirmed", "c"},
		"several resources that are never free at the same time": {`
			hold a seat for 5
			hold b seat room@1-2 wait for 7
			hold c seat wait
			hold d room@1-3 for 4
			hold e room@1-2 wait
			at 6 confirm e
			at 8 confirm c`, "a expired, b expired, c confirmed, d expired, e confirmed", "c e"},
		"granted, and run out in time: what it had is free for the next, of another line": {`
			hold a seat stock=7
			hold w seat stock=1 wait for 9
			hold v stock=7 wait
			at 5 cancel a
			at 10 confirm v`, "a cancelled, v confirmed, w expired", "v w"},
		"cancelled while waiting": {`
			hold a seat
			hold b seat wait
			hold c seat wait
			cancel b
			cancel a
			confirm c
			confirm b`, "a cancelled, b cancelled, c confirmed", "c"},
		"extended while waiting": {`
			hold a seat
			hold b seat wait for 5
			at 3 extend b to 20
			at 10 cancel a
			at 11 confirm b`, "a cancelled, b confirmed", "b"},
		"at the customer's limit: passed by, and served when there is a place again": {`
			hold a show1 by ann
			hold b show2 by bob
			hold w show2 by ann wait
			hold v show2 by bob wait
			cancel b
			confirm v
			cancel a
			cancel v
			confirm w`, "a cancelled, b cancelled, v cancelled, w confirmed", "v w"},
		"for what is not there nobody waits": {`
			hold a seat
			raw hold b seat nothing wait`, "a held, b rejected", ""},
		"nor customers beyond their limit": {`
			hold a show1=2 by ann wait
			hold b show1 wait`, "a rejected, b rejected", ""},
		"the same resource twice stands in its line once": {`
			hold a stock=6
			hold b stock=1 stock=1 wait
			cancel a
			confirm b`, "a cancelled, b confirmed", "b"},
	} {
		for _, size := range []int{1, 100} {
			t.Run(fmt.Sprint(name, ", batch ", size), func(t *testing.T) {
				s := &script{T: t, pool: s.pool, start: s.start, prefix: fmt.Sprintf("%.30s, %d: ", name, size)}
				exec(t, s.pool, `SELECT lastseat.define_limit($1 || 'show', 1), lastseat.define_resource($1 || 'seat', 1),
					lastseat.define_resource($1 || 'room', 1),
					lastseat.define_resource($1 || 'stock', 6, 1), lastseat.define_resource($1 || 'show1', 2, 0, $1 || 'show'),
					  lastseat.define_resource($1 || 'show2', 1, 0, $1 || 'show')`, s.prefix)
				s.ask(c.script)
				if stats := drain(t, s.pool, outbox.Settings{Batch: size}); stats.Failures != 0 || size > 1 && stats.Batches != 1 {
					t.Errorf("%+v", stats)
				}
				if got := s.statuses(); got != c.ends || s.granted() != c.granted {
					t.Errorf("%s; granted %s; want %s; %s", got, s.granted(), c.ends, c.granted)
				}
			})
		}
	}
	proven(t, s.pool)
}

// What was written by one batch, and is read by another.
func TestWaitingFromBatchToBatch(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	for name, c := range map[string]struct{ before, script, ends string }{
		"extended to an earlier time": {`
			hold a seat
			hold b seat wait`, `
			at 1 extend a to 3
			at 4 confirm b`, "a expired, b confirmed"},
		"cancelled": {`
			hold a seat
			hold b seat wait
			hold c seat wait`, `
			hold d seat wait
			cancel b
			cancel a
			confirm c
			cancel c
			confirm d`, "a cancelled, b cancelled, c cancelled, d confirmed"},
		"a hold that says no time, made past SQL, runs out in the time of its batch": {`
			hold x seat
			hold b seat wait
			hold c seat wait`, `
			cancel x
			cancel b
			cancel c
			raw hold a seat
			hold d seat wait
			at 1000 confirm d`, "a expired, b cancelled, c cancelled, d confirmed, x cancelled"},
		"ranges": {`
			hold a room@10-12
			hold b room@12-14
			hold w room@13-15 wait`, `
			hold c room@11-12
			cancel a
			hold d room@11-12
			hold e room@9-12
			cancel b
			confirm w
			hold f room@12-14
			cancel w
			hold g room@12-14`, "a cancelled, b cancelled, c rejected, d held, e rejected, f rejected, g held, w cancelled"},
		"several resources": {`
			hold a seat
			hold b stock=7
			hold w seat stock=3 wait
			hold v stock=5 wait
			hold u stock=4 wait`, `
			cancel b
			cancel a
			confirm v
			cancel v
			confirm w
			confirm u`, "a cancelled, b cancelled, u confirmed, v cancelled, w confirmed"},
	} {
		for _, size := range []int{1, 100} {
			t.Run(fmt.Sprint(name, ", batch ", size), func(t *testing.T) {
				s := &script{T: t, pool: s.pool, start: s.start, prefix: fmt.Sprintf("%.30s, %d: ", name, size)}
				exec(t, s.pool, `SELECT lastseat.define_resource($1 || 'seat', 1), lastseat.define_resource($1 || 'room', 1),
					lastseat.define_resource($1 || 'stock', 7)`, s.prefix)
				for _, part := range []string{c.before, c.script} {
					s.ask(part)
					if stats := drain(t, s.pool, outbox.Settings{Batch: size}); stats.Failures != 0 || size > 1 && stats.Batches != 1 {
						t.Errorf("%+v", stats)
					}
				}
				if got := s.statuses(); got != c.ends {
					t.Errorf("%s, want %s", got, c.ends)
				}
			})
		}
	}
	proven(t, s.pool)
}

// define_resource tells the worker, which grants in the next sweep, or before that, if a batch comes by.
func TestWaitingForGrowth(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	exec(t, s.pool, `SELECT lastseat.define_resource('seat', 1), lastseat.define_resource('other', 1)`)
	s.ask(`hold a seat
		hold b seat wait
		hold c seat=3 wait
		hold d seat wait for 9
		hold e seat wait`)
	drain(t, s.pool, outbox.Settings{})
	exec(t, s.pool, `SELECT lastseat.define_resource('seat', 1, 1)`)
	drain(t, s.pool, outbox.Settings{}) // there is no job: a sweep
	want := "a held, b held, c waiting, d expired, e waiting"
	if got := s.statuses(); got != want || s.granted() != "b" {
		t.Errorf("%s; granted %s", got, s.granted())
	}
	exec(t, s.pool, `SELECT lastseat.define_resource('seat', 3, 0)`)
	s.ask(`at 20 hold x seat
		confirm e`) // one batch: those who wait come first
	drain(t, s.pool, outbox.Settings{})
	if got := s.statuses(); got != "a held, b held, c waiting, d expired, e confirmed, x rejected" {
		t.Error(got)
	}
	// nobody fits: looked at once, and that is all
	exec(t, s.pool, `SELECT lastseat.define_resource('seat', 4)`)
	if stats := drain(t, s.pool, outbox.Settings{}); stats.Swept != 1 || testdb.Scalar[bool](t, s.pool,
		`SELECT grown FROM lastseat.resources WHERE id = 'seat'`) {
		t.Errorf("%+v", stats)
	}
	if stats := drain(t, s.pool, outbox.Settings{}); stats.Swept != 0 {
		t.Errorf("%+v", stats)
	}
	// shrunk, or without anybody who waits, it has not grown
	exec(t, s.pool, `SELECT lastseat.define_resource('seat', 3), lastseat.define_resource('other', 5)`)
	if n := testdb.Scalar[int](t, s.pool, `SELECT count(*)::int FROM lastseat.resources WHERE grown`); n != 0 {
		t.Errorf("%d have grown", n)
	}
	proven(t, s.pool)
}

// A job that is asked for in a lane that has stood still: what was added is not granted to those who have run out
// since.
func TestGrowthIsNotForThoseWhoRanOut(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	exec(t, s.pool, `SELECT lastseat.define_resource('seat', 1)`)
	s.ask(`hold a seat
		hold b seat wait for 40000
		hold c seat wait`)
	drain(t, s.pool, outbox.Settings{})
	exec(t, s.pool, `SELECT lastseat.define_resource('seat', 2)`)
	exec(t, s.pool, `UPDATE lastseat.reservations SET expires_at = $1 WHERE id = 'b'`, s.at(5))
	s.ask(`at 5 confirm c
		confirm b`)
	drain(t, s.pool, outbox.Settings{})
	if got := s.statuses(); got != "a held, b expired, c confirmed" || s.granted() != "c" {
		t.Errorf("%s; granted %s", got, s.granted())
	}
	proven(t, s.pool)
}

// many makes n reservations that wait for the seat, w0001 and so on, in order.
func (s *script) many(n int, items, more string) {
	s.Helper()
	exec(s.T, s.pool, `SELECT count(lastseat.hold('hold w' || to_char(n, 'FM00000'), 'w' || to_char(n, 'FM00000'), `+
		items+`, wait => true`+more+`)) FROM generate_series(1, $1) n`, n)
}

// A line that is longer than what is read of one: its beginning is granted first, and nobody in it is forgotten.
func TestLongLine(t *testing.T) {
	t.Parallel()
	for _, isolation := range []pgx.TxIsoLevel{pgx.Serializable, pgx.ReadCommitted} {
		if isolation == pgx.ReadCommitted && !testdb.Soaks() {
			continue
		}
		t.Run(string(isolation), func(t *testing.T) {
			s := newScript(t)
			settings := outbox.Settings{Batch: 5000, Isolation: isolation}
			exec(t, s.pool, `SELECT lastseat.define_resource('seat', 2300), lastseat.define_resource('other', 1)`)
			s.ask(`hold a seat=2300
				hold b other`)
			s.many(2500, `'[{"resource": "seat"}]'`, ``)
			drain(t, s.pool, settings)
			exec(t, s.pool, `SELECT lastseat.define_resource('seat', 2301)`)
			drain(t, s.pool, settings)
			if got := s.granted(); got != "w00001" {
				t.Fatal(got)
			}
			// one who joins in the batch that frees is not served before those who are not read
			exec(t, s.pool, `SELECT lastseat.hold('late', 'late', '[{"resource": "seat"}]', wait => true),
				lastseat.cancel('cancel a', 'a')`)
			for range 5 { // sweeps go on where the batch has ended
				drain(t, s.pool, settings)
			}
			got := strings.Fields(s.granted())
			if len(got) != 2301 || got[2300] != "w02301" || s.status("late") != "waiting" || s.status("w02302") != "waiting" {
				t.Errorf("%d are granted, late is %s, w02302 %s", len(got), s.status("late"), s.status("w02302"))
			}
			proven(t, s.pool)
		})
	}
}

// Those who stand where nobody looks come in sight when somebody before them leaves.
func TestLongLineMovesUp(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	exec(t, s.pool, `SELECT lastseat.define_resource('seat', 5),
		lastseat.hold('hold a', 'a', '[{"resource": "seat", "quantity": 5}]')`)
	s.many(1002, `'[{"resource": "seat", "quantity": 5}]'`, ``)
	exec(t, s.pool, `SELECT lastseat.hold('last', 'last', '[{"resource": "seat", "quantity": 4}]', wait => true)`)
	drain(t, s.pool, outbox.Settings{Batch: 5000})
	exec(t, s.pool, `SELECT lastseat.cancel('cancel a', 'a'), lastseat.cancel('cancel w', 'w00001'),
		lastseat.confirm('c', 'w00001')`)
	drain(t, s.pool, outbox.Settings{})
	if s.status("w00001") != "cancelled" || s.status("w00002") != "held" {
		t.Errorf("%s, %s", s.status("w00001"), s.status("w00002"))
	}
	exec(t, s.pool, `SELECT lastseat.define_resource('seat', 9)`)
	drain(t, s.pool, outbox.Settings{}) // 4 are free, and the first thousand want 5
	if s.status("last") != "waiting" {
		t.Errorf("last is %s: how long a line is read?", s.status("last"))
	}
	exec(t, s.pool, `SELECT lastseat.cancel('cancel w5', 'w00005')`) // which waits
	drain(t, s.pool, outbox.Settings{})
	drain(t, s.pool, outbox.Settings{})
	if s.status("last") != "held" {
		t.Errorf("last is %s", s.status("last"))
	}
	proven(t, s.pool)
}

func (s *script) status(id string) string {
	s.Helper()
	return testdb.Scalar[string](s.T, s.pool, `SELECT status FROM lastseat.reservations WHERE id = $1`, id)
}

// Who waits in one lane is granted what another lane frees, whatever the isolation; nobody is lost, nothing sold twice.
func TestWaitingInLanes(t *testing.T) {
	t.Parallel()
	for name, settings := range races {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			exec(t, a.pool, `SELECT lastseat.define_resource('seat', 1), lastseat.define_resource('stock', 3),
				lastseat.define_limit('show', 1), lastseat.define_resource('show', 2, 0, 'show')`)
			const n = 30
			var keys []string
			var runners []func()
			for i := range n {
				id := fmt.Sprint("r", i)
				keys = append(keys, "h"+id, "x"+id)
				items := [][]jobs.Item{{{Resource: "seat"}}, {{Resource: "stock", Quantity: 2}}, {{Resource: "seat"},
					{Resource: "stock"}}, {{Resource: "show"}}}[i%4]
				runners = append(runners, func() {
					a.ask("h"+id, jobs.Hold{Reservation: id, Items: items, Customer: fmt.Sprint("customer", i%3), Wait: true})
					a.ask("x"+id, jobs.Cancel{Reservation: id})
				})
			}
			atOnce(runners...)
			codes := a.codes(keys...)
			for i := 0; i < len(codes); i += 2 {
				if !slices.Contains([]string{"held cancelled", "waiting cancelled", "customer_limit not_held"}, codes[i]+" "+
					codes[i+1]) {
					t.Errorf("%s: %s", keys[i], codes[i:i+2])
				}
			}
			if left := testdb.Scalar[int](t, a.pool,
				`SELECT (SELECT count(*) FROM lastseat.waiting_items)::int + (SELECT sum(held + confirmed + waiting)
					FROM lastseat.resources)::int + (SELECT sum(quantity) FROM lastseat.customer_counts)::int`); left != 0 {
				t.Errorf("%d are left", left)
			}
			a.ends(0)
		})
	}
}
