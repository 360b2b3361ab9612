package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/stripe"
)

// The environment that makes the test's binary a worker that charges cards, with shorter times than worker run has.
const (
	cardWorkerURL  = "E2E_TEST_CARD_WORKER_URL"
	cardWorkerTill = "E2E_TEST_CARD_WORKER_STRIPE"
	cardWorkerKey  = "E2E_TEST_CARD_WORKER_KEY"
)

func runCardWorker(url string) int {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return 1
	}
	gateway, err := stripe.New(stripe.Options{
		Key: os.Getenv(cardWorkerKey), URL: os.Getenv(cardWorkerTill), Timeout: 5 * time.Second,
	})
	if err != nil {
		return 1
	}
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	caller := jobs.Processor("stripe", gateway)
	caller.Late = time.Second
	kinds.AddCaller(caller)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	err = outbox.NewWorker(pool, kinds, outbox.Settings{Logger: log, Calls: outbox.CallTimes{
		// Among thousands of calls some have twenty attempts in a row that bring nothing: the pause must not double so often.
		Watch: 6 * time.Second, Pause: time.Millisecond, Longest: 2 * time.Second, Poll: 20 * time.Millisecond,
	}}).Run(ctx)
	if err != nil {
		log.Error("the worker has ended", slog.String("error", err.Error()))
		return 1
	}
	return 0
}

// till is a card processor, the network before it, and the workers, some of which it kills.
type till struct {
	t      *testing.T
	fake   *fakestripe.Server
	url    string // of the network
	worker string // the URL of the workers' database

	mu     sync.Mutex
	writes int
	every  int // so many requests come between two kills; 0: no more kills
	kills  map[string]int
	number int                  // of the workers that were started
	alive  map[string]*exec.Cmd // by API key
}

// killed are the points at which a worker is killed, in turn. Then one is frozen, until another worker has made the
// next attempt at what it was asking for: what it says when it wakes up comes too late.
var killed = []string{"before it is carried out", "carried out, not answered", "answered", "frozen"}

// network hands a request on. Every so many requests it kills or freezes the worker that has sent it, at one of the
// points.
func (k *till) network(w http.ResponseWriter, r *http.Request) {
	point := ""
	if r.Method == http.MethodPost {
		k.mu.Lock()
		k.writes++
		if k.every > 0 && k.writes%k.every == 0 {
			point = killed[k.writes/k.every%len(killed)]
		}
		k.mu.Unlock()
	}
	sender := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch point {
	case "":
		k.fake.ServeHTTP(w, r)
	case killed[0]:
		k.kill(sender, point)
		panic(http.ErrAbortHandler)
	case killed[1]:
		k.fake.ServeHTTP(httptest.NewRecorder(), r)
		k.kill(sender, point)
		panic(http.ErrAbortHandler)
	case killed[3]:
		k.freeze(sender, point)
		panic(http.ErrAbortHandler)
	default: // the worker may have noted the answer, or not
		defer func() { go k.kill(sender, point) }()
		k.fake.ServeHTTP(w, r)
	}
}

// kill kills a worker, and starts another one.
func (k *till) kill(key, point string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	cmd := k.alive[key]
	if cmd == nil || k.every == 0 {
		return // it was killed meanwhile
	}
	delete(k.alive, key)
	if err := cmd.Process.Kill(); err != nil {
		k.t.Error(err)
	}
	_ = cmd.Wait()
	k.kills[point]++
	k.start()
}

// freeze freezes a worker for longer than a call waits for an attempt.
func (k *till) freeze(key, point string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	cmd := k.alive[key]
	if cmd == nil || k.every == 0 {
		return
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		k.t.Error(err)
	}
	k.kills[point]++
	time.AfterFunc(16*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGCONT) }) // it may have been killed
}

// start starts a worker. The caller has the lock.
func (k *till) start() {
	k.number++
	key := fmt.Sprintf("sk_test_%d", k.number)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), cardWorkerURL+"="+k.worker, cardWorkerTill+"="+k.url, cardWorkerKey+"="+key)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		k.t.Error(err)
		return
	}
	k.alive[key] = cmd
}

// stop ends all workers.
func (k *till) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.every = 0
	for key, cmd := range k.alive {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		delete(k.alive, key)
	}
}

func openTill(t *testing.T, pool *pgxpool.Pool, every int) *till {
	t.Helper()
	k := &till{
		t: t, every: every, worker: testdb.As(t, pool, "lastseat_worker"), kills: map[string]int{},
		alive: map[string]*exec.Cmd{},
	}
	var receiver processor.Receiver
	hooks := httptest.NewServer(&receiver)
	k.fake = fakestripe.New(fakestripe.Options{Seed: soakSeed(), SearchLag: time.Second, WebhookURL: hooks.URL,
		WebhookSecret: "whsec_of_the_till"})
	k.fake.Send(fakestripe.Sending{Copies: 2, Shuffle: 300})
	network := httptest.NewServer(http.HandlerFunc(k.network))
	k.url = network.URL
	gateway, err := stripe.New(stripe.Options{Key: "sk_test_hooks", URL: k.url})
	if err != nil {
		t.Fatal(err)
	}
	verify, err := stripe.Webhooks("whsec_of_the_till")
	if err != nil {
		t.Fatal(err)
	}
	receiver = processor.Receiver{
		Source: "stripe", Verify: verify, LookUp: gateway.LookUp, Take: jobs.TakeLate, DB: pool,
		Logger: slog.New(slog.DiscardHandler),
	}
	t.Cleanup(func() { k.stop(); network.Close(); k.fake.Close(); hooks.Close(); gateway.Close() })
	k.mu.Lock()
	defer k.mu.Unlock()
	k.start()
	k.start()
	return k
}
