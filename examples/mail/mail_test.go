package mail

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/schema"
)

// post is a provider that loses its first answer after it has sent the mail.
type post struct {
	mu    sync.Mutex
	tries int
	mails map[string]string // by key
}

func (p *post) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var mail Mail
	if err := json.NewDecoder(r.Body).Decode(&mail); err != nil || mail.To == "" {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	p.mails[r.Header.Get("Idempotency-Key")] = mail.To
	if p.tries++; p.tries == 1 {
		w.WriteHeader(http.StatusBadGateway)
	}
}

// From the business write to the outcome. DATABASE_URL names an empty database; `make test` of Lastseat gives it one.
func TestMail(t *testing.T) {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		t.Skip("DATABASE_URL is not set: an empty database, owned by its user")
	}
	ctx := t.Context()
	if _, err := schema.Up(ctx, url, false); err != nil { // what `worker migrate up` does
		t.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, Schema); err != nil {
		t.Fatal(err)
	}
	office := &post{mails: make(map[string]string)}
	server := httptest.NewServer(office)
	defer server.Close()

	running, stop := context.WithCancel(ctx)
	worker, done := NewWorker(pool, Provider{URL: server.URL}), make(chan error)
	go func() { done <- worker.Run(running) }()
	for id, to := range map[string]string{"order-1": "ada@example.com", "order-2": ""} {
		if err := PlaceOrder(ctx, pool, id, to); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]string{"order-1": "applied mailed sent", "order-2": "applied not_mailed no_such_address"} {
		got := ""
		for deadline := time.Now().Add(30 * time.Second); got != want && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
			if err := pool.QueryRow(ctx, `SELECT concat_ws(' ', o.status, o.code, s.mailed)
				FROM lastseat.outcome('mail:' || $1) o, orders s WHERE s.id = $1`, id).Scan(&got); err != nil {
				t.Fatal(err)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	if office.tries < 2 || len(office.mails) != 1 {
		t.Errorf("%d tries, %d mails", office.tries, len(office.mails))
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
