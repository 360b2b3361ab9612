package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// network is what lies between the programs and Postgres.
type network struct {
	workers, clients *proxy
	side             *proxy // of those who look on: nothing is done to it
	standby          *proxy // between a standby and its primary
}

// proxy is one of toxiproxy's, which may be led to another port.
type proxy struct {
	*toxiproxy.Proxy
	address string // where it listens
	second  *proxy // the second host of the same address: it leads to a standby that was promoted, or nowhere

	mu     sync.Mutex
	server string // where it leads without a pooler
	pooler string // where it leads instead, if anywhere
}

// startProxy starts a proxy below the ports that the kernel gives to whoever asks for any: nobody else is given its
// port while it refuses connections.
func startProxy(api *toxiproxy.ApiServer, name, upstream string) (p *proxy, err error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		p = &proxy{address: address, server: upstream, Proxy: toxiproxy.NewProxy(api, name, address, upstream)}
		if err = p.Start(); !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return p, err
}

func newNetwork(upstream string) (*network, error) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics bring a logger of their own
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &network{}
	for name, p := range map[string]**proxy{
		"workers": &n.workers, "clients": &n.clients, "side": &n.side, "standby": &n.standby,
	} {
		var err error
		if *p, err = startProxy(api, name, upstream); err != nil {
			return nil, err
		}
	}
	for _, p := range []*proxy{n.workers, n.clients} {
		var err error
		if p.second, err = startProxy(api, p.Name+" 2", upstream); err != nil {
			return nil, err
		}
		if err := p.second.set("", false); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *network) close() {
	for _, p := range []*proxy{n.workers, n.clients, n.side, n.standby} {
		if p != nil {
			if p.Stop(); p.second != nil {
				p.second.Stop()
			}
		}
	}
}

// lead leads all proxies to a server that has come back elsewhere.
func (n *network) lead(upstream string) error { return n.moveTo(upstream, false) }

// moveTo leads all proxies to another server. The programs find it at the second host of their address, or at the
// first.
func (n *network) moveTo(upstream string, second bool) error {
	err := n.side.set(upstream, true)
	for _, p := range []*proxy{n.workers, n.clients} {
		err = errors.Join(err, p.set(upstream, !second), p.second.set(upstream, second))
	}
	return err
}

// set leads the proxy to a server (empty: where it leads), or has it refuse connections.
func (p *proxy) set(server string, enabled bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if server != "" {
		p.server = server
	}
	return p.update(enabled)
}

// through leads the proxy to a pooler, or to the server again; either way all connections end.
func (p *proxy) through(pooler string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pooler = pooler
	return errors.Join(p.update(false), p.update(true))
}

func (p *proxy) update(enabled bool) error {
	upstream := p.server
	if p.pooler != "" {
		upstream = p.pooler
	}
	return p.Update(&toxiproxy.Proxy{Listen: p.address, Upstream: upstream, Enabled: enabled})
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
