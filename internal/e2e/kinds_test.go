package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// ownWorkerURL names the database in whose name the test's binary is a worker as docs/own-kinds.md has it.
const ownWorkerURL = "E2E_TEST_OWN_WORKER_URL"

type addPoints struct {
	Customer string `json:"customer"`
	Points   int64  `json:"points"`
}

func (addPoints) Kind() string { return "loyalty.add_points" }

// runOwnWorker is the program of docs/own-kinds.md: the built-in kinds and one of its own, in one worker.
func runOwnWorker(url string) int {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return 1
	}
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	outbox.Register(kinds, func(ctx context.Context, tx pgx.Tx, args addPoints) (outbox.Result, error) {
		_, err := tx.Exec(ctx, `INSERT INTO public.points VALUES ($1, $2)`, args.Customer, args.Points)
		return outbox.Result{Status: outbox.Applied, Code: "added"}, err
	}, outbox.OrderBy("customer"))
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := outbox.NewWorker(pool, kinds, outbox.Settings{Logger: log}).Run(ctx); err != nil {
		log.Error("the worker has ended", slog.String("error", err.Error()))
		return 1
	}
	return 0
}

// A worker with a kind of one's own beside `worker dev`, which holds the lane and lacks the kind: both kinds of request
// are settled, no attempt is lost, and the worker that has all kinds keeps the lane.
func TestOwnKindsBesideWorkerDev(t *testing.T) {
	t.Parallel()
	tmp := ownDir(t)
	p, url, _ := dev(t, []string{"TMPDIR=" + tmp})
	pool := testdb.Pool(t, url)
	testdb.Exec(t, pool, `CREATE TABLE public.points (customer text, points bigint)`)
	open(t, pool)
	own := exec.Command(os.Args[0])
	said := &clitest.Buffer{}
	own.Env, own.Stderr = append(os.Environ(), ownWorkerURL+"="+url), said
	if err := own.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Process.Kill(); _ = own.Wait() }()
	for i := range 3 {
		give(t, pool, fmt.Sprint("gift-", i))
		if _, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{
			{Key: fmt.Sprint("points-", i), Args: addPoints{Customer: "ada", Points: 1}},
		}); err != nil {
			t.Fatal(err)
		}
		clitest.Eventually(t, "both to be settled", func() bool { return settled(t, pool) == 2*(i+1) })
	}
	if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests WHERE attempts = 1`); n != 6 {
		t.Errorf("%d of 6 requests have used one attempt", n)
	}
	if n := balance(t, pool, "ada"); n != 3 {
		t.Errorf("ada has %d cents", n)
	}
	if !strings.Contains(p.errs.String(), "loyalty.add_points (1)") {
		t.Errorf("worker dev does not say which kind it lacks: %s", p.errs.String())
	}
	if got := said.String(); !strings.Contains(got, "lane taken") || strings.Contains(got, "lane left") {
		t.Errorf("the worker that has all kinds has not kept the lane: %s", got)
	}
	pool.Close()
	_ = own.Process.Kill()
	p.signal(t, syscall.SIGINT)
	p.exits(t, 0)
}
