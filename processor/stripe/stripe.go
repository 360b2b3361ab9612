package stripe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	api "github.com/stripe/stripe-go/v85"

	"github.com/lastseat/lastseat/processor"
)

// Options of a [Gateway].
type Options struct {
	// Key is the secret API key: sk_... or rk_.... It never appears in an error.
	Key string
	// URL is where Stripe is, by default https://api.stripe.com. Anything else is for tests and proxies: a key of the
	// live mode goes there over https only.
	URL string
	// Timeout of one attempt, by default 30 seconds.
	Timeout time.Duration
}

// The names of our metadata.
const (
	metaPayment    = "lastseat_payment"
	metaKey        = "lastseat_key"
	metaCaptureKey = "lastseat_capture_key"
)

// Gateway is Stripe.
type Gateway struct {
	api  *api.Client
	http *http.Client
}

var _ processor.Gateway = (*Gateway)(nil)

// New makes a gateway. Nothing is sent yet, so a key that Stripe doesn't know is found by the first operation.
func New(options Options) (*Gateway, error) {
	if !strings.HasPrefix(options.Key, "sk_") && !strings.HasPrefix(options.Key, "rk_") ||
		strings.ContainsFunc(options.Key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return nil, errors.New("the API key of Stripe is secret and begins with sk_ or rk_")
	}
	at, err := url.Parse(cmp.Or(options.URL, api.APIURL))
	switch {
	case err != nil || at.Host == "" || at.Path != "" && at.Path != "/" || at.User != nil || at.RawQuery != "":
		return nil, errors.New("the URL of Stripe is https://HOST[:PORT]")
	case at.Scheme != "https" &&
		(at.Scheme != "http" || strings.Contains(options.Key, "_live_") || !loopback(at.Hostname())):
		return nil, errors.New("the URL of Stripe is https, or http on this machine with a key of the test mode")
	}
	g := &Gateway{http: &http.Client{
		Timeout:   cmp.Or(options.Timeout, 30*time.Second),
		Transport: &once{transport()},
		// A redirect of a charge is nothing that Stripe does.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	backend := api.GetBackendWithConfig(api.APIBackend, &api.BackendConfig{
		HTTPClient: g.http, URL: api.String(at.Scheme + "://" + at.Host), MaxNetworkRetries: api.Int64(0),
		EnableTelemetry: new(false), LeveledLogger: &api.LeveledLogger{Level: api.LevelNull},
	})
	g.api = api.NewClient(options.Key, api.WithBackends(&api.Backends{
		API: backend, Connect: backend, Uploads: backend, MeterEvents: backend,
	}))
	return g, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// KeyWindow implements [processor.Gateway]. Stripe keeps keys for at least 24 hours; an hour is taken off it for
// clocks that differ and for a request that is under way.
func (g *Gateway) KeyWindow() time.Duration { return 23 * time.Hour }

// Close closes connections that nobody uses.
func (g *Gateway) Close() { g.http.CloseIdleConnections() }

// Authorize implements [processor.Gateway].
func (g *Gateway) Authorize(ctx context.Context, op processor.Operation) (processor.Answer, error) {
	return g.create(ctx, op, processor.Authorize, api.PaymentIntentCaptureMethodManual)
}

// Charge implements [processor.Gateway].
func (g *Gateway) Charge(ctx context.Context, op processor.Operation) (processor.Answer, error) {
	return g.create(ctx, op, processor.Charge, api.PaymentIntentCaptureMethodAutomatic)
}

func (g *Gateway) create(ctx context.Context, op processor.Operation, kind processor.Kind,
	method api.PaymentIntentCaptureMethod) (processor.Answer, error) {
	return g.attempt(ctx, op, kind, func(ctx context.Context, amount int64) (processor.Answer, error) {
		params := &api.PaymentIntentCreateParams{
			Params: withKey(op), Amount: &amount, Currency: currencyOf(op), CaptureMethod: api.String(string(method)),
			PaymentMethod: &op.Method, PaymentMethodTypes: []*string{api.String("card")},
			Confirm: new(true), ErrorOnRequiresAction: new(true),
			Metadata: metadata(op),
		}
		if op.Customer != "" {
			params.Customer = &op.Customer
		}
		intent, err := g.api.V1PaymentIntents.Create(ctx, params)
		return answerOfIntent(op, intent), err
	})
}

// Capture implements [processor.Gateway].
func (g *Gateway) Capture(ctx context.Context, op processor.Operation) (processor.Answer, error) {
	return g.attempt(ctx, op, processor.Capture, func(ctx context.Context, amount int64) (processor.Answer, error) {
		intent, err := g.api.V1PaymentIntents.Capture(ctx, op.Reference, &api.PaymentIntentCaptureParams{
			Params: withKey(op), AmountToCapture: &amount, Metadata: map[string]string{metaCaptureKey: op.Key},
		})
		return answerOfIntent(op, intent), err
	})
}

// Void implements [processor.Gateway].
func (g *Gateway) Void(ctx context.Context, op processor.Operation) (processor.Answer, error) {
	return g.attempt(ctx, op, processor.Void, func(ctx context.Context, _ int64) (processor.Answer, error) {
		intent, err := g.api.V1PaymentIntents.Cancel(ctx, op.Reference, &api.PaymentIntentCancelParams{Params: withKey(op)})
		return answerOfIntent(op, intent), err
	})
}

// Refund implements [processor.Gateway].
func (g *Gateway) Refund(ctx context.Context, op processor.Operation) (processor.Answer, error) {
	return g.attempt(ctx, op, processor.Refund, func(ctx context.Context, amount int64) (processor.Answer, error) {
		refund, err := g.api.V1Refunds.Create(ctx, &api.RefundCreateParams{
			Params: withKey(op), PaymentIntent: &op.Reference, Amount: &amount, Metadata: metadata(op),
		})
		return answerOfRefund(op, refund), err
	})
}

// withKey is what every request that may change something carries.
func withKey(op processor.Operation) api.Params { return api.Params{IdempotencyKey: &op.Key} }

func currencyOf(op processor.Operation) *string { return api.String(strings.ToLower(op.Currency)) }

func metadata(op processor.Operation) map[string]string {
	all := map[string]string{metaPayment: op.Payment, metaKey: op.Key}
	maps.Copy(all, op.Metadata)
	return all
}

// attempt sends an operation once, and says what has become of it.
func (g *Gateway) attempt(ctx context.Context, op processor.Operation, kind processor.Kind,
	send func(context.Context, int64) (processor.Answer, error)) (processor.Answer, error) {
	if op.Kind != kind {
		return processor.Answer{}, fmt.Errorf("%w: a %s was asked to %s", processor.ErrInvalid, op.Kind, kind)
	}
	if err := op.Check(); err != nil {
		return processor.Answer{}, err
	}
	amount, err := toStripe(op.Amount, op.Currency)
	if err != nil {
		return processor.Answer{}, fmt.Errorf("%w: %w", processor.ErrInvalid, err)
	}
	if err := ctx.Err(); err != nil {
		return processor.Answer{}, &processor.NotSentError{Err: err}
	}
	var seen exchange
	answer, err := send(seen.watch(ctx), amount)
	answer, err = judge(op, &seen, answer, err)
	if err == nil && answer.Result == processor.Declined && answer.Code != "" && inOtherState(answer.Code) {
		return g.decide(ctx, op, answer), nil
	}
	return answer, err
}
