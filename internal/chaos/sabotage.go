package chaos

import (
	"time"

	"github.com/lastseat/lastseat/internal/faultpoint"
)

// Sabotage breaks one guarantee of the system on purpose: in the programs, in the database, or in the bench's own
// clients. A check has to see it.
type Sabotage struct {
	Name    string
	Breaks  string // what, for docs/reliability.md
	Program faultpoint.Sabotage
	SQL     []string
	// DualWrite has the clients write the business row in a transaction of its own.
	DualWrite bool

	Faults []string // what brings it to light
	Lanes  int
	Batch  int
	Checks []string // those that may be the first to see it
}

// NoSabotage leaves the system as it is.
var NoSabotage = Sabotage{}

// edit makes a statement that replaces text in a function of the schema. The run ends if the text is not there.
func edit(function, text, by string) string {
	quote := func(s string) string { return "$edit$" + s + "$edit$" }
	return `DO $do$ DECLARE was text := pg_get_functiondef('lastseat.` + function + `'::regproc); BEGIN
		IF position(` + quote(text) + ` IN was) = 0 THEN RAISE 'there is no such text in ` + function + `'; END IF;
		EXECUTE replace(was, ` + quote(text) + `, ` + quote(by) + `); END $do$`
}

// Sabotages are all that the tests try.
func Sabotages() []Sabotage { //nolint:funlen // a table
	return []Sabotage{
		{
			Name: "no lane", Breaks: "two workers settle at once: neither the lock nor the fence is looked at",
			Program: faultpoint.NoLane, Batch: 4, Checks: []string{"order", "account", "linear"},
		},
		{
			Name: "claim in any order", Breaks: "the claim takes any jobs, not the first",
			Program: faultpoint.Unordered, Faults: []string{"absent"}, Checks: []string{"order", "linear"},
		},
		{
			Name: "duplicates count", Breaks: "a second job of a key has its effect again",
			Program: faultpoint.NoDuplicates, Faults: []string{"stray-jobs"}, Checks: []string{"points", "audit"},
		},
		{
			Name: "completion first", Breaks: "outcome and end of the job are committed before the effect",
			Program: faultpoint.CompletionFirst, Faults: []string{"kill-at"}, Checks: []string{"audit", "balance", "points"},
		},
		{
			Name: "sweep by the clock", Breaks: "what has run out is swept before the requests that came earlier",
			Program: faultpoint.SweepByClock, Faults: []string{"absent"}, Checks: []string{"expiry"},
		},
		{
			Name: "nobody is to blame", Breaks: "no job is charged with what it did", Program: faultpoint.Blameless,
			Faults: []string{"bad-handlers"}, Checks: []string{"progress"},
		},
		{
			Name: "lost is refused", Breaks: "enqueue says that a request was not made when the reply to COMMIT was lost",
			Program: faultpoint.LostIsRefused, Faults: []string{"lost-reply"}, Checks: []string{"refused"},
		},
		{
			Name: "nobody counts", Breaks: "places are given without looking how many are left, and the table does not mind",
			Program: faultpoint.NoCapacity, Checks: []string{"places", "audit", "linear"},
			SQL: []string{`DO $$ DECLARE c record; BEGIN
				FOR c IN SELECT conname FROM pg_constraint WHERE conrelid = 'lastseat.resources'::regclass AND contype = 'c' LOOP
					EXECUTE format('ALTER TABLE lastseat.resources DROP CONSTRAINT %I', c.conname);
				END LOOP; END $$`},
		},
		{
			Name: "any arguments", Breaks: "a key that was used for something else is taken for a duplicate",
			SQL: []string{edit("enqueue", "PERFORM refuse_reuse(known);", "NULL;")}, Checks: []string{"misuse"},
		},
		{
			Name: "feed by number", Breaks: "the feed does not wait for transactions that began earlier",
			SQL:    []string{edit("outcomes_since", "OR l.xid < oldest", "OR true")},
			Faults: []string{"latency"}, Lanes: 4, Batch: 3, Checks: []string{"feed"},
		},
		{
			Name: "outcomes change", Breaks: "an outcome that was told is another one later",
			SQL: []string{`CREATE FUNCTION bench.change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
				SET session_replication_role = replica AS $$ BEGIN UPDATE lastseat.requests SET attempts = attempts + 1
				  WHERE key = (SELECT key FROM lastseat.requests
				WHERE status = 'applied' AND settled_at < now() - interval '2 s' ORDER BY settled_at LIMIT 1);
				RETURN NULL; END $$`,
				`CREATE TRIGGER change AFTER INSERT ON bench.orders FOR EACH ROW WHEN (NEW.key LIKE '%9')
				 EXECUTE FUNCTION bench.change()`},
			Checks: []string{"feed", "audit"},
		},
		{
			Name: "acknowledged too early", Breaks: "COMMIT is answered before it is on the disk (synchronous_commit = off)",
			SQL: []string{`ALTER DATABASE bench SET synchronous_commit = off`,
				`ALTER SYSTEM SET wal_writer_delay = '10s'`, `SELECT pg_reload_conf()`},
			Faults: []string{"pg-crash"}, Checks: []string{"lost"},
		},
		{
			Name: "two transactions", Breaks: "the business row and the request are written in two transactions",
			DualWrite: true, Faults: []string{"terminate", "lost-reply"}, Checks: []string{"row"},
		},
		{
			Name: "money from nowhere", Breaks: "a cent is added to a balance now and then",
			SQL: []string{`CREATE FUNCTION bench.coin() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF random() < 0.02 THEN NEW.balance := NEW.balance + 1; END IF; RETURN NEW; END $$`,
				`CREATE TRIGGER coin BEFORE UPDATE ON lastseat.accounts FOR EACH ROW EXECUTE FUNCTION bench.coin()`},
			Checks: []string{"money", "balance", "account", "audit", "linear"},
		},
	}
}

// plan is what brings a sabotage to light within length.
func (s Sabotage) plan(seed uint64, length time.Duration) Plan {
	faults := s.Faults
	if len(faults) == 0 {
		faults = []string{"kill"}
	}
	p := NewPlan(seed, length, time.Second, faults...)
	p.Lanes, p.Batch, p.Isolation = max(1, s.Lanes), 50, "serializable"
	if s.Batch > 0 {
		p.Batch = s.Batch
	}
	p.Pause, p.Drain = 15*time.Millisecond, 20*time.Second
	return p
}
