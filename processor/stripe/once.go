package stripe

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// answerLimit is what is read of an answer. Stripe's have some kilobytes.
const answerLimit = 4 << 20

// exchange is what was seen of one request on the wire. The library's errors don't tell it.
type exchange struct {
	connected atomic.Bool // there was a connection: something may have been sent
	status    int         // 0: no answer
	header    http.Header
}

type exchangeKey struct{}

func (e *exchange) watch(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, exchangeKey{}, e)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { e.connected.Store(true) },
	})
}

// replayed says that the answer was stored under the key.
func (e *exchange) replayed() bool { return e.header.Get("Idempotent-Replayed") == "true" }

// once sends each request once. The standard library would send a POST with an idempotency key again by itself, when a
// connection that was used before ends.
type once struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (o *once) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.GetBody != nil {
		r = r.Clone(r.Context())
		r.GetBody = nil // without it nothing can be sent again
	}
	got, err := o.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if seen, watched := r.Context().Value(exchangeKey{}).(*exchange); watched {
		seen.status, seen.header = got.StatusCode, got.Header
	}
	got.Body = &limited{Reader: io.LimitReader(got.Body, answerLimit), Closer: got.Body}
	return got, nil
}

// CloseIdleConnections is found by [http.Client.CloseIdleConnections].
func (o *once) CloseIdleConnections() {
	if closer, ok := o.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

type limited struct {
	io.Reader
	io.Closer
}

func transport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       time.Minute,
		ExpectContinueTimeout: time.Second,
	}
}
