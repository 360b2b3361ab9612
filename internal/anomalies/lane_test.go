package anomalies_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// What Lastseat's half of a test needs: a service that asks, a worker that settles, and outcomes.

// name is an id or a key of this level: the levels share a database.
func (s *stage) name(id string) string { return id + ", " + string(s.level) }

// account opens an account in EUR with so much on it.
func (s *stage) account(id string, balance int64) string {
	s.Helper()
	for _, sql := range []string{
		`SELECT lastseat.open_account('bank', 'EUR', NULL, if_missing => true)`,
		fmt.Sprintf(`SELECT lastseat.open_account('%s', 'EUR')`, s.name(id)),
	} {
		if _, err := s.pool.Exec(s.Context(), sql); err != nil {
			s.Fatal(err)
		}
	}
	if balance > 0 {
		s.ask("top-up of "+id, jobs.Transfer{From: "bank", To: s.name(id), Amount: balance, Currency: "EUR"})
		s.settle()
	}
	return s.name(id)
}

func (s *stage) resource(id string) string {
	s.Helper()
	if _, err := s.pool.Exec(s.Context(), `SELECT lastseat.define_resource($1, 1)`, s.name(id)); err != nil {
		s.Fatal(err)
	}
	return s.name(id)
}

func (s *stage) balance(account string) int64 {
	s.Helper()
	b, err := jobs.BalanceOf(s.Context(), s.pool, account)
	if err != nil {
		s.Fatal(err)
	}
	return b.Balance
}

// ask asks in the client's transaction.
func (x *session) ask(key string, args outbox.Args) (receipt outbox.Receipt) {
	if x.err == nil {
		receipt, x.err = outbox.Enqueue(x.Context(), x.tx, x.name(key), args)
	}
	return receipt
}

// ask asks in a transaction of its own.
func (s *stage) ask(key string, args outbox.Args) outbox.Receipt {
	s.Helper()
	receipts, err := outbox.EnqueueMany(s.Context(), s.pool, []outbox.Request{{Key: s.name(key), Args: args}})
	if err != nil {
		s.Fatal(err)
	}
	return receipts[0]
}

func (s *stage) worker(batch int) *outbox.Worker {
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	outbox.Register(kinds, offCall)
	outbox.Register(kinds, withdrawJointly)
	return outbox.NewWorker(s.pool, kinds, outbox.Settings{Isolation: s.level, Batch: batch,
		Logger: slog.New(slog.DiscardHandler)})
}

// settle has a worker settle what was asked for. From any goroutine.
func (s *stage) settle() {
	s.Helper()
	if err := s.worker(0).Drain(s.Context()); err != nil {
		s.Error(err)
	}
}

// code is the code of a request's outcome, empty if it has none, and "unknown" if it was never asked for.
func (s *stage) code(key string) string {
	s.Helper()
	outcomes, err := outbox.Outcomes(s.Context(), s.pool, s.name(key))
	if err != nil {
		s.Fatal(err)
	}
	if len(outcomes) == 0 {
		return "unknown"
	}
	return outcomes[0].Code
}

// wantCodes wants these codes of the requests, in any order: which of two was first is not for the test to say.
func (s *stage) wantCodes(keys []string, want ...string) {
	s.Helper()
	var got []string
	for _, key := range keys {
		got = append(got, s.code(key))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.Errorf("%q came to %q, want %q", keys, got, want)
	}
}

func (s *stage) wantBalance(account string, want int64) {
	s.Helper()
	if got := s.balance(account); got != want {
		s.Errorf("%s has %d, want %d", account, got, want)
	}
}

// wantDone wants both clients to have committed.
func (s *stage) wantDone(ends [2]error) {
	s.Helper()
	for i, err := range ends {
		if err != nil {
			s.Errorf("client %d: %v", i+1, err)
		}
	}
}

// holdAccount has another session lock an account: what needs it waits, and what needs that.
func (s *stage) holdAccount(account string) (release func()) {
	s.Helper()
	return s.lock(`SELECT FROM lastseat.accounts WHERE id = $1 FOR UPDATE`, account)
}

// holdEntries has another session lock the table of entries, so that the lane stops in the middle of a batch.
func (s *stage) holdEntries() (release func()) {
	s.Helper()
	return s.lock(`LOCK TABLE lastseat.entries IN SHARE MODE`)
}

func (s *stage) lock(sql string, args ...any) (release func()) {
	s.Helper()
	tx, err := s.pool.Begin(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(s.Context())) })
	if _, err := tx.Exec(s.Context(), sql, args...); err != nil {
		s.Fatal(err)
	}
	return func() {
		s.Helper()
		if err := tx.Rollback(s.Context()); err != nil {
			s.Error(err)
		}
	}
}

// laneTaken waits for a worker to take the lane.
func (s *stage) laneTaken() {
	s.Helper()
	s.eventually("a worker takes the lane", func() bool {
		return s.int(`SELECT count(*) FROM lastseat.lanes WHERE holder IS NOT NULL`) > 0
	})
}

// stuckLane waits for a lane that waits for a lock, and returns its backend.
func (s *stage) stuckLane() (pid int) {
	s.Helper()
	const sql = `SELECT coalesce(min(pid), 0) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'lastseat lane' AND cardinality(pg_blocking_pids(pid)) > 0`
	s.eventually("the lane waits for a lock", func() bool { pid = s.int(sql); return pid != 0 })
	return pid
}

func (s *stage) eventually(what string, is func() bool) {
	s.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("waited for a minute, and never: %s", what)
		}
	}
}

// Kinds of the tests' own: handlers with the very code that is wrong outside of a lane.

// goOffCall asks for a doctor to go off call.
type goOffCall struct {
	Doctor int `json:"doctor"`
}

func (goOffCall) Kind() string { return "hospital.off_call" }

func offCall(ctx context.Context, tx pgx.Tx, args goOffCall) (outbox.Result, error) {
	var onCall int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM naive.doctors WHERE on_call`).Scan(&onCall); err != nil {
		return outbox.Result{}, err
	}
	if onCall < 2 {
		return outbox.Reject("last_on_call", nil), nil
	}
	_, err := tx.Exec(ctx, `UPDATE naive.doctors SET on_call = false WHERE id = $1`, args.Doctor)
	return outbox.Result{Status: outbox.Applied, Code: "off_call"}, err
}

// jointWithdrawal asks for money of one of two accounts that may not be below zero together.
type jointWithdrawal struct {
	Account int `json:"account"`
}

func (jointWithdrawal) Kind() string { return "household.withdraw" }

func withdrawJointly(ctx context.Context, tx pgx.Tx, args jointWithdrawal) (outbox.Result, error) {
	var sum int
	if err := tx.QueryRow(ctx, `SELECT sum(balance) FROM naive.accounts`).Scan(&sum); err != nil {
		return outbox.Result{}, err
	}
	if sum < 100 {
		return outbox.Reject("joint_limit", nil), nil
	}
	_, err := tx.Exec(ctx, `UPDATE naive.accounts SET balance = balance - 100 WHERE id = $1`, args.Account)
	return outbox.Result{Status: outbox.Applied, Code: "withdrawn"}, err
}
