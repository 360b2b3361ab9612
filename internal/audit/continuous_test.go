package audit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/history"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// round makes a round, and returns what is told.
func round(t *testing.T, c *audit.Continuous, db audit.Beginner) audit.Round {
	t.Helper()
	r, err := c.Round(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func roundIsClean(t *testing.T, c *audit.Continuous, db audit.Beginner) audit.Round {
	t.Helper()
	r := round(t, c, db)
	if len(r.All) != 0 || len(r.New) != 0 || r.Behind != 0 {
		t.Errorf("behind by %v: %q", r.Behind, r.All)
	}
	return r
}

// What no link names, a round does not look at: worker audit does.
var leftToTheAudit = []string{
	"a protecting trigger dropped", "a protecting trigger disabled", "a unique key dropped", "a sequence set back",
	"a guard that guards nothing", "a right that was not given", "a limit that is no constraint",
	"a rule that swallows rows", "a function that runs with the caller's rights", "a trigger that nobody shipped",
	"the schema given to somebody else",
	"a made-up request", "a made-up transfer, with all that belongs to it", "an account from nowhere",
	"a currency without decimals", "a record of what ran out", "a retention from nowhere", "a removal from nowhere",
	"a closing from nowhere", "a resource from nowhere", "the end of the history cut off",
}

// A round finds whatever was changed among the rows that were settled since the last one, and names the row.
func TestRoundFindsTampering(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	if r := roundIsClean(t, &audit.Continuous{}, pool); r.Links == 0 || r.Rows < r.Links {
		t.Errorf("%d links with %d rows were proved", r.Links, r.Rows)
	}
	for i, c := range slices.Concat(tamperings, moreTamperings, blindTamperings) {
		if i%testdb.Soak(4, 1) != 0 {
			continue
		}
		r := round(t, &audit.Continuous{}, past{pool, c.sql})
		found := strings.Contains(strings.Join(r.New, "\n"), c.row)
		if left := slices.Contains(leftToTheAudit, c.name); found == left {
			t.Errorf("%q: found %t: %q", c.name, found, r.New)
		}
	}
}

// tamper changes rows as a superuser does who puts the guards aside.
func tamper(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	testdb.Exec(t, pool, "SET session_replication_role = replica; "+sql+"; SET session_replication_role = origin")
}

// Round after round proves what is new, piece by piece, whatever becomes of a row meanwhile. What is wrong is told
// once, and counted until it is mended.
func TestRoundsGoOn(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	for range 30 { // more entries of an account than a round looks back at
		call(t, pool, `transfer('many-' || gen_random_uuid(), 'bank', 'ada', 1, 'EUR')`)
	}
	if err := worker(pool, outbox.Settings{Batch: 1}).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, rounds, rows := &audit.Continuous{Rows: 1}, 0, 0
	for behind := true; behind; rounds++ {
		r := round(t, c, pool)
		if behind, rows = r.Behind > 0, rows+r.Rows; len(r.All) != 0 {
			t.Fatalf("round %d: %q", rounds, r.New)
		}
	}
	if whole := roundIsClean(t, &audit.Continuous{}, pool); rounds < 10 || rows != whole.Rows {
		t.Errorf("%d rounds proved %d rows, one proves %d", rounds, rows, whole.Rows)
	}
	call(t, pool, `retry('cancelled')`, `open_account('new', 'EUR')`, `define_limit('fans', 5)`)
	roundIsClean(t, c, pool) // nobody has noted them yet
	call(t, pool, `transfer('next', 'bank', 'new', 5, 'EUR')`, `refund('refund-next', 'paid', 1)`)
	drain(t, pool)
	if r := roundIsClean(t, c, pool); r.Links == 0 {
		t.Error("nothing was new")
	}

	call(t, pool, `transfer('last', 'bank', 'new', 6, 'EUR')`)
	drain(t, pool)
	tamper(t, pool, `UPDATE lastseat.accounts SET balance = balance + 1 WHERE id = 'new'`)
	for i := range 2 {
		if r := round(t, c, pool); len(r.All) != 1 || len(r.New) != 1-i {
			t.Errorf("round %d: %q, new are %q", i, r.All, r.New)
		}
	}
	tamper(t, pool, `UPDATE lastseat.accounts SET balance = balance - 1 WHERE id = 'new'`)
	if r := roundIsClean(t, c, pool); len(r.Mended) != 1 {
		t.Errorf("mended: %q", r.Mended)
	}
	tamper(t, pool, `INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency)
		VALUES (nextval('lastseat.transfers_id_seq'), 'fraud', 'bank', 'new', 1, 'EUR')`)
	if r := round(t, c, pool); len(r.New) != 1 || !strings.Contains(r.New[0], "made up") {
		t.Errorf("a transfer that was made up: %q", r.New)
	}
	tamper(t, pool, `DELETE FROM lastseat.history h USING (
		SELECT chain, max(number) AS number FROM lastseat.history WHERE chain LIKE 'lastseat %' GROUP BY chain) l
		WHERE h.chain = l.chain AND h.number = l.number`)
	for i := range 2 {
		if r := round(t, c, pool); len(r.All) < 2 || i == 0 && !strings.Contains(r.New[0], "and is not there") {
			t.Errorf("a history that was cut: %q, new are %q", r.All, r.New)
		}
	}
}

// A lane's first outcomes are settled between two rounds, and their times are older than a round looks back at first:
// the server's clock was set, or no round came through for an hour. They are no made-up transfers.
func TestChainBeginsBetweenRounds(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	c := &audit.Continuous{}
	drain(t, pool)
	roundIsClean(t, c, pool)
	for range 10 {
		call(t, pool, `transfer('new-' || gen_random_uuid(), 'bank', 'ada', 1, 'EUR')`)
	}
	if err := worker(pool, outbox.Settings{Batch: 1, Lanes: 2}).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	makeOlder(t, pool, "/2", "2 h")
	if r := roundIsClean(t, c, pool); r.Links == 0 {
		t.Error("no link was proved")
	}
}

// makeOlder sets the times of all links back but the last one's, in chains whose names end in this.
func makeOlder(t *testing.T, pool *pgxpool.Pool, chains, by string) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT h.chain, h.number, CASE WHEN h.number = max(h.number) OVER (PARTITION BY h.chain) THEN h.at
			ELSE h.at - $2::text::interval END, h.relation, h.keys, h.digests
		FROM lastseat.history h WHERE h.chain LIKE '%' || $1 ORDER BY h.chain, h.number`, chains, by)
	if err != nil {
		t.Fatal(err)
	}
	links, err := pgx.CollectRows(rows, pgx.RowToStructByPos[history.Link])
	if err != nil || len(links) < 2 {
		t.Fatalf("%d links: %v", len(links), err)
	}
	var hash []byte
	for _, l := range links {
		if l.At = l.At.UTC(); l.Number == 1 {
			hash = nil
		}
		hash = l.Hash(hash)
		tamper(t, pool, fmt.Sprintf(`UPDATE lastseat.history SET at = '%s', hash = '\x%x' WHERE chain = '%s' AND number = %d`,
			l.At.Format(time.RFC3339Nano), hash, l.Chain, l.Number))
	}
}
