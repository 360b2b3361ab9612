package stripe_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/processortest"
	"github.com/lastseat/lastseat/processor/stripe"
)

// open starts a fake and the adapter in front of it.
func open(t *testing.T, options fakestripe.Options) (*fakestripe.Server, *stripe.Gateway) {
	t.Helper()
	fake := fakestripe.New(options)
	server := httptest.NewServer(fake)
	gateway, err := stripe.New(stripe.Options{Key: "sk_test_x", URL: server.URL, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		gateway.Close()
		server.Close()
		fake.Close()
	})
	return fake, gateway
}

func truth(fake *fakestripe.Server, key string) (is processortest.Truth) {
	for _, charge := range fake.Charges() {
		if charge.Metadata["lastseat_key"] == key && charge.Status != "requires_payment_method" {
			is.Charges++
			is.Received += charge.Received
			if charge.Status == "requires_capture" {
				is.Authorized += charge.Amount
			}
		}
		for _, refund := range charge.Refunds {
			if refund.Metadata["lastseat_key"] == key && refund.Status != "failed" {
				is.Refunds++
				is.Refunded += refund.Amount
			}
		}
	}
	return is
}

func TestConformance(t *testing.T) {
	t.Parallel()
	processortest.Run(t, func(t *testing.T) processortest.Bench {
		fake, gateway := open(t, fakestripe.Options{})
		return processortest.Bench{
			Gateway: gateway,
			Break: func(fault processortest.Fault) {
				fake.Break(fakestripe.Fault{Kind: fakestripe.FaultKind(fault), Delay: 50})
			},
			ForgetKeys: fake.ForgetKeys,
			Truth:      func(key string) processortest.Truth { return truth(fake, key) },
			Method:     "pm_card_visa", Refused: "pm_card_visa_chargeDeclinedInsufficientFunds",
		}
	})
}

func charge(key string) processor.Operation {
	return processor.Operation{
		Kind: processor.Charge, Key: key, Payment: "order-1", Method: "pm_card_visa", Amount: 1250, Currency: "EUR",
	}
}

// TestWithoutKey is the proof that the fake sees a key that is missing: the customer pays twice.
func TestWithoutKey(t *testing.T) {
	t.Parallel()
	fake, gateway := open(t, fakestripe.Options{})
	stripe.WithoutKeys(gateway)
	fake.Break(fakestripe.Fault{Kind: fakestripe.CutAfter})
	for range 2 {
		if _, err := gateway.Charge(t.Context(), charge("k")); err != nil {
			t.Fatal(err)
		}
	}
	if got := truth(fake, "k"); got.Charges != 2 || got.Received != 2500 {
		t.Errorf("the fake has %+v, want two charges", got)
	}
}

// TestOneAttempt holds that each call sends one request, on a connection that was used before as well: neither the
// library nor net/http sends anything again.
func TestOneAttempt(t *testing.T) {
	t.Parallel()
	fake, gateway := open(t, fakestripe.Options{})
	if _, err := gateway.Charge(t.Context(), charge("first")); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []fakestripe.FaultKind{
		fakestripe.CutBefore, fakestripe.CutAfter, fakestripe.ErrorBefore, fakestripe.BadGateway, fakestripe.Busy,
	} {
		before := fake.Counts().Writes
		fake.Break(fakestripe.Fault{Kind: kind})
		_, _ = gateway.Charge(t.Context(), charge("key-of-"+string(kind)))
		if sent := fake.Counts().Writes - before; sent != 1 {
			t.Errorf("%s: %d requests were sent, want 1", kind, sent)
		}
		fake.NoFaults()
		if answer, err := gateway.Charge(t.Context(), charge("warm-"+string(kind))); answer.Result != processor.Done {
			t.Fatal(answer, err)
		}
	}
}

// TestNobodyThere tells a processor that can't be reached from one that is reached and says nothing.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	closed, err := stripe.New(stripe.Options{Key: "sk_test_secret", URL: "http://" + listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := closed.Charge(t.Context(), charge("k"))
	if !errors.Is(err, processor.ErrNotSent) || strings.Contains(err.Error(), "secret") {
		t.Errorf("a port where nobody listens: %+v, %v", answer, err)
	}

	hanging := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hanging }))
	t.Cleanup(func() { close(hanging); server.Close() })
	silent, err := stripe.New(stripe.Options{Key: "sk_test_x", URL: server.URL, Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	answer, err = silent.Charge(t.Context(), charge("k"))
	if err != nil || answer.Result != processor.Unknown || answer.Code != processor.CodeNoAnswer || answer.Stored {
		t.Errorf("a processor that says nothing: %+v, %v", answer, err)
	}
}

// TestSearchFinds looks up a charge that a search has found, and that has changed since.
func TestSearchFinds(t *testing.T) {
	t.Parallel()
	fake, gateway := open(t, fakestripe.Options{SearchLag: time.Nanosecond})
	op := charge("k")
	op.Kind = processor.Authorize
	made, err := gateway.Authorize(t.Context(), op)
	if err != nil {
		t.Fatal(err)
	}
	fake.Expire(made.Reference)
	record, err := gateway.LookUp(t.Context(), processor.Query{Key: "k"}) // no times: only a search can find it
	if err != nil || record.Reference != made.Reference || record.Status != processor.StatusVoided {
		t.Errorf("%+v, %v", record, err)
	}
}

// TestRefundPending is a refund that takes its time, and then fails.
func TestRefundPending(t *testing.T) {
	t.Parallel()
	fake, gateway := open(t, fakestripe.Options{})
	op := charge("k")
	op.Method = "pm_card_pendingRefund"
	charged, err := gateway.Charge(t.Context(), op)
	if err != nil {
		t.Fatal(err)
	}
	refund := processor.Operation{
		Kind: processor.Refund, Key: "r", Payment: "order-1", Reference: charged.Reference, Amount: 1250, Currency: "EUR",
	}
	answer, err := gateway.Refund(t.Context(), refund)
	if err != nil || answer.Result != processor.Unknown || answer.Code != processor.CodePending || !answer.Stored {
		t.Fatalf("%+v, %v: want pending, and that only a look tells more", answer, err)
	}
	look := func() processor.Answer {
		record, err := gateway.LookUp(t.Context(), processor.Query{Reference: charged.Reference})
		if err != nil {
			t.Fatal(err)
		}
		return record.Answer(refund)
	}
	fake.FinishRefund(answer.Reference, false)
	if got := look(); got.Result != processor.Done || got.Amount != 1250 {
		t.Errorf("%+v, want done", got)
	}
	fake.FinishRefund(answer.Reference, true)
	if got := look(); got.Result != processor.Declined || got.Code != "lost_or_stolen_card" {
		t.Errorf("%+v, want declined", got)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		options stripe.Options
		want    string
	}{
		{stripe.Options{Key: "sk_test_x"}, ""},
		{stripe.Options{Key: "rk_live_x"}, ""},
		{stripe.Options{Key: "sk_test_x", URL: "http://127.0.0.1:1"}, ""},
		{stripe.Options{Key: "sk_live_x", URL: "https://proxy.example"}, ""},
		{stripe.Options{Key: "sk_live_x", URL: "http://127.0.0.1:1"}, "https"},
		{stripe.Options{Key: "sk_test_x", URL: "http://proxy.example"}, "https"},
		{stripe.Options{Key: "sk_test_x", URL: "ftp://proxy.example"}, "https"},
		{stripe.Options{Key: "sk_test_x", URL: "https://proxy.example/path"}, "URL"},
		{stripe.Options{Key: "sk_test_x", URL: "https://user@proxy.example"}, "URL"},
		{stripe.Options{Key: "pk_test_x"}, "secret"},
		{stripe.Options{Key: "sk_test_x\n"}, "secret"},
		{stripe.Options{}, "secret"},
	} {
		_, err := stripe.New(c.options)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.options, err, c.want)
		}
	}
}
