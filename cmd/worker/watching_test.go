package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// What watching costs, with SOAK=1 and -v: a worker settles the same with nothing on, then with its server, a scrape
// each second and a viewer of Now, then with the audit every two seconds and traces of all requests on top. It compares
// and decides nothing.
func TestWhatWatchingCosts(t *testing.T) { //nolint:paralleltest // it measures
	if os.Getenv("SOAK") == "" {
		t.Skip("SOAK=1 measures for a few minutes")
	}
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(sink.Close)
	names := []string{"off", "watched", "all"}
	environs := map[string][]string{
		"off":     {"LASTSEAT_AUDIT_EVERY=0s"},
		"watched": {"LASTSEAT_AUDIT_EVERY=0s", "LASTSEAT_ADMIN_ADDR=127.0.0.1:0"},
		"all": {"LASTSEAT_AUDIT_EVERY=2s", "LASTSEAT_ADMIN_ADDR=127.0.0.1:0",
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + sink.URL},
	}
	rates := make(map[string][]float64)
	began := time.Now()
	for round := 0; time.Since(began) < 2*time.Minute; round++ {
		if t.Failed() {
			return
		}
		for i := range names {
			name := names[(i+round)%len(names)]
			t.Run(fmt.Sprint(round, name), func(t *testing.T) {
				rates[name] = append(rates[name], rateOf(t, name == "all", environs[name]))
			})
		}
	}
	for _, name := range names {
		of := slices.Clone(rates[name])
		for i := range of {
			of[i] = 100*of[i]/rates["off"][i] - 100
		}
		slices.Sort(of)
		slices.Sort(rates[name])
		t.Logf("%s: median %.0f a second of %d runs, %.0f to %.0f; against off, median of pairs %+.1f %%, %+.1f to %+.1f",
			name, rates[name][len(of)/2], len(of), rates[name][0], rates[name][len(of)-1], of[len(of)/2], of[0], of[len(of)-1])
	}
}

// rateOf is how many transfers a second a worker settles that finds 20,000 at once.
func rateOf(t *testing.T, isTraced bool, environ []string) float64 {
	t.Helper()
	const n = 20_000
	url := testdb.New(t)
	pool := open(t, url)
	log := runWorker(t, append([]string{"DATABASE_URL=" + url}, environ...)...)
	if address := adminURL.FindStringSubmatch(log.String()); address != nil {
		watch(t, address[1])
	}
	began := fill(t, pool, n, isTraced)
	for {
		last, err := outbox.Outcomes(t.Context(), pool, fmt.Sprint("k", n))
		if err != nil {
			t.Fatal(err)
		}
		if len(last) == 1 && last[0].Status != outbox.Pending {
			return n / time.Since(began).Seconds()
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// fill asks for n transfers, which become visible at the moment that it returns.
func fill(t *testing.T, pool *pgxpool.Pool, n int, isTraced bool) (at time.Time) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if isTraced {
			if _, err := tx.Exec(t.Context(), `SELECT set_config('lastseat.traceparent',
				'00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', true)`); err != nil {
				return err
			}
		}
		_, err := tx.Exec(t.Context(), `SELECT count(*) FROM generate_series(0, $1::integer / 1000 - 1) b,
			LATERAL lastseat.enqueue_many((SELECT jsonb_agg(jsonb_build_object('kind',
			'payment.transfer', 'key', 'k' || (b * 1000 + i), 'args', jsonb_build_object('from', 'bank', 'to', 'ada',
			'amount', 1, 'currency', 'EUR'))) FROM generate_series(1, 1000) i))`, n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return time.Now()
}

// watch scrapes each second and looks at Now until the test ends.
func watch(t *testing.T, address string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{}, 2)
	follow := func(path string, do func(io.Reader)) {
		defer func() { ended <- struct{}{} }()
		for ctx.Err() == nil {
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, address+path, nil)
			if answer, err := http.DefaultClient.Do(r); err == nil {
				do(answer.Body)
				_ = answer.Body.Close()
			}
			time.Sleep(time.Second)
		}
	}
	go follow("/metrics", func(body io.Reader) { _, _ = io.Copy(io.Discard, body) })
	go follow("/live", func(body io.Reader) {
		lines := bufio.NewScanner(body)
		for more := true; more; more = lines.Scan() {
			_ = lines.Bytes()
		}
	})
	t.Cleanup(func() { stop(); <-ended; <-ended })
}
