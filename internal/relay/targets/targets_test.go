package targets_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/doctor"
	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/relaytest"
	"github.com/lastseat/lastseat/internal/relay/targets"
	"github.com/lastseat/lastseat/internal/relay/webhook"
	"github.com/lastseat/lastseat/internal/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

// Every scheme that a URL may have has a sink.
func TestOpen(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"https://shop.example#secret=" + webhook.NewSecret(), "http://shop.example#allow=private&secret=" +
			webhook.NewSecret(),
		"nats://127.0.0.1:1", "tls://127.0.0.1:1", "kafka://127.0.0.1:1/outcomes", "kafka+tls://127.0.0.1:1/outcomes",
	} {
		named, err := relay.ParseTargets(url)
		if err != nil {
			t.Fatal(err)
		}
		sink, err := targets.Open(named[0], slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		sink.Close()
	}
}

// The doctor finds nothing while the target is served, and says what to do otherwise.
func TestExamine(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	endpoint := httptest.NewServer(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }),
	)
	t.Cleanup(endpoint.Close)
	config := b.Pool.Config()
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // as worker doctor has it
	pooled, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pooled.Close)
	variable := endpoint.URL + "#name=shop&allow=private&secret=" + webhook.NewSecret()
	says := func(want string) func() bool {
		return func() bool {
			found, err := targets.Examine(t.Context(), pooled, variable)
			if err != nil || len(found) != 1 || found[0].Check != "relay" || !found[0].OK {
				t.Fatalf("%+v, %v", found, err)
			}
			return strings.HasPrefix(string(found[0].Severity)+": "+found[0].Told, want) &&
				(found[0].Severity == doctor.OK) == (found[0].Do == "")
		}
	}
	if found, err := targets.Examine(t.Context(), pooled, ""); err != nil || len(found) != 0 {
		t.Errorf("without targets: %+v, %v", found, err)
	}
	producer := testdb.Pool(t, testdb.As(t, b.Pool, "lastseat_producer"))
	if found, err := targets.Examine(t.Context(), producer, variable); err != nil || found[0].Severity != doctor.Note {
		t.Errorf("a producer sees %+v, %v", found, err)
	}
	clitest.Eventually(t, "the lack of a relay to be told", says("warning: no worker has ever relayed to shop"))
	group := relaytest.Group(b)
	named, err := relay.ParseTargets(variable)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := targets.Open(named[0], slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	group.Add(named[0], sink)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); group.Run(ctx) }()
	clitest.Eventually(t, "the relay to be right", says("ok: running   shop  0 delivered, 0 to go"))
	b.Settle(1)
	clitest.Eventually(t, "the target to be disabled", says("warning: disabled  shop  0 delivered, 1 to go"))
	cancel()
	<-ended
	if !says("warning: disabled  shop")() {
		t.Error("it is no longer disabled")
	}
	testdb.Exec(t, b.Pool, `UPDATE lastseat.relays SET disabled_at = NULL, disabled_because = NULL`)
	clitest.Eventually(t, "the relay to be missed", says("warning: stopped   shop"))
}

// What the doctor says of a NATS server: that it syncs, that it does not, that nobody can see it, that it is away.
func TestExamineNATS(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	answer := `{"version":"2.15.3","jetstream":{"config":{"sync_interval":120000000000}}}`
	monitor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(answer))
	}))
	examine := func(options string, severity doctor.Severity, do string) {
		t.Helper()
		found, err := targets.Examine(t.Context(), b.Pool, "nats://127.0.0.1:1#name=stream&"+options)
		if err != nil || len(found) != 2 || found[1].Severity != severity || !strings.Contains(found[1].Do, do) {
			t.Errorf("%+v, %v", found, err)
		}
	}
	examine("monitor="+monitor.URL, doctor.Warning, "sync_interval: always")
	answer = `{"version":"2.15.3","jetstream":{"config":{"sync_always":true}}}`
	examine("monitor="+monitor.URL, doctor.OK, "")
	examine("", doctor.Note, "monitor=")
	monitor.Close()
	examine("monitor="+monitor.URL, doctor.Warning, "is up")
}
