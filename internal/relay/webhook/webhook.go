// Package webhook delivers outcomes to an HTTP endpoint, signed as Standard Webhooks asks for
// (https://github.com/standard-webhooks/standard-webhooks): one POST for each outcome, the next one after a 2xx.
package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/lastseat/lastseat/internal/relay"
)

const (
	defaultTimeout = 15 * time.Second
	defaultGiveUp  = 5 * 24 * time.Hour
	longestWait    = 15 * time.Minute

	bodyLimit   = 256 << 10 // what an endpoint has to take; a detail that is too large for it is left out
	answerLimit = 64 << 10  // what is read of an answer, so that the connection can be used again
	saveEvery   = time.Second
)

// Sink is an endpoint.
type Sink struct {
	url     string
	secrets [][]byte
	user    *url.Userinfo
	client  *http.Client
	timeout time.Duration
	giveUp  time.Duration
}

// New reads the options of a target. Nothing is sent yet.
//
//   - secret: whsec_ and the base64 of 24 to 64 bytes. Two of them while one is replaced: both sign.
//   - allow=private: also addresses that only this machine or its network can reach, and plain http.
//   - timeout: of one attempt. give_up: disable the endpoint when it has failed for so long; 0s: never.
//   - redirects=follow: up to three, to addresses that are allowed.
func New(target relay.Target) (*Sink, error) {
	s := &Sink{user: target.URL.User}
	var err error
	if s.timeout, err = target.Duration("timeout", defaultTimeout, 100*time.Millisecond); err != nil {
		return nil, err
	}
	if s.giveUp, err = target.Duration("give_up", defaultGiveUp, 0); err != nil {
		return nil, err
	}
	for _, secret := range target.Options["secret"] {
		key, err := ParseSecret(secret)
		if err != nil {
			return nil, err
		}
		s.secrets = append(s.secrets, key)
	}
	if len(s.secrets) == 0 || len(s.secrets) > 2 {
		return nil, errors.New("a webhook has one secret, or two while one is replaced: #secret=whsec_... from " +
			"worker relay secret")
	}
	allow, redirects := target.Options.Get("allow"), target.Options.Get("redirects")
	switch {
	case allow != "" && allow != "private":
		return nil, errors.New(`allow is "private"`)
	case redirects != "" && redirects != "follow":
		return nil, errors.New(`redirects is "follow"`)
	case target.URL.Scheme == "http" && allow != "private":
		return nil, errors.New("http sends outcomes in the clear: use https, or allow=private within your own network")
	}
	bare := *target.URL
	bare.User = nil
	s.url = bare.String()
	s.client = newClient(allow == "private", redirects == "follow")
	return s, nil
}

func newClient(private, follow bool) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if !private {
		dialer.Control = refusePrivate
	}
	client := &http.Client{
		Transport: &http.Transport{
			// No proxy: the address that is looked at has to be the endpoint's own.
			DialContext: dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
			MaxResponseHeaderBytes: answerLimit, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 1,
		},
	}
	client.CheckRedirect = func(to *http.Request, via []*http.Request) error {
		switch {
		case !follow:
			return http.ErrUseLastResponse
		case len(via) > 3:
			return errors.New("more than three redirects")
		case to.URL.Scheme != "https" && !private:
			return errors.New("a redirect to plain http")
		case to.Method != http.MethodPost:
			return errors.New("a redirect that makes a GET of a POST: only 307 and 308 are followed")
		}
		return nil
	}
	return client
}

// Limits implements [relay.Sink].
func (s *Sink) Limits() relay.Limits {
	return relay.Limits{Batch: 200, Backoff: longestWait, GiveUp: s.giveUp}
}

// Close implements [relay.Sink].
func (s *Sink) Close() { s.client.CloseIdleConnections() }

// Deliver implements [relay.Sink].
func (s *Sink) Deliver(ctx context.Context, _ string, events []relay.Event) (int, error) {
	began := time.Now()
	for i, event := range events {
		if err := s.post(ctx, event); err != nil {
			return i, err
		}
		if time.Since(began) > saveEvery {
			return i + 1, nil
		}
	}
	return len(events), nil
}

func (s *Sink) post(ctx context.Context, event relay.Event) error {
	event, err := event.Within(bodyLimit)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(event.Body))
	if err != nil {
		return errors.New("the URL can't be used") // the error repeats it
	}
	if s.user != nil {
		password, _ := s.user.Password()
		request.SetBasicAuth(s.user.Username(), password)
	}
	at := time.Now()
	request.Header.Set("Content-Type", relay.ContentType)
	request.Header.Set("User-Agent", "lastseat")
	request.Header["webhook-id"] = []string{event.ID} // as the specification writes them
	request.Header["webhook-timestamp"] = []string{strconv.FormatInt(at.Unix(), 10)}
	request.Header["webhook-signature"] = []string{Sign(s.secrets, event.ID, at, event.Body)}
	answer, err := s.client.Do(request)
	if err != nil {
		return s.explain(ctx, err)
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.CopyN(io.Discard, answer.Body, answerLimit) // what it says is nobody's business; a 2xx is a 2xx
	return judge(answer)
}

// explain is an error without the URL, which may hold a secret.
func (s *Sink) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", s.timeout)
	}
	if with := (*url.Error)(nil); errors.As(err, &with) {
		err = with.Err
	}
	return err
}

func judge(answer *http.Response) error {
	code := answer.StatusCode
	failed := fmt.Errorf("it answers %d %s", code, http.StatusText(code))
	switch {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusGone:
		return &relay.GoneError{Err: errors.New("it answers 410 Gone: it wants no more")}
	case code >= 300 && code < 400:
		return fmt.Errorf("%w, a redirect, which is not followed: name the endpoint itself, or allow redirects=follow",
			failed)
	case slices.Contains([]int{http.StatusTooManyRequests, http.StatusServiceUnavailable}, code):
		if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
			return &relay.LaterError{Err: failed, After: time.Duration(min(seconds, 86400)) * time.Second}
		}
	}
	return failed
}
