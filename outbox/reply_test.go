package outbox_test

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lastseat/lastseat/outbox"
)

// swallower swallows what is said on the lane's connection from a certain message on, while the connection stays up.
// River's are left alone: pgx takes 15 s to close one that does not answer, and the worker's end would wait for it.
type swallower struct {
	net.Conn
	text string
	left *atomic.Int32 // messages with the text until it begins
	lane atomic.Bool
	mute atomic.Bool
}

func (s *swallower) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("lastseat lane")) { // its name, when it connects
		s.lane.Store(true)
	}
	if s.lane.Load() && bytes.Contains(p, []byte(s.text)) && s.left.Add(-1) == 0 {
		s.mute.Store(true)
	}
	if s.mute.Load() {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

// A connection that swallows bytes at any moment of a batch: the worker gives it up, ends the session that it had,
// and goes on.
func TestConnectionThatSwallowsBytes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"commit\x00", "begin", "public.toy"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			inBothForms(t, func(t *testing.T, b *bench) {
				text := text
				if text == "public.toy" && strings.HasSuffix(t.Name(), "handler") {
					text = "CLOSE lastseat_guard" // its own statement would be the handler's doing
				}
				var left atomic.Int32
				left.Store(1)
				want := numbered("k", 30)
				b.enqueue(want...)
				mute := *b
				mute.workers = wrappedPool(b, func(conn net.Conn) net.Conn {
					return &swallower{Conn: conn, text: text, left: &left}
				})
				mute.start(outbox.Settings{Batch: 10, Poll: 100 * time.Millisecond, ReplyLimit: 400 * time.Millisecond})
				b.eventually("all are played", func() bool { return len(b.played()) == len(want) })
				if left.Load() > 0 {
					t.Error("nothing was swallowed")
				}
				if got := b.played(); !slices.Equal(got, want) {
					t.Errorf("played %v: each once, in order", got)
				}
			})
		})
	}
}
