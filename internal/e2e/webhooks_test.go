package e2e

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/stripe"
)

var webhookURL = regexp.MustCompile(`msg="webhook server" url=(\S+)`)

// TestWorkerTakesWebhooks: a charge that the processor carries out after its payment was declined here is given back,
// once, because the worker hears of it by webhook. The event comes three times.
func TestWorkerTakesWebhooks(t *testing.T) {
	t.Parallel()
	const secret = "whsec_of_the_test"
	fake := fakestripe.New(fakestripe.Options{WebhookSecret: secret})
	server := httptest.NewServer(fake)
	t.Cleanup(func() { server.Close(); fake.Close() })
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	worker := start(t, on(url, "LASTSEAT_PROCESSOR_STRIPE_KEY=sk_test_x", "LASTSEAT_PROCESSOR_STRIPE_URL="+server.URL,
		"LASTSEAT_PROCESSOR_STRIPE_WEBHOOK_SECRETS=whsec_the_old_one "+secret, "LASTSEAT_WEBHOOK_ADDR=:0"), "worker", "run")
	testdb.Exec(t, pool, `SELECT lastseat.open_account('card', 'EUR', NULL), lastseat.open_account('shop', 'EUR'),
		lastseat.charge('p', 'p', 'card', 'shop', 1000, 'EUR', 'stripe', 'pm_card_visa_chargeDeclined')`)
	status := func(key string) string {
		return testdb.Scalar[string](t, pool,
			`SELECT coalesce((SELECT code FROM lastseat.requests WHERE key LIKE '`+key+`'), '')`)
	}
	clitest.Eventually(t, "the charge to be declined", func() bool { return status("p") != "" })

	gateway, err := stripe.New(stripe.Options{Key: "sk_test_x", URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	answer, err := gateway.Charge(t.Context(), processor.Operation{
		Kind: processor.Charge, Key: "late", Payment: "p", Method: "pm_card_visa", Amount: 1000, Currency: "EUR",
	})
	if err != nil || answer.Result != processor.Done {
		t.Fatalf("%+v, %v", answer, err)
	}
	events := fake.Events()
	hooks := webhookURL.FindStringSubmatch(worker.errs.String())
	if hooks == nil {
		t.Fatalf("the log does not say where webhooks come in: %s", worker.errs.String())
	}
	for range 3 {
		if status, err := fake.Post(t.Context(), hooks[1], events[len(events)-1]); status != http.StatusOK {
			t.Errorf("%d, %v", status, err)
		}
	}
	clitest.Eventually(t, "the charge to be given back", func() bool { return status("late:%") == "returned" })
	record, err := gateway.LookUp(t.Context(), processor.Query{Reference: answer.Reference})
	if err != nil || record.Refunded() != 1000 {
		t.Errorf("the processor has %+v, %v", record, err)
	}
	worker.signal(t, syscall.SIGTERM)
	worker.exits(t, 0)
}

// TestWorkerNeedsASecret for webhooks.
func TestWorkerNeedsASecret(t *testing.T) {
	t.Parallel()
	worker := start(t, on("postgres://127.0.0.1:1/none", "LASTSEAT_WEBHOOK_ADDR=:0",
		"LASTSEAT_PROCESSOR_STRIPE_KEY=sk_test_x"), "worker", "run")
	worker.exits(t, 78)
	if !strings.Contains(worker.errs.String(), "LASTSEAT_PROCESSOR_STRIPE_WEBHOOK_SECRETS is not set") {
		t.Errorf("stderr %q", worker.errs.String())
	}
}
