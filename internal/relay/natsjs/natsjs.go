// Package natsjs delivers outcomes to a stream of NATS JetStream.
//
// Every message has the event's id as Nats-Msg-Id, and names the sequence of the message before it
// (Nats-Expected-Last-Sequence). So a batch is sent without waiting for each acknowledgement, and yet the stream takes
// no message whose predecessor it has not: if one is lost on the way, those behind it are refused and sent again. A
// relay that was taken over can't write behind the back of the next one for the same reason. The price is that the
// stream is the relay's own: a message of somebody else's makes the relay look anew where the stream ends.
//
// The id of the message before it (Nats-Expected-Last-Msg-Id) would say more, but nats-server 2.15.3 can't replicate
// it: every replica compares the id again, and one that has just caught up does not know the last id. It then refuses
// the next message, and applies none until it is restarted.
package natsjs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/retry"
)

const (
	batch       = 500
	longestWait = 10 * time.Second
	ackTimeout  = 10 * time.Second
	connectWait = 3 * time.Second
	headerRoom  = 2 << 10 // of a message's greatest size, for the headers
)

// Sink is a stream.
type Sink struct {
	conn     *nats.Conn
	js       jetstream.JetStream
	stream   string
	subject  string
	replicas int
	log      *slog.Logger

	synced bool
	end    end
	limit  int // of a body; 0: none but the server's
}

// end is how a stream ends: with the message of this id, or, where that is not known, this sequence.
type end struct {
	id       string
	sequence uint64
}

// New reads the options of a target, and begins to connect. The server may be down.
//
//   - stream: its name; default LASTSEAT. subject: what subjects begin with; default lastseat.
//   - replicas: make the stream, with so many, if it is missing.
//   - server: another server of the cluster. creds: a file with credentials. monitor: see [CheckSync].
func New(target relay.Target, logger *slog.Logger) (*Sink, error) {
	s := &Sink{
		stream:  cmp.Or(target.Options.Get("stream"), "LASTSEAT"),
		subject: cmp.Or(target.Options.Get("subject"), "lastseat"),
		log:     logger.With(slog.String("relay", target.Name)),
	}
	var err error
	if s.replicas, err = target.Number("replicas", 5); err != nil {
		return nil, err
	}
	if strings.ContainsAny(s.stream, " .*>/\\") || token(s.subject) != s.subject {
		return nil, errors.New("stream is a name without dots and spaces, and subject without wildcards")
	}
	var servers []string
	for _, server := range target.Servers("4222") {
		servers = append(servers, (&url.URL{Scheme: target.URL.Scheme, Host: server}).String())
	}
	options := []nats.Option{
		nats.Name("lastseat relay"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond), nats.Timeout(5 * time.Second), nats.PingInterval(10 * time.Second),
		nats.ReconnectBufSize(-1), // what can't be sent now fails now
	}
	if user := target.URL.User; user != nil {
		if password, ok := user.Password(); ok {
			options = append(options, nats.UserInfo(user.Username(), password))
		} else {
			options = append(options, nats.Token(user.Username()))
		}
	}
	if file := target.Options.Get("creds"); file != "" {
		options = append(options, nats.UserCredentials(file))
	}
	if s.conn, err = nats.Connect(strings.Join(servers, ","), options...); err != nil {
		return nil, err
	}
	s.js, err = jetstream.New(s.conn, jetstream.WithPublishAsyncMaxPending(batch),
		jetstream.WithPublishAsyncTimeout(ackTimeout), jetstream.WithDefaultTimeout(5*time.Second))
	return s, err
}

// Limits implements [relay.Sink].
func (s *Sink) Limits() relay.Limits { return relay.Limits{Batch: batch, Backoff: longestWait} }

// Close implements [relay.Sink].
func (s *Sink) Close() { s.conn.Close() }

// Deliver implements [relay.Sink].
func (s *Sink) Deliver(ctx context.Context, after string, events []relay.Event) (int, error) {
	if err := s.connected(ctx); err != nil {
		return 0, err
	}
	have := 0
	if !s.synced {
		var err error
		if have, err = s.sync(ctx, after, events); err != nil {
			return 0, err
		}
	}
	acked, err := s.publish(ctx, events[have:])
	if err != nil {
		s.synced = false
	}
	return have + acked, err
}

// connected waits a moment for the connection, which is made in the background.
func (s *Sink) connected(ctx context.Context) error {
	for end := time.Now().Add(connectWait); !s.conn.IsConnected(); {
		if time.Now().After(end) || retry.Sleep(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("not connected: %w", cmp.Or(s.conn.LastError(), nats.ErrNoServers))
		}
	}
	return nil
}

// sync looks where the stream ends, and returns how many of the events it has already: those whose acknowledgement did
// not arrive, or was not noted before the relay was killed.
func (s *Sink) sync(ctx context.Context, after string, events []relay.Event) (have int, err error) {
	stream, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	info := stream.CachedInfo()
	s.end = end{sequence: info.State.LastSeq}
	s.limit = int(s.conn.MaxPayload()) - headerRoom
	if most := int(info.Config.MaxMsgSize); most > 0 {
		s.limit = min(s.limit, most-headerRoom)
	}
	if s.end.sequence > 0 {
		last, err := stream.GetMsg(ctx, s.end.sequence)
		switch {
		case err == nil:
			s.end.id = last.Header.Get(nats.MsgIdHdr)
		case !errors.Is(err, jetstream.ErrMsgNotFound): // it may have been taken away: by a limit, a purge
			return 0, fmt.Errorf("read the last message of the stream %s: %w", s.stream, err)
		}
	}
	for i := range events {
		if events[i].ID == s.end.id {
			have = i + 1
		}
	}
	if have == 0 {
		if err := s.lost(after); err != nil {
			return 0, err
		}
	}
	s.synced = true
	return have, nil
}

// lost tells whether the stream lacks what it had acknowledged.
func (s *Sink) lost(after string) error {
	if !relay.Acknowledged(after) {
		return nil
	}
	if s.end.sequence == 0 {
		return errors.New("the stream is empty, although it had acknowledged outcomes: to send all of them again, " +
			"worker relay replay NAME --from beginning; to go on without them, --from now, or --since TIME")
	}
	if last := relay.CursorOf(s.end.id); last != "" && relay.Before(last, after) {
		return &relay.BehindError{Cursor: last}
	}
	return nil
}

func (s *Sink) open(ctx context.Context) (jetstream.Stream, error) {
	stream, err := s.js.Stream(ctx, s.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) && s.replicas > 0 {
		stream, err = s.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: s.stream, Subjects: []string{s.subject + ".>"}, Storage: jetstream.FileStorage, Replicas: s.replicas,
		})
		if err == nil {
			s.log.InfoContext(ctx, "the stream was made", slog.String("stream", s.stream))
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("there is no stream %s: make one with the subjects %s.>, or have the relay make it with "+
			"replicas=3", s.stream, s.subject)
	case err != nil:
		return nil, fmt.Errorf("look up the stream %s: %w", s.stream, err)
	}
	return stream, nil
}

// publish sends events, each chained to the one before it, and returns how many were acknowledged.
func (s *Sink) publish(ctx context.Context, events []relay.Event) (int, error) {
	sent := make([]jetstream.PubAckFuture, 0, len(events))
	var failed error
	at := s.end.sequence
	for _, event := range events {
		future, err := s.send(event, at)
		if err != nil {
			failed = err
			break
		}
		sent = append(sent, future)
		at++
	}
	for i, future := range sent {
		select {
		case ack := <-future.Ok():
			s.end = end{id: events[i].ID, sequence: ack.Sequence}
		case err := <-future.Err():
			return i, s.explain(err)
		case <-ctx.Done():
			return i, ctx.Err()
		}
	}
	return len(sent), failed
}

func (s *Sink) send(event relay.Event, after uint64) (jetstream.PubAckFuture, error) {
	event, err := event.Within(s.limit)
	if err != nil {
		return nil, err
	}
	code := strings.ReplaceAll(token(event.Outcome.Code), ".", "_")
	message := nats.NewMsg(s.subject + "." + token(event.Outcome.Kind) + "." + code)
	message.Data = event.Body
	message.Header.Set("Content-Type", relay.ContentType)
	options := []jetstream.PublishOpt{
		jetstream.WithMsgID(event.ID), jetstream.WithExpectStream(s.stream), jetstream.WithRetryAttempts(0),
		jetstream.WithExpectLastSequence(after),
	}
	return s.js.PublishMsgAsync(message, options...)
}

// explain names the stream, and what to do where somebody has to.
func (s *Sink) explain(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("no stream takes the subject %s.>, or it has no leader: %w", s.subject, err)
	case errors.Is(err, jetstream.ErrAsyncPublishTimeout):
		return fmt.Errorf("the stream %s did not acknowledge within %v", s.stream, ackTimeout)
	}
	return fmt.Errorf("the stream %s: %w", s.stream, err)
}

// token makes a kind or a code a part of a subject. Names of kinds may have any characters.
func token(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		parts[i] = strings.Map(func(r rune) rune {
			if r <= ' ' || r == '*' || r == '>' || r == 0x7f {
				return '_'
			}
			return r
		}, part)
		if part == "" {
			parts[i] = "_"
		}
	}
	return strings.Join(parts, ".")
}
