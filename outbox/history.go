package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/history"
)

// What a transaction of the lane settles is noted as links of the lane's chain, in the same commit
// (docs/decisions/014-history.md).

// chain is the end of a chain of lastseat.history. Only the holder of the lane adds to it, so the lane reads the end
// once and keeps it. It is not read in the transaction: at SERIALIZABLE that would be a conflict with every other lane,
// for their chains share pages of the index.
type chain struct {
	name string
	head *history.Head // nil: not read
	next history.Head  // what it is if the transaction in hand is committed
}

func newChain(settings Settings, number int) *chain {
	return &chain{name: fmt.Sprintf("%s %d/%d", settings.Queue, number, settings.Lanes)}
}

// forget has the end read again: another worker may have added to the chain, or a commit have been lost.
func (c *chain) forget() { c.head = nil }

const headSQL = `SELECT number, hash FROM lastseat.history WHERE chain = $1 ORDER BY number DESC LIMIT 1`

func (c *chain) read(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) error {
	if c.head != nil {
		return nil
	}
	// After a failover or a restore, a timeline of the outcomes begins here, in a transaction of its own: who begins it
	// makes all others that settle wait for the end of the transaction.
	if err := db.QueryRow(ctx, `SELECT lastseat.current_timeline()`).Scan(nil); err != nil {
		return fmt.Errorf("look up the timeline: %w", err)
	}
	head := &history.Head{}
	err := db.QueryRow(ctx, headSQL, c.name).Scan(&head.Number, &head.Hash)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read the end of the history: %w", err)
	}
	c.head = head
	return nil
}

// linksAtOnce is how many links a statement adds at most. A batch has one or two as a rule, and one for each row where
// tables alternate: a statement for any number of them would have too many parameters, and fill the statement cache.
const linksAtOnce = 4

// addLinksSQL adds n links.
//
// ON CONFLICT: another session has added to the chain since its end was read. The transaction runs again, after reading
// it anew.
func addLinksSQL(n int) string {
	values := make([]string, n)
	for i := range values {
		at := 7 * i
		values[i] = fmt.Sprintf("($%d, $%d, $%d, $%d, $%d, $%d, $%d)", at+1, at+2, at+3, at+4, at+5, at+6, at+7)
	}
	return `
	INSERT INTO lastseat.history (chain, number, at, relation, keys, digests, hash)
	VALUES ` + strings.Join(values, ", ") + `
	ON CONFLICT (chain, number) DO NOTHING`
}

// write adds what the log has to the chain. It is the last thing that a transaction does.
func (c *chain) write(ctx context.Context, tx pgx.Tx, log *history.Log, at time.Time) error {
	batch := &pgx.Batch{}
	if c.queue(batch, log, at); batch.Len() == 0 {
		return nil
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("add to the history: %w", err)
	}
	return nil
}

// queue is write without a round trip of its own, as the last of what is written. It may be called again for what came
// to the log since.
func (c *chain) queue(write *pgx.Batch, log *history.Log, at time.Time) {
	if c.head != nil {
		c.next = *c.head
	}
	if log.Empty() {
		return
	}
	c.forget() // unless it is committed
	links, hashes, end := log.Take(c.name, at, c.next)
	for some := range slices.Chunk(links, linksAtOnce) {
		var args []any
		for _, link := range some {
			args = append(args, link.Chain, link.Number, link.At, link.Relation, link.Keys, link.Digests, hashes[0])
			hashes = hashes[1:]
		}
		write.Queue(addLinksSQL(len(some)), args...).Exec(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() != int64(len(some)) {
				return errRaced
			}
			return nil
		})
	}
	c.next = end
}

// committed: the transaction in hand was committed.
func (c *chain) committed() {
	head := c.next
	c.head = &head
}

// noteOutcome notes the outcome of a job's request.
func (b *batch) noteOutcome(c *claimed, result Result, detail *string) {
	q := c.noted()
	q.Status, q.Code, q.Attempts, q.SettledAt = string(result.Status), result.Code, c.Attempt, c.now
	if detail != nil {
		q.Detail = []byte(*detail)
	}
	b.history.Request(q)
}

// noteReopened notes that a failed request is pending again.
func (b *batch) noteReopened(c *claimed) {
	q := c.noted()
	q.Status = history.Pending
	b.history.Request(q)
}

// noted is what does not change of a job's request.
func (c *claimed) noted() *history.Request {
	q := &history.Request{
		Key: c.Key, Kind: c.Kind, JobID: c.ID, Fingerprint: c.fingerprint, RequestedAt: c.createdAt,
	}
	if c.request.requestedAt != nil {
		q.Fingerprint, q.RequestedAt = c.request.fingerprint, *c.request.requestedAt
	}
	return q
}

// noteExhausted notes a request that has failed for good. rows is empty if it was settled otherwise.
func (b *batch) noteExhausted(c *claimed, code string, rows pgx.Rows) error {
	q := &history.Request{Key: c.Key, Status: string(Failed), Code: code, Attempts: c.Attempt}
	var detail string
	_, err := pgx.ForEachRow(rows,
		[]any{&q.Kind, &q.Fingerprint, &q.JobID, &q.RequestedAt, &detail, &q.SettledAt}, func() error {
			q.Detail = []byte(detail)
			b.history.Request(q)
			return nil
		})
	return err
}

// adopter takes into the history what was defined, cancelled or retried outside the lane. Its chain is the same for all
// queues, so that the changes of one row stay in order.
type adopter struct{}

const changesChain = "changes"

const adoptSQL = `
	WITH waiting AS MATERIALIZED (
		SELECT w.number FROM lastseat.history_waiting w ORDER BY w.number LIMIT $1
	), adopted AS (
		DELETE FROM lastseat.history_waiting w WHERE w.number IN (SELECT number FROM waiting)
		RETURNING w.number, w.relation, w.key, w.columns
	)
	SELECT relation, key, columns FROM adopted ORDER BY number`

// Settle is not called: adopter has no kinds.
func (adopter) Settle(context.Context, pgx.Tx, Batch) ([]Result, error) { return nil, nil }

// Sweep implements [Sweeper].
func (adopter) Sweep(ctx context.Context, tx pgx.Tx, sweep Sweep) (swept int, more bool, err error) {
	if sweep.Lane > 0 {
		return 0, false, nil
	}
	rows, err := tx.Query(ctx, adoptSQL, sweep.Limit)
	if err != nil {
		return 0, false, fmt.Errorf("look for changes: %w", err)
	}
	log := &history.Log{}
	var relation, key string
	var columns []*string
	_, err = pgx.ForEachRow(rows, []any{&relation, &key, &columns}, func() error {
		swept++
		if relation != history.Requests {
			log.Add(relation, key, history.Texts(columns))
			return nil
		}
		request, err := history.ParseRequest(columns)
		if err == nil {
			log.Request(request)
		}
		return err
	})
	if err != nil || swept == 0 {
		return 0, false, err
	}
	changes := &chain{name: changesChain}
	if err := changes.read(ctx, tx); err != nil {
		return 0, false, err
	}
	return swept, swept >= sweep.Limit, changes.write(ctx, tx, log, sweep.Now)
}
