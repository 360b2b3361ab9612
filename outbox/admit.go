package outbox

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// maxArgs is the size of a request's arguments as JSON text, in bytes; lastseat.enqueue has the same.
const maxArgs = 64 << 10

// admit looks at each claimed job's key before any settler sees it. Almost every job is its request's own and the
// request is pending: nothing to do. The others came past lastseat.enqueue, straight into river_job, or were started
// again in River UI.
func (l *lane) admit(ctx context.Context, tx pgx.Tx, jobs []*claimed) error {
	var fresh, again []*claimed
	seen := make(map[string]*claimed)
	for _, c := range jobs {
		if _, known := l.kinds.byName[c.Kind]; !known {
			c.fate = unknown
		}
		own := c.request.jobID == c.ID
		if own && c.request.status == Pending {
			continue
		}
		if !c.usableKey || c.size > maxArgs {
			c.fate = invalid
		}
		first := seen[c.Key]
		switch {
		case own && c.request.status == Failed:
			again = append(again, c)
		case own:
			c.fate = duplicate
		case c.request.jobID != 0:
			c.fate = sameOrMisuse(c.request.fingerprint, c.fingerprint)
		case first != nil:
			c.fate = sameOrMisuse(first.fingerprint, c.fingerprint)
		default:
			seen[c.Key] = c
			fresh = append(fresh, c)
		}
	}
	if err := l.record(ctx, tx, fresh); err != nil {
		return err
	}
	return l.reopen(ctx, tx, again)
}

func sameOrMisuse(a, b []byte) fate {
	if bytes.Equal(a, b) {
		return duplicate
	}
	return misuse
}

const recordSQL = `
	INSERT INTO lastseat.requests (key, kind, fingerprint, job_id, requested_at)
	SELECT * FROM unnest(@keys::text[], @kinds::text[], @fingerprints::bytea[], @job_ids::bigint[], @times::timestamptz[])
	ON CONFLICT (key) DO NOTHING`

// record makes the request of each job that has none.
func (l *lane) record(ctx context.Context, tx pgx.Tx, jobs []*claimed) error {
	if len(jobs) == 0 {
		return nil
	}
	var keys, kinds []string
	var fingerprints [][]byte
	var ids []int64
	var times []time.Time
	for _, c := range jobs {
		keys, kinds, fingerprints = append(keys, c.Key), append(kinds, c.Kind), append(fingerprints, c.fingerprint)
		ids, times = append(ids, c.ID), append(times, c.createdAt)
	}
	recorded := int64(0)
	err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
		if _, err := savepoint.Exec(ctx, `SET LOCAL lock_timeout = '100ms'`); err != nil {
			return err
		}
		tag, err := savepoint.Exec(ctx, recordSQL, pgx.NamedArgs{
			"keys": keys, "kinds": kinds, "fingerprints": fingerprints, "job_ids": ids, "times": times,
		})
		recorded = tag.RowsAffected()
		if err == nil {
			_, err = savepoint.Exec(ctx, `SET LOCAL lock_timeout = '5s'`)
		}
		return err
	})
	switch {
	case sqlState(err) == stateLockTimeout:
		// A transaction that is still open asks for one of the keys. Whether it will commit nobody knows, and the others
		// of this batch need not wait for it.
		for _, c := range jobs {
			c.fate = postponed
		}
		return nil
	case err != nil:
		return fmt.Errorf("record requests: %w", err)
	case recorded != int64(len(jobs)):
		// Somebody asked for the same key since the claim. SERIALIZABLE reports it itself, as a conflict.
		return errRaced
	}
	return nil
}

const reopenSQL = `
	UPDATE lastseat.requests SET status = 'pending', code = NULL, detail = NULL, settled_at = NULL
	WHERE key = ANY (@keys) AND status = 'failed'`

// reopen takes up failed requests whose jobs were started again by hand: that is a retry.
func (l *lane) reopen(ctx context.Context, tx pgx.Tx, jobs []*claimed) error {
	if len(jobs) == 0 {
		return nil
	}
	keys := make([]string, len(jobs))
	for i, c := range jobs {
		keys[i] = c.Key
	}
	if _, err := tx.Exec(ctx, reopenSQL, pgx.NamedArgs{"keys": keys}); err != nil {
		return fmt.Errorf("reopen requests: %w", err)
	}
	return nil
}
