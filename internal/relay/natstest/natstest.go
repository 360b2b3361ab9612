// Package natstest runs real NATS servers for tests, each as a process that can be killed.
package natstest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lastseat/lastseat/internal/clitest"
)

const configVariable = "LASTSEAT_TEST_NATS"

// Main is called first in TestMain: in a process that [Start] has started, it is the server, and does not return.
func Main() {
	file := os.Getenv(configVariable)
	if file == "" {
		return
	}
	options, err := server.ProcessConfigFile(file)
	if err == nil {
		options.NoSigs = true
		var s *server.Server
		if s, err = server.NewServer(options); err == nil {
			s.ConfigureLogger()
			s.Start()
			fmt.Println("started")
			_, _ = io.Copy(io.Discard, os.Stdin) // until the test is gone
			os.Exit(0)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Cluster is one server or several.
type Cluster struct {
	t       testing.TB
	dir     string
	Servers []*Server
}

// Server is one of them.
type Server struct {
	c                      *Cluster
	name                   string
	replaced               int    // how often: a server without its disk is another one, with another name
	client, route, monitor string // addresses
	sync                   string
	cmd                    *exec.Cmd
	stdin                  io.WriteCloser
}

// Start starts n servers with JetStream. sync is the value of sync_interval.
func Start(t testing.TB, n int, sync string) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "lastseat-nats-")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, dir: dir}
	t.Cleanup(func() {
		for _, s := range c.Servers {
			s.Kill()
		}
		if t.Failed() {
			keepLogs(t, dir)
		}
		_ = os.RemoveAll(dir)
	})
	for i := range n {
		c.Servers = append(c.Servers, &Server{
			c: c, name: fmt.Sprintf("n%d", i+1), sync: sync,
			client: clitest.FreeAddress(t), route: clitest.FreeAddress(t), monitor: clitest.FreeAddress(t),
		})
	}
	for _, s := range c.Servers {
		s.configure()
		s.Start()
	}
	return c
}

// keepLogs moves the servers' logs out of the directory of a test that has failed.
func keepLogs(t testing.TB, dir string) {
	t.Helper()
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	kept, err := os.MkdirTemp("", "lastseat-nats-logs-")
	for _, log := range logs {
		if err == nil {
			err = os.Rename(log, filepath.Join(kept, filepath.Base(log)))
		}
	}
	t.Logf("the logs of the NATS servers are in %s (%v)", kept, err)
}

func (s *Server) configure() {
	s.c.t.Helper()
	text := fmt.Sprintf("server_name: %s\nlisten: %q\nhttp: %q\nmax_payload: 64KB\nlogfile: %q\n"+
		"jetstream { store_dir: %q, sync_interval: %s, max_file_store: 2GB, max_memory_store: 64MB }\n",
		s.name, s.client, s.monitor, filepath.Join(s.c.dir, s.name+".log"), s.Store(), s.sync)
	if len(s.c.Servers) > 1 {
		text += "accounts { $SYS { users: [{user: system, password: system}] } }\n" // others need no password
		var routes []string
		for _, other := range s.c.Servers {
			routes = append(routes, fmt.Sprintf("%q", "nats://"+other.route))
		}
		text += fmt.Sprintf("cluster { name: lastseat, listen: %q, routes: [%s] }\n", s.route, strings.Join(routes, ", "))
	}
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		s.c.t.Fatal(err)
	}
}

func (s *Server) config() string { return filepath.Join(s.c.dir, s.name+".conf") }

// Store is the directory of its data.
func (s *Server) Store() string { return filepath.Join(s.c.dir, s.name) }

// Monitor is the URL of its monitoring port.
func (s *Server) Monitor() string { return "http://" + s.monitor }

// Start starts the server; again, if that fails.
func (s *Server) Start() {
	s.c.t.Helper()
	clitest.Eventually(s.c.t.(*testing.T), "the NATS server to start", s.start)
}

func (s *Server) start() bool {
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), configVariable+"="+s.config())
	s.cmd.Stderr = os.Stderr
	var err error
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		s.c.t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.c.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "started\n" {
		s.c.t.Logf("the NATS server says %q: %v", line, err)
		s.Kill()
		return false
	}
	return true
}

// Kill ends it with SIGKILL.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = s.stdin.Close()
}

// Replace has another server take the place of one that is down and whose disk is lost. It has another name: one that
// came back with the same name would vote as if it had what it has lost, and now and then such a cluster has no leader
// any more. The lost one is removed from the cluster, which puts the stream's third replica on the new one.
func (s *Server) Replace() {
	s.c.t.Helper()
	s.Wipe()
	gone := s.name
	s.replaced++
	s.name = fmt.Sprintf("%s-%d", strings.SplitN(gone, "-", 2)[0], s.replaced)
	s.configure()
	s.Start()
	clitest.Eventually(s.c.t.(*testing.T), "the new server to be a member", func() bool { return s.c.current(s.name) })
	clitest.Eventually(s.c.t.(*testing.T), "the lost server to be removed", func() bool {
		conn, err := nats.Connect("nats://"+s.client, nats.UserInfo("system", "system"))
		if err != nil {
			return false
		}
		defer conn.Close()
		answer, err := conn.Request("$JS.API.SERVER.REMOVE", fmt.Appendf(nil, `{"peer": %q}`, gone), time.Second)
		return err == nil && strings.Contains(string(answer.Data), `"success":true`)
	})
}

// members asks the leader of the meta group, which assigns streams to servers, for the other members.
func (c *Cluster) members() (others []*server.PeerInfo, ok bool) {
	for _, s := range c.Servers {
		if info, err := s.meta(); err == nil && info.Leader == s.name {
			return info.Replicas, true
		}
	}
	return nil, false
}

func (s *Server) meta() (server.MetaClusterInfo, error) {
	client := http.Client{Timeout: time.Second}
	answer, err := client.Get(s.Monitor() + "/jsz")
	if err != nil {
		return server.MetaClusterInfo{}, err
	}
	defer func() { _ = answer.Body.Close() }()
	var info struct {
		Meta server.MetaClusterInfo `json:"meta_cluster"`
	}
	err = json.NewDecoder(answer.Body).Decode(&info)
	return info.Meta, err
}

// current: the server is a member of the meta group, and has everything.
func (c *Cluster) current(name string) bool {
	others, _ := c.members()
	for _, other := range others {
		if other.Name == name {
			return other.Current && !other.Offline && other.Lag == 0
		}
	}
	return false
}

// Wipe deletes the data of a server that is down.
func (s *Server) Wipe() {
	s.c.t.Helper()
	if err := os.RemoveAll(s.Store()); err != nil {
		s.c.t.Fatal(err)
	}
}

// URL is what a relay is given, with the options.
func (c *Cluster) URL(options string) string {
	parts := []string{"nats://" + c.Servers[0].client + "#" + options}
	for _, s := range c.Servers[1:] {
		parts = append(parts, s.client)
	}
	return strings.Join(parts, "&server=")
}

// JetStream connects to the cluster.
func (c *Cluster) JetStream() jetstream.JetStream {
	c.t.Helper()
	var urls []string
	for _, s := range c.Servers {
		urls = append(urls, "nats://"+s.client)
	}
	conn, err := nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.RetryOnFailedConnect(true))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		c.t.Fatal(err)
	}
	return js
}

// Stream waits until the cluster is up, and makes a stream.
func (c *Cluster) Stream(config jetstream.StreamConfig) jetstream.Stream {
	c.t.Helper()
	js := c.JetStream()
	config.Replicas = len(c.Servers)
	var stream jetstream.Stream
	clitest.Eventually(c.t.(*testing.T), "the stream to be made", func() (ok bool) {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		var err error
		stream, err = js.CreateOrUpdateStream(ctx, config)
		return err == nil
	})
	return stream
}

// Whole waits until every replica of the stream has everything, and every server what the meta group has.
func (c *Cluster) Whole(stream jetstream.Stream) {
	c.t.Helper()
	clitest.Eventually(c.t.(*testing.T), "the replicas to catch up", func() bool { return c.whole(stream) })
}

func (c *Cluster) whole(stream jetstream.Stream) bool {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil || info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != len(c.Servers)-1 {
		return false
	}
	for _, replica := range info.Cluster.Replicas {
		if !replica.Current || replica.Offline || replica.Lag > 0 {
			return false
		}
	}
	others, ok := c.members()
	if !ok || len(others) != len(c.Servers)-1 {
		return false
	}
	for _, other := range others {
		if !other.Current || other.Offline || other.Lag > 0 {
			return false
		}
	}
	return true
}

// Read returns all messages of a stream, in its order.
func (c *Cluster) Read(stream jetstream.Stream) []jetstream.Msg {
	c.t.Helper()
	var all []jetstream.Msg
	clitest.Eventually(c.t.(*testing.T), "the stream to be read", func() bool { // there may be an election just now
		var err error
		all, err = read(c.t.Context(), stream)
		return err == nil
	})
	return all
}

func read(ctx context.Context, stream jetstream.Stream) ([]jetstream.Msg, error) {
	info, err := stream.Info(ctx)
	if err != nil || info.State.Msgs == 0 {
		return nil, err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, err
	}
	defer messages.Stop()
	var all []jetstream.Msg
	for range info.State.Msgs {
		message, err := messages.Next()
		if err != nil {
			return nil, err
		}
		all = append(all, message)
	}
	return all, nil
}
