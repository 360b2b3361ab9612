package stripe

import (
	"net/http"

	api "github.com/stripe/stripe-go/v85"

	"github.com/lastseat/lastseat/processor"
)

// WithoutKeys makes a gateway forget to send keys.
func WithoutKeys(g *Gateway) { g.http.Transport = withoutKeys{g.http.Transport} }

type withoutKeys struct{ next http.RoundTripper }

func (w withoutKeys) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Idempotency-Key")
	return w.next.RoundTrip(r)
}

// JudgeError is what an answer of Stripe's with an error means.
func JudgeError(op processor.Operation, status int, header http.Header, said *api.Error) (processor.Answer, error) {
	said.HTTPStatusCode = status
	seen := &exchange{status: status, header: header}
	seen.connected.Store(true)
	return judge(op, seen, processor.Answer{}, said)
}

// ToStripe and FromStripe convert amounts.
var (
	ToStripe   = toStripe
	FromStripe = fromStripe
)
