package chaos

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"sync"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// network is what lies between the programs and Postgres.
type network struct {
	workers, clients *proxy
	side             *proxy // of those who look on: nothing is done to it
}

// proxy is one of toxiproxy's, which may be led to another port.
type proxy struct {
	*toxiproxy.Proxy
	mu sync.Mutex
}

func newNetwork(upstream string) (*network, error) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics bring a logger of their own
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &network{}
	for name, p := range map[string]**proxy{"workers": &n.workers, "clients": &n.clients, "side": &n.side} {
		*p = &proxy{Proxy: toxiproxy.NewProxy(api, name, "127.0.0.1:0", upstream)}
		if err := (*p).Start(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *network) all() []*proxy { return []*proxy{n.workers, n.clients, n.side} }

func (n *network) close() {
	for _, p := range n.all() {
		if p != nil {
			p.Stop()
		}
	}
}

// lead leads all proxies to a server that has come back elsewhere.
func (n *network) lead(upstream string) error {
	for _, p := range n.all() {
		if err := p.set(upstream, true); err != nil {
			return err
		}
	}
	return nil
}

func (p *proxy) set(upstream string, enabled bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Lock()
	listen := p.Listen
	if upstream == "" {
		upstream = p.Upstream
	}
	p.Unlock()
	return p.Update(&toxiproxy.Proxy{Listen: listen, Upstream: upstream, Enabled: enabled})
}

// poison adds a toxic, and returns how to take it away.
func (p *proxy) poison(name, kind, stream string, attributes map[string]any) (undo func(), err error) {
	asked, err := json.Marshal(map[string]any{
		"name": name, "type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes,
	})
	if err != nil {
		return nil, err
	}
	if _, err := p.Toxics.AddToxicJson(bytes.NewReader(asked)); err != nil {
		return nil, err
	}
	return func() { _ = p.Toxics.RemoveToxic(background, name) }, nil
}

// loseReply cuts a connection when the server answers COMMIT on it, before the client hears the answer.
type loseReply struct {
	Percent int  `json:"percent"` // of the answers
	Hang    bool `json:"hang"`    // the answer is lost, and so is all that comes after it; nobody closes the connection
}

// commitReply is the message CommandComplete for a COMMIT.
var commitReply = []byte("C\x00\x00\x00\x0bCOMMIT\x00")

// hung is what the toxic knows of a connection.
type hung struct{ is bool }

// NewState implements [toxics.StatefulToxic].
func (*loseReply) NewState() any { return new(hung) }

// Cleanup implements [toxics.CleanupToxic]: a connection on which something was lost is of no use any more.
func (*loseReply) Cleanup(stub *toxics.ToxicStub) {
	if stub.State.(*hung).is {
		stub.Close()
	}
}

// Pipe implements [toxics.Toxic].
func (t *loseReply) Pipe(stub *toxics.ToxicStub) {
	connection := stub.State.(*hung)
	for {
		select {
		case <-stub.Interrupt:
			return
		case chunk := <-stub.Input:
			switch {
			case chunk == nil:
				stub.Close()
				return
			case connection.is: // lost too
			case !bytes.Contains(chunk.Data, commitReply) || rand.IntN(100) >= t.Percent:
				stub.Output <- chunk
			case t.Hang:
				connection.is = true
			default:
				stub.Close()
				return
			}
		}
	}
}

const loseReplyToxic = "lose_commit_reply"

func init() { toxics.Register(loseReplyToxic, new(loseReply)) }

// attributesOf makes the attributes of a toxic out of a step's parameters.
func attributesOf(arg string, n int) map[string]any {
	switch kind, _, _ := strings.Cut(arg, " "); kind {
	case "latency":
		return map[string]any{"latency": 5 + n%150, "jitter": n % 40}
	case "bandwidth":
		return map[string]any{"rate": 1 + n%8} // KB/s
	case "slicer":
		return map[string]any{"average_size": 8 + n%64, "size_variation": 4, "delay": 50}
	case "limit_data":
		return map[string]any{"bytes": 500 + 37*n}
	case loseReplyToxic:
		return map[string]any{"percent": 5 + n%60, "hang": strings.HasSuffix(arg, "hang")}
	}
	return nil // timeout (0: all is swallowed), reset_peer
}
