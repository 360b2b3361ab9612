package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/reconcile"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/stripe"
)

// TestReconcile: 0 when the processor and the books agree, 1 with what differs, in words and in JSON, and 69 if the
// processor can't be asked.
func TestReconcile(t *testing.T) {
	t.Parallel()
	fake := fakestripe.New(fakestripe.Options{})
	server := httptest.NewServer(fake)
	t.Cleanup(func() { server.Close(); fake.Close() })
	database := testdb.New(t)
	environ := []string{
		"DATABASE_URL=" + database, "LASTSEAT_PROCESSOR_STRIPE_KEY=sk_test_x", "LASTSEAT_PROCESSOR_STRIPE_URL=" + server.URL,
	}
	ask := func(args ...string) clitest.Result {
		t.Helper()
		return runIn(t, environ, append([]string{"reconcile", "--processor", "stripe", "--since"}, args...)...)
	}
	agreed := ask("1h")
	agreed.Succeeds(t)
	if !strings.Contains(agreed.Out, "stripe and the books agree: 0 charges, 0 refunds since ") {
		t.Errorf("it says %q", agreed.Out)
	}
	gateway, err := stripe.New(stripe.Options{Key: "sk_test_x", URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	answer, err := gateway.Charge(t.Context(), processor.Operation{
		Kind: processor.Charge, Key: "k", Payment: "order 7", Method: "pm_card_visa", Amount: 1250, Currency: "EUR",
	})
	if err != nil {
		t.Fatal(err)
	}
	differs := ask("2026-01-01T00:00:00Z")
	differs.Fails(t, cli.ExitViolation, "stripe and the books differ: 1 difference")
	for _, word := range []string{
		"charge_not_in_books", `"order 7"`, answer.Reference, "at stripe 12.50 EUR, in the books 0.00 EUR",
	} {
		if !strings.Contains(differs.Out, word) {
			t.Errorf("it says %q, without %s", differs.Out, word)
		}
	}
	differs = ask("1h", "--output", "json")
	reports := clitest.Lines[reconcile.Report](t, differs)
	if len(reports) != 1 || reports[0].Agree || len(reports[0].Differences) != 1 ||
		reports[0].Differences[0].AtProcessor != 1250 {
		t.Errorf("it says %q", differs.Out)
	}
	ask("yesterday").Fails(t, cli.ExitUsage, "--since is")
	ask("-1h").Fails(t, cli.ExitUsage, "--since is")
	runIn(t, environ, "reconcile", "--processor", "other", "--since", "1h").Fails(t, cli.ExitUsage, "--processor is")
	runIn(t, environ[:1], "reconcile", "--processor", "stripe", "--since", "1h").Fails(t, cli.ExitConfig,
		"LASTSEAT_PROCESSOR_STRIPE_KEY")
	server.Close()
	ask("1h").Fails(t, cli.ExitUnavailable, "the processor: list its charges")
}
