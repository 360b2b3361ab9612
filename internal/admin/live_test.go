package admin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/clitest"
)

// looking returns live figures that count how often they are read.
func looking(reads *int) *live {
	l := newLive(nil)
	l.look = func(context.Context, int) (sample, error) {
		*reads++
		return sample{at: time.Unix(0, 0), rate: float64(*reads)}, nil
	}
	return l
}

// However many watch, the database is read once, and not at all while nobody does. A viewer that does not read holds up
// nobody.
func TestLiveReadsOnceForAll(t *testing.T) {
	t.Parallel()
	reads := 0
	l := looking(&reads)
	l.step(t.Context(), false)
	if reads != 0 {
		t.Errorf("%d reads for nobody", reads)
	}
	slow := l.watch()
	watchers := []chan []byte{l.watch(), l.watch(), l.watch()}
	for n, want := range []string{`"1.0"`, `"2.0"`} {
		l.step(t.Context(), false)
		for i, watcher := range watchers {
			select {
			case got := <-watcher:
				if !strings.Contains(string(got), want) {
					t.Errorf("viewer %d: %s, want %s", i, got, want)
				}
			default:
				t.Errorf("viewer %d was told nothing of read %d", i, n+1)
			}
		}
	}
	if reads != 2 {
		t.Errorf("%d reads in 2 seconds", reads)
	}
	if got := string(<-slow); !strings.Contains(got, `"1.0"`) {
		t.Errorf("the slow one: %s", got)
	}
	for _, watcher := range append(watchers, slow) {
		l.leave(watcher)
	}
	l.step(t.Context(), false)
	if reads != 2 || l.last != nil {
		t.Errorf("%d reads after all have left, and %q for the next one", reads, l.last)
	}
}

// watched is a stream of live figures.
func watched(t *testing.T, address string, headers ...string) (code int, stream io.ReadCloser) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	if answer.StatusCode == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
	return answer.StatusCode, answer.Body
}

// So many watch and no more, each is told something, and all streams end when the worker stops.
func TestLiveStreams(t *testing.T) {
	t.Parallel()
	reads := 0
	server := listen(t, Options{})
	server.live = looking(&reads)
	server.http.Handler = server.handler()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()

	streams := make([]io.ReadCloser, mostWatchers)
	for i := range streams {
		var code int
		if code, streams[i] = watched(t, server.URL()+"/live"); code != http.StatusOK {
			t.Fatalf("viewer %d: %d", i, code)
		}
	}
	if code, _ := watched(t, server.URL()+"/live"); code != http.StatusServiceUnavailable {
		t.Errorf("one more: %d", code)
	}
	_ = streams[0].Close()
	clitest.Eventually(t, "the place of one who left to be free", func() bool {
		var code int
		code, streams[0] = watched(t, server.URL()+"/live")
		return code == http.StatusOK
	})
	readers := make([]*bufio.Reader, len(streams))
	for i, stream := range streams {
		readers[i] = bufio.NewReader(stream)
		for line := ""; !strings.HasPrefix(line, "data: {"); {
			var err error
			if line, err = readers[i].ReadString('\n'); err != nil {
				t.Fatalf("viewer %d: %v", i, err)
			}
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for i, reader := range readers {
		if _, err := io.Copy(io.Discard, reader); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) &&
			!strings.Contains(err.Error(), "reset") {
			t.Errorf("viewer %d: %v", i, err)
		}
	}
	if server.live.watch() != nil {
		t.Error("somebody may watch a worker that has stopped")
	}
}

// Without a token, from another site's page or under another name there is no stream.
func TestLiveIsNotForStrangers(t *testing.T) {
	t.Parallel()
	reads := 0
	server := listen(t, Options{ViewerToken: look})
	server.live = looking(&reads)
	server.http.Handler = server.handler()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	for want, headers := range map[int][]string{
		http.StatusUnauthorized: nil, http.StatusForbidden: {"Authorization: Bearer " + look, "Sec-Fetch-Site: cross-site"},
		http.StatusOK: {"Authorization: Bearer " + look},
	} {
		if code, _ := watched(t, server.URL()+"/live", headers...); code != want {
			t.Errorf("%q: %d, want %d", headers, code, want)
		}
	}
	if code, _ := watched(t, server.URL()+"/live", "Authorization: Bearer wrong"); code != http.StatusUnauthorized {
		t.Errorf("a wrong token: %d", code)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The last sample is at the right end, what is older than an hour is left out, and an outage is a gap.
func TestPictureOfTheHour(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	got := drawHour([]sample{
		{at: ago(2 * time.Hour), rate: 500}, {at: ago(time.Hour), rate: 100}, {at: ago(45 * time.Minute), due: 7},
		{at: ago(30 * time.Minute), failed: true}, {at: ago(15 * time.Minute), rate: 25}, {at: now, rate: 50, due: 14},
	})
	want := picture{
		Rate: "M0.0 0.0L250.0 100.0M750.0 75.0L1000.0 50.0", Due: "M0.0 100.0L250.0 50.0M750.0 100.0L1000.0 0.0",
		MostRate: "100.0", MostDue: "14",
	}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := drawHour(nil); got.Rate != "" || got.MostDue != "0" {
		t.Errorf("without samples: %+v", got)
	}
	l := newLive(nil)
	l.look = func(context.Context, int) (sample, error) { return sample{}, errors.New("gone") }
	for range mostSamples + 5 {
		l.step(t.Context(), true)
	}
	if len(l.samples) != mostSamples || !l.samples[0].failed {
		t.Errorf("%d samples are kept", len(l.samples))
	}
}
