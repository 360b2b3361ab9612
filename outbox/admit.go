package outbox

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/retry"
)

// maxArgs is the size of a request's arguments as JSON text, in bytes; lastseat.enqueue has the same.
const maxArgs = 64 << 10

// admit decides what is to become of each claimed job before any settler sees it. Almost every job is its request's
// own, and the request is pending: then there is nothing to do. The others were inserted straight into river_job,
// bypassing lastseat.enqueue, or were started again in River UI.
func (b *batch) admit(ctx context.Context) error {
	var fresh, again []*claimed
	first := make(map[string]*claimed) // of the fresh ones, by key
	for _, c := range b.jobs {
		own := c.request.jobID == c.ID
		if c.admitProbe(own) || own && c.admitPending() {
			continue
		}
		if !c.usableKey || c.size > maxArgs {
			c.fate = invalid
		}
		switch before := first[c.Key]; {
		case own && c.startsAgain():
			again = append(again, c)
		case own: // startsAgain has decided
		case c.request.jobID != 0:
			c.fate = sameOrMisuse(c.request.fingerprint, c.fingerprint)
		case before != nil:
			c.fate = sameOrMisuse(before.fingerprint, c.fingerprint)
		default:
			first[c.Key] = c
			fresh = append(fresh, c)
		}
	}
	if err := b.record(ctx, fresh); err != nil {
		return err
	}
	if err := b.reopen(ctx, again); err != nil {
		return err
	}
	return b.admitCalls(ctx)
}

// admitPending lets the job of a pending request go on to its settler, unless its arguments were changed since it was
// asked for. It tells whether the request is pending.
func (c *claimed) admitPending() bool {
	if c.request.status != Pending {
		return false
	}
	if !c.asAsked() {
		c.fate = changed
	}
	return true
}

// startsAgain tells whether the job of a settled request is to run again: the request has failed, and its arguments are
// still those that were asked for.
func (c *claimed) startsAgain() bool {
	switch {
	case c.request.status != Failed:
		c.fate = duplicate
	case !c.asAsked():
		c.fate = misuse
	default:
		return true
	}
	return false
}

func sameOrMisuse(a, b []byte) fate {
	if bytes.Equal(a, b) {
		return duplicate
	}
	return misuse
}

const recordSQL = `
	INSERT INTO lastseat.requests (key, kind, fingerprint, spelled, job_id, requested_at)
	SELECT * FROM unnest(@keys::text[], @kinds::text[], @fingerprints::bytea[], @spelled::bytea[],
	                     @job_ids::bigint[], @times::timestamptz[])
	ON CONFLICT (key) DO NOTHING`

// record makes the request of each job that has none.
func (b *batch) record(ctx context.Context, jobs []*claimed) error {
	if len(jobs) == 0 {
		return nil
	}
	recorded, err := b.insertRequests(ctx, jobs)
	switch {
	case retry.SQLState(err) == stateLockTimeout:
		// An open transaction is asking for one of the keys, and may still roll back. The other jobs of this batch need not
		// wait for it.
		for _, c := range jobs {
			c.fate = postponed
		}
		return nil
	case err != nil:
		return fmt.Errorf("record requests: %w", err)
	case recorded != int64(len(jobs)):
		// Another session asked for the same key after the claim. SERIALIZABLE reports that itself, as a conflict.
		return errRaced
	}
	return nil
}

// insertRequests inserts under a savepoint, because it must not wait long for an open transaction with one of the
// keys.
func (b *batch) insertRequests(ctx context.Context, jobs []*claimed) (inserted int64, err error) {
	var keys, kinds []string
	var fingerprints, spelled [][]byte
	var ids []int64
	var times []time.Time
	for _, c := range jobs {
		keys, kinds, fingerprints = append(keys, c.Key), append(kinds, c.Kind), append(fingerprints, c.fingerprint)
		ids, times = append(ids, c.ID), append(times, c.createdAt)
		sum := spelling(c.Kind, c.Args)
		if bytes.Equal(sum[:], c.fingerprint) {
			spelled = append(spelled, nil)
		} else {
			spelled = append(spelled, sum[:])
		}
	}
	err = pgx.BeginFunc(ctx, b.tx, func(savepoint pgx.Tx) error {
		if _, err := savepoint.Exec(ctx, `SET LOCAL lock_timeout = '100ms'`); err != nil {
			return err
		}
		tag, err := savepoint.Exec(ctx, recordSQL, pgx.NamedArgs{
			"keys": keys, "kinds": kinds, "fingerprints": fingerprints, "spelled": spelled, "job_ids": ids, "times": times,
		})
		if err != nil {
			return err
		}
		inserted = tag.RowsAffected()
		_, err = savepoint.Exec(ctx, `SET LOCAL lock_timeout = '250ms'`)
		return err
	})
	return inserted, err
}

const reopenSQL = `
	UPDATE lastseat.requests SET status = 'pending', code = NULL, detail = NULL, settled_at = NULL
	WHERE key = ANY (@keys) AND status = 'failed'`

// reopen makes failed requests pending again whose jobs were started again by hand: that counts as a retry.
func (b *batch) reopen(ctx context.Context, jobs []*claimed) error {
	if len(jobs) == 0 {
		return nil
	}
	keys := make([]string, len(jobs))
	for i, c := range jobs {
		keys[i] = c.Key
		b.noteReopened(c)
	}
	if _, err := b.tx.Exec(ctx, reopenSQL, pgx.NamedArgs{"keys": keys}); err != nil {
		return fmt.Errorf("reopen requests: %w", err)
	}
	return nil
}
