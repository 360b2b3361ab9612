package chaos

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const both = "workers clients"

var networkFaults = []Fault{
	toxic("latency", "latency and jitter, both ways", "latency up", "latency down"),
	toxic("slicer", "packets cut into small pieces", "slicer up", "slicer down"),
	toxic("bandwidth", "1 to 8 KB/s", "bandwidth up", "bandwidth down"),
	toxic("swallow", "all bytes of one direction are swallowed (half-open), then the connections are cut",
		"timeout up", "timeout down"),
	toxic("limit", "the connections are cut after so many bytes", "limit_data up", "limit_data down"),
	toxic("lost-reply", "the reply to COMMIT is lost: the connection is cut, or hangs", loseReplyToxic+" down",
		loseReplyToxic+" down hang"),
	{
		Name: "cut", Does: "the network between the programs and Postgres is cut, and comes back",
		Least: 100 * time.Millisecond, Most: 1500 * time.Millisecond, Args: []string{"workers", "clients", both},
		do: func(ctx context.Context, r *run, s Step) error {
			r.network.Lock()
			defer r.network.Unlock()
			for _, p := range r.proxies(s.Arg) {
				if err := p.set("", false); err != nil {
					return err
				}
				defer func() { _ = p.set("", true) }()
			}
			s.wait(ctx)
			return nil
		},
	},
}

// proxies are those of whom a step is about.
func (r *run) proxies(of string) (proxies []*proxy) {
	if strings.Contains(of, "workers") {
		proxies = append(proxies, r.server.network.workers)
	}
	if strings.Contains(of, "clients") {
		proxies = append(proxies, r.server.network.clients)
	}
	return proxies
}

// toxic is a fault that toxiproxy brings about, for workers, clients or both.
func toxic(name, does string, kinds ...string) Fault {
	f := Fault{Name: name, Does: does, Least: 500 * time.Millisecond, Most: 2 * time.Second}
	for _, kind := range kinds {
		for _, of := range []string{"workers", "clients", both} {
			f.Args = append(f.Args, kind+" for "+of)
		}
	}
	f.do = func(ctx context.Context, r *run, s Step) error {
		kind, of, _ := strings.Cut(s.Arg, " for ")
		return r.poisoned(ctx, s, kind, r.proxies(of))
	}
	return f
}

// poisoned puts a toxic in place for a while. What has lost bytes is cut in the end: nobody can use it any more.
func (r *run) poisoned(ctx context.Context, s Step, kind string, proxies []*proxy) error {
	r.network.Lock()
	defer r.network.Unlock()
	stream := "downstream"
	if strings.Contains(kind, " up") {
		stream = "upstream"
	}
	name, _, _ := strings.Cut(kind, " ")
	for i, p := range proxies {
		undo, err := p.poison(fmt.Sprintf("%s-%d", name, i), name, stream, attributesOf(kind, s.N))
		if err != nil {
			return err
		}
		defer undo()
		defer func() {
			if name == "timeout" || name == "limit_data" || name == loseReplyToxic {
				_ = p.set("", false)
				_ = p.set("", true)
			}
		}()
	}
	s.wait(ctx)
	return nil
}
