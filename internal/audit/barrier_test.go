package audit_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/outbox"
)

// gate is a connection of a lane that holds back the COMMIT of a batch. A lock would not do: the lane waits for one for
// a quarter of a second and settles anew.
type gate struct {
	net.Conn
	batch   func() bool   // whether the transaction that is to be committed has settled something
	reached chan struct{} // closed when it has
	opened  chan struct{} // closed by whoever lets it go on
}

func (g *gate) Write(message []byte) (int, error) {
	if bytes.Contains(message, []byte("commit\x00")) && g.batch() {
		select {
		case <-g.reached: // this batch was let go on
		default:
			close(g.reached)
			<-g.opened
		}
	}
	return g.Conn.Write(message)
}

// settling is a lane that has written its batch, and can't commit it before release is called.
func settling(t *testing.T, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	config := pool.Config()
	reached, opened := make(chan struct{}), make(chan struct{})
	batch := func() bool {
		return text(t, pool, `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND l.relation = 'lastseat.outcome_log'::regclass
			  AND l.mode = 'RowExclusiveLock'`) != "0"
	}
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &gate{Conn: conn, batch: batch, reached: reached, opened: opened}, err
	}
	lanes, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	open := sync.OnceFunc(func() { close(opened) })
	t.Cleanup(func() { open(); lanes.Close() })
	settled := make(chan error, 1)
	go func() { settled <- worker(lanes, outbox.Settings{}).Drain(context.WithoutCancel(t.Context())) }()
	<-reached
	return func() {
		t.Helper()
		open()
		if err := <-settled; err != nil {
			t.Error(err)
		}
	}
}
