package audit_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/audit"
)

// told are the violations that the audit finds.
func told(t *testing.T, db audit.Beginner) string {
	t.Helper()
	var all []string
	if _, err := audit.Run(t.Context(), db, func(f audit.Finding) { all = append(all, f.Violations...) }); err != nil {
		t.Error(err)
	}
	return strings.Join(all, "\n")
}

func text(t *testing.T, pool *pgxpool.Pool, sql string) (s string) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT coalesce((`+sql+`)::text, '')`).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

const lastClosed = `SELECT string_agg(concat_ws(' ', account_id, version, balance), ', ' ORDER BY account_id, version)
	FROM lastseat.closings`

// An account is closed at its last entry that is too old, once, and goes on from there; the audit names a closing that
// was changed, made up or taken away, and an account that does not go on from it.
func TestClosing(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	call(t, pool, `keep('transfers', 1)`)
	if removed := removeOld(t, pool, 3); removed.Closings != 0 {
		t.Fatalf("%d accounts were closed on their first day", removed.Closings)
	}
	call(t, pool, `keep('transfers', 0)`)
	want := text(t, pool, `SELECT string_agg(concat_ws(' ', id, entry_count, balance), ', ' ORDER BY id)
		FROM lastseat.accounts WHERE entry_count > 0`)
	removeOld(t, pool, 3)
	if got := text(t, pool, lastClosed); got != want || want == "" {
		t.Errorf("closed are %s, want %s", got, want)
	}
	if again := removeOld(t, pool, 3); again.Closings != 0 {
		t.Errorf("%d accounts were closed again, with no entry since", again.Closings)
	}
	wantClean(t, pool)
	proof := &audit.Continuous{}
	roundIsClean(t, proof, pool)
	call(t, pool, `transfer('after-1', 'ada', 'ben', 3, 'EUR')`, `transfer('after-2', 'bank', 'ada', 4, 'EUR')`)
	drain(t, pool)
	wantClean(t, pool)
	roundIsClean(t, proof, pool)
	for _, c := range []tampering{
		{"its balance", `UPDATE lastseat.closings SET balance = balance + 1 WHERE account_id = 'ada'`,
			"closing of account ada at entry 3 was changed"},
		{"its balance, with those that follow", `UPDATE lastseat.closings SET balance = balance + 1 WHERE account_id = 'ada';
			UPDATE lastseat.entries SET balance_after = balance_after + 1 WHERE account_id = 'ada' AND version >= 3;
			UPDATE lastseat.accounts SET balance = balance + 1 WHERE id = 'ada'`,
			"closing of account ada at entry 3 was changed"},
		{"its version", `UPDATE lastseat.closings SET version = 2 WHERE account_id = 'ada'`,
			"closing of account ada at entry 2"},
		{"its time", `UPDATE lastseat.closings SET closed_at = '2020-01-01Z' WHERE account_id = 'ada'`,
			"closing of account ada at entry 3 was changed"},
		{"taken away", `DELETE FROM lastseat.closings WHERE account_id = 'ada'`,
			"closing ada#3 was settled, and is not there"},
		{"an entry after it is gone", `DELETE FROM lastseat.entries WHERE account_id = 'ada' AND version = 4`,
			"entry 5 of account ada: after entry 3"},
		{"the last entry after it is gone", `DELETE FROM lastseat.entries WHERE account_id = 'ada' AND version = 5`,
			"account ada: balance"},
		{"the balance of the account", `UPDATE lastseat.accounts SET balance = balance + 1 WHERE id = 'tom'`,
			"account tom: balance 901"},
		{"the sequence", `ALTER SEQUENCE lastseat.transfers_id_seq RESTART WITH 2; DELETE FROM lastseat.transfers`,
			"sequence transfers_id_seq"},
	} {
		if found := told(t, past{pool, c.sql}); !strings.Contains(found, c.row) {
			t.Errorf("%s: %q is not named: %s", c.name, c.row, found)
		}
	}
}

// A lane that has written entries and not committed them is no obstacle: its entries are older than the closing, which
// is made meanwhile, and come after it all the same.
func TestClosingBesideALane(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	call(t, pool, `keep('transfers', 0)`, `transfer('under-way', 'ada', 'ben', 3, 'EUR')`,
		`transfer('under-way-2', 'bank', 'ada', 4, 'EUR')`)
	before := text(t, pool, `SELECT concat(entry_count, ' ', balance) FROM lastseat.accounts WHERE id = 'ada'`)
	release := settling(t, pool)
	if removed := removeOld(t, pool, 3); removed.Closings == 0 {
		t.Error("no account was closed beside a lane")
	}
	release()
	const closed = `SELECT string_agg(concat_ws(' ', version, balance), ', ' ORDER BY version)
		FROM lastseat.closings WHERE account_id = 'ada'`
	if got := text(t, pool, closed); got != before {
		t.Errorf("closed at %s, want %s", got, before)
	}
	if got := text(t, pool, `SELECT count(*) FROM lastseat.entries e JOIN lastseat.closings c USING (account_id)
		WHERE e.version > c.version AND e.account_id = 'ada'`); got != "2" {
		t.Errorf("%s entries come after the closing, want 2", got)
	}
	wantClean(t, pool)
	removeOld(t, pool, 3)
	if got := text(t, pool, closed); !strings.HasPrefix(got, before+", ") {
		t.Errorf("closed again at %s", got)
	}
	wantClean(t, pool)
	roundIsClean(t, &audit.Continuous{}, pool)
}

// Whoever may close chooses neither where nor when, nor what an account has.
func TestKeeperChoosesNoClosing(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	keeper := as(t, pool, "lastseat_keeper")
	refused := func(code, sql string, args ...any) {
		t.Helper()
		if _, err := keeper.Exec(t.Context(), sql, args...); err == nil || !strings.Contains(err.Error(), "(SQLSTATE "+code) {
			t.Errorf("%s %v: %v, want %s", sql, args, err, code)
		}
	}
	const closing = `SELECT lastseat.close_period($1, array_fill('\x00'::bytea, ARRAY[cardinality($1::text[])]),
		1 + coalesce((SELECT max(number) FROM lastseat.history WHERE chain = 'retention'), 0), now(), '\x00')`
	refused("40001", closing, []string{"ada#3"}) // nothing says how long
	call(t, pool, `keep('transfers', 1)`)
	for _, session := range []string{
		`SET timezone = 'Pacific/Kiritimati'`, `SET timezone = '-167'`, `SET datestyle = 'SQL, DMY'`,
		`SET intervalstyle = 'sql_standard'`, `SET search_path = pg_temp, lastseat`,
	} {
		if _, err := keeper.Exec(t.Context(), session); err != nil {
			t.Fatal(err)
		}
		refused("40001", closing, []string{"ada#3"}) // of today, whatever the session says of days
	}
	if _, err := keeper.Exec(t.Context(), `CREATE TEMP TABLE retention AS SELECT 'transfers' AS what, 0 AS days;
		CREATE TEMP TABLE entries AS SELECT 'ada' AS account_id, 3 AS version, 1000000 AS balance_after, 1 AS transfer_id,
		'2020-01-01Z'::timestamptz AS created_at`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	refused("40001", closing, []string{"ada#3"})
	call(t, pool, `keep('transfers', 0)`)
	for _, key := range []string{"ada#2", "ada#4", "ada#0", "ada", "", "idle#0", "idle#1", "nobody#1"} {
		refused("40001", closing, []string{key})
		refused("40001", closing, []string{"ada#3", key})
	}
	refused("23505", closing, []string{"ada#3", "ada#3"})
	refused("40001", closing, []string{})
	refused("42501", `INSERT INTO lastseat.closings VALUES ('ada', 3, 9, 9, now())`)
	refused("42501", `UPDATE lastseat.closings SET balance = 9`)
	refused("42501", `DELETE FROM lastseat.closings`)
	if _, err := pool.Exec(t.Context(), `DELETE FROM lastseat.closings`); err == nil {
		t.Error("the owner deletes closings")
	}
	if got := text(t, pool, lastClosed); got != "" {
		t.Errorf("closed are %s", got)
	}
	wantClean(t, pool)
}

// A statement begins after the closing, page by page too, and a balance before it is refused.
func TestStatementFromClosing(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	const statement = `SELECT string_agg(concat_ws(' ', version, amount, balance_after), ', ' ORDER BY version)
		FROM lastseat.statement('ada'`
	if got := text(t, pool, `SELECT count(*) FROM lastseat.closing('ada')`); got != "0" {
		t.Errorf("%s closings before there is one", got)
	}
	call(t, pool, `keep('transfers', 0)`)
	removeOld(t, pool, 1000)
	if got := text(t, pool, statement+`)`); got != "" {
		t.Errorf("the statement has %s", got)
	}
	call(t, pool, `transfer('after-1', 'ada', 'ben', 3, 'EUR')`, `transfer('after-2', 'bank', 'ada', 4, 'EUR')`)
	drain(t, pool)
	for sql, want := range map[string]string{
		statement + `)`: "4 -3 302, 5 4 306",
		statement + `, '-infinity', 'infinity', 0, 1)`:                                                       "4 -3 302",
		statement + `, '-infinity', 'infinity', 4, 1)`:                                                       "5 4 306",
		statement + `, '2020-01-01Z')`:                                                                       "4 -3 302, 5 4 306",
		statement + `, '-infinity', '2020-01-01Z')`:                                                          "",
		`SELECT concat(version, ' ', balance) FROM lastseat.closing('ada')`:                                  "3 305",
		`SELECT lastseat.balance_at('ada', through + interval '1 microsecond') FROM lastseat.closing('ada')`: "305",
		`SELECT lastseat.balance_at('ada', 'infinity')`:                                                      "306",
		`SELECT lastseat.balance_at('idle', '-infinity')`:                                                    "0",
	} {
		if got := text(t, pool, sql); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
	for _, at := range []string{`through`, `'-infinity'`, `'2020-01-01Z'`} {
		_, err := pool.Exec(t.Context(), `SELECT lastseat.balance_at('ada', `+at+`) FROM lastseat.closing('ada')`)
		if err == nil || !strings.Contains(err.Error(), `account "ada" is closed up to 2`) ||
			!strings.Contains(err.Error(), "(SQLSTATE LS002)") {
			t.Errorf("at %s: %v", at, err)
		}
	}
	// A page that goes on from the closing is whole; one that goes on from before it would pass over what was closed.
	for _, after := range []string{"1", "2"} {
		_, err := pool.Exec(t.Context(), `SELECT lastseat.statement('ada', after_version => `+after+`)`)
		if err == nil || !strings.Contains(err.Error(), `account "ada" is closed up to entry 3`) ||
			!strings.Contains(err.Error(), "(SQLSTATE LS002)") {
			t.Errorf("after entry %s: %v", after, err)
		}
	}
	if got := text(t, pool, statement+`, after_version => 3)`); got != "4 -3 302, 5 4 306" {
		t.Errorf("after entry 3: %s", got)
	}
}
