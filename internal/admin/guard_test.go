package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/httplimit"
)

const (
	look = "0123456789-viewer"
	work = "0123456789-operator"
)

// serve starts a server that finds nothing wrong and counts nothing.
func serve(t *testing.T, options Options) *Server {
	t.Helper()
	server := listen(t, options)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { ended <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return server
}

// listen makes the server of serve, which nobody has answer yet.
func listen(t *testing.T, options Options) *Server {
	t.Helper()
	if options.Address == "" {
		options.Address = "127.0.0.1:0"
	}
	options.Logger = slog.New(slog.DiscardHandler)
	if options.Examine == nil {
		options.Examine = func(context.Context) ([]Finding, error) {
			return []Finding{{"lanes", "ok", "all held", ""}}, nil
		}
	}
	if options.Metrics == nil {
		options.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("metric 1\n"))
		})
	}
	server, err := Listen(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// client has connections of its own.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// ask sends a request; headers are "Name: value", and Host is one of them.
func ask(t *testing.T, c *http.Client, method, address string, headers ...string) (code int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Add(name, value)
	}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	told, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Header.Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'") ||
		strings.Contains(got, "unsafe") {
		t.Errorf("%s %s: the policy is %q", method, address, got)
	}
	return answer.StatusCode, string(told)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	both := serve(t, Options{ViewerToken: look, OperatorToken: work})
	onlyOperator := serve(t, Options{OperatorToken: work})
	none := serve(t, Options{})
	proxied := serve(t, Options{OperatorToken: work, ProxyURL: "https://ops.example"})
	for name, c := range map[string]struct {
		server *Server
		path   string
		header string
		code   int
	}{
		"livez is everybody's":             {both, "/livez", "", 200},
		"readyz says yes or no":            {both, "/readyz", "", 200},
		"why is the viewers'":              {both, "/readyz?verbose", "", 401},
		"no token":                         {both, "/metrics", "", 401},
		"a wrong one":                      {both, "/metrics", "Authorization: Bearer wrong", 401},
		"an empty one":                     {both, "/metrics", "Authorization: Bearer ", 401},
		"the beginning of one":             {both, "/metrics", "Authorization: Bearer " + look[:12], 401},
		"another scheme":                   {both, "/metrics", "Authorization: Digest " + look, 401},
		"the viewer's":                     {both, "/metrics", "Authorization: Bearer " + look, 200},
		"the operator's":                   {both, "/version", "Authorization: Bearer " + work, 200},
		"why, for a viewer":                {both, "/readyz?verbose", "Authorization: Bearer " + look, 200},
		"on this machine, none":            {none, "/metrics", "", 200},
		"on this machine, a wrong one":     {none, "/metrics", "Authorization: Bearer wrong", 401},
		"on this machine, an empty one":    {none, "/metrics", "Authorization: Basic Og==", 401},
		"only operators have one":          {onlyOperator, "/metrics", "", 200},
		"behind a proxy":                   {proxied, "/metrics", "", 401},
		"behind a proxy, the operator's":   {proxied, "/metrics", "Authorization: Bearer " + work, 200},
		"as the password of some user":     {both, "/metrics", "Authorization: Basic YWRhOjAxMjM0NTY3ODktdmlld2Vy", 200},
		"as the name of some user":         {both, "/metrics", "Authorization: Basic MDEyMzQ1Njc4OS12aWV3ZXI6", 401},
		"a page that does not exist":       {both, "/nothing", "Authorization: Bearer " + look, 404},
		"a method that nothing here takes": {both, "/livez", "X-Method: DELETE", 405},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method := http.MethodGet
			if given, is := strings.CutPrefix(c.header, "X-Method: "); is {
				method = given
			}
			var headers []string
			if c.header != "" {
				headers = append(headers, c.header)
			}
			if code, body := ask(t, client(t), method, c.server.URL()+c.path, headers...); code != c.code {
				t.Errorf("%d %s, want %d", code, body, c.code)
			}
		})
	}
}

// What a page of another site can have a browser send, and what nobody sends by mistake.
func TestStrangersRequests(t *testing.T) {
	t.Parallel()
	server := serve(t, Options{ProxyURL: "https://ops.example/lastseat", OperatorToken: work})
	here := strings.TrimSuffix(strings.TrimPrefix(server.URL(), "http://"), "/lastseat")
	for name, c := range map[string]struct {
		path    string
		headers []string
		code    int
	}{
		"by its address":            {"/version", nil, 200},
		"through the proxy":         {"/lastseat/version", []string{"Host: ops.example"}, 200},
		"by a proxy that strips":    {"/version", []string{"Host: ops.example"}, 200},
		"a subpath's look-alike":    {"/lastseating/version", []string{"Host: ops.example"}, 404},
		"a name that leads here":    {"/version", []string{"Host: evil.example"}, 421},
		"a name that looks like it": {"/version", []string{"Host: ops.example.evil.example"}, 421},
		"its own page": {"/version", []string{
			"Host: ops.example", "Origin: https://ops.example", "Sec-Fetch-Site: same-origin",
		}, 200},
		"a script of another site": {"/version", []string{"Origin: https://evil.example"}, 403},
		"an image of another site": {"/version", []string{
			"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image",
		}, 403},
		"a frame of another site": {"/version", []string{
			"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe",
		}, 403},
		"a link on another site": {"/version", []string{
			"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document",
		}, 200},
		"a sandboxed frame":             {"/version", []string{"Origin: null"}, 403},
		"another port's page":           {"/version", []string{"Origin: http://127.0.0.1:1"}, 403},
		"the proxy's name, in the open": {"/version", []string{"Host: ops.example", "Origin: http://ops.example"}, 403},
		"two origins": {"/version", []string{
			"Origin: http://" + here, "Origin: https://evil.example",
		}, 403},
		"up":               {"/x/../version", nil, 404},
		"up, encoded":      {"/x/%2e%2e/version", nil, 404},
		"a slash too many": {"//version", nil, 404},
		"a slash, encoded": {"/%2fversion", nil, 404},
		"a backslash":      {"/x%5c..%5cversion", nil, 404},
		"a null byte":      {"/version%00", nil, 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			headers := append([]string{"Authorization: Bearer " + work}, c.headers...)
			if code, body := ask(t, client(t), http.MethodGet, "http://"+here+c.path, headers...); code != c.code {
				t.Errorf("%d %s, want %d", code, body, c.code)
			}
		})
	}
	for _, origin := range []string{"https://evil.example", "null"} {
		if code, _ := ask(t, client(t), http.MethodPost, "http://"+here+"/version", "Origin: "+origin); code != 403 {
			t.Errorf("a form of %s: %d", origin, code)
		}
	}
}

// Strangers push out each other: however many connect and say nothing, or slowly, somebody else is answered.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	server := serve(t, Options{ViewerToken: look})
	known := client(t)
	asks := func() {
		t.Helper()
		if code, body := ask(t, known, "GET", server.URL()+"/metrics", "Authorization: Bearer "+look); code != 200 {
			t.Fatalf("%d %s", code, body)
		}
	}
	asks()
	limited, _ := server.ln.(*httplimit.Limiter)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for i := range 3 * httplimit.MostConnections {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		if i%2 == 0 { // a slow one, which never ends its header
			_, _ = c.Write([]byte("GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-" + rand.Text()))
		}
		if i%50 == 0 {
			asks()
		}
	}
	asks()
	if code, _ := ask(t, client(t), "GET", server.URL()+"/livez"); code != 200 {
		t.Errorf("a stranger who behaves: %d", code)
	}
	if n, kept := limited.Open(); n > httplimit.MostConnections || kept == 0 {
		t.Errorf("%d connections are open, %d of them kept, want at most %d, and at least one kept", n, kept,
			httplimit.MostConnections)
	}
}

// A client that sends its header slowly is cut off without one that does not.
func TestLimiterForgetsWhatIsClosed(t *testing.T) {
	t.Parallel()
	server := serve(t, Options{ViewerToken: look})
	limited, _ := server.ln.(*httplimit.Limiter)
	c := client(t)
	for range 5 {
		ask(t, c, "GET", server.URL()+"/metrics", "Authorization: Bearer "+look)
		ask(t, client(t), "GET", server.URL()+"/livez")
		c.CloseIdleConnections()
	}
	for {
		n, kept := limited.Open()
		if kept == 0 && n <= 5 {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%d kept, %d others", kept, n)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// However many ask whether the worker is ready, the database is examined once.
func TestReadyIsExaminedOnceForMany(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	examined := 0
	server := serve(t, Options{Examine: func(context.Context) ([]Finding, error) {
		mu.Lock()
		defer mu.Unlock()
		examined++
		return []Finding{{"lanes", "wrong", "nobody holds a lane", "worker run"}}, nil
	}})
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if code, body := ask(t, client(t), "GET", server.URL()+"/readyz?verbose"); code != 503 ||
				!strings.Contains(body, "nobody holds a lane") || !strings.Contains(body, "-> worker run") {
				t.Errorf("%d %s", code, body)
			}
		})
	}
	group.Wait()
	mu.Lock()
	defer mu.Unlock()
	if examined > 5 { // it is repeated every 5 s on a machine that is that slow
		t.Errorf("examined %d times", examined)
	}
}

// livez and what fails: livez asks nobody, readyz says no.
func TestLivesWithoutADatabase(t *testing.T) {
	t.Parallel()
	server := serve(t, Options{Examine: func(context.Context) ([]Finding, error) {
		return nil, errors.New("connection refused")
	}})
	if code, body := ask(t, client(t), "GET", server.URL()+"/livez"); code != 200 {
		t.Errorf("livez: %d %s", code, body)
	}
	if code, body := ask(t, client(t), "GET", server.URL()+"/readyz?verbose"); code != 503 ||
		!strings.Contains(body, "connection refused") {
		t.Errorf("readyz: %d %s", code, body)
	}
}

// A page shows what was found last, however long an examination takes, and has it made anew.
func TestPagesWaitForNoExamination(t *testing.T) {
	t.Parallel()
	began, goOn := make(chan struct{}), make(chan struct{})
	n := 0
	server := listen(t, Options{Examine: func(ctx context.Context) ([]Finding, error) {
		n++
		if n > 1 {
			close(began)
			select {
			case <-goOn:
			case <-ctx.Done():
			}
		}
		return []Finding{{"lanes", "wrong", "nobody holds a lane", "worker run"}, {"schema", "ok", "up to date", ""}}, nil
	}})
	ended := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() { server.ready.run(ctx); close(ended) }()
	first := server.ready.glance(t.Context())
	if len(first.Trouble()) != 1 || len(first.Fine()) != 1 {
		t.Fatalf("the first page sees %v", first)
	}
	server.ready.mu.Lock()
	server.ready.last.At = first.At.Add(-2 * readyFor)
	server.ready.mu.Unlock()
	if again := server.ready.glance(t.Context()); len(again.Findings) != 2 {
		t.Errorf("a page sees %v", again)
	}
	<-began // while it lasts
	if again := server.ready.glance(t.Context()); len(again.Findings) != 2 {
		t.Errorf("a page sees %v", again)
	}
	close(goOn)
	stop()
	<-ended
}
