package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Lease is how long a relay that shows no sign of life keeps its row. It is a courtesy and no fence: whoever takes the
// row raises its epoch, and nothing that an earlier holder does can move the cursor after that.
const Lease = 15 * time.Second

// errFenced says that another relay, or worker relay replay, has the row.
var errFenced = errors.New("another relay has taken over, or its cursor was set")

// held is the row of the relay as its holder knows it.
type held struct {
	epoch    int64
	cursor   string
	failures int
	retryIn  time.Duration // what is left of the wait after a failure
}

const (
	createSQL = `
	INSERT INTO lastseat.relays (name, cursor)
	SELECT @name, CASE WHEN @now THEN lastseat.outcomes_cursor() ELSE '' END
	ON CONFLICT (name) DO NOTHING`

	// The holder's sessions bear its name: once all are gone, it is dead, and nobody waits for the lease.
	claimSQL = `
	UPDATE lastseat.relays r
	SET epoch = r.epoch + 1, holder = @holder, seen_at = clock_timestamp()
	WHERE r.name = @name AND r.disabled_at IS NULL
	  AND (r.holder IS NULL OR r.holder = @holder OR r.seen_at < clock_timestamp() - @lease::interval
	       OR NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.application_name = @prefix || r.holder))
	RETURNING r.epoch, r.cursor, r.failures,
	          coalesce(extract(epoch FROM r.retry_at - clock_timestamp()), 0)::float8`

	whySQL = `SELECT coalesce(disabled_because, ''), coalesce(holder, '') FROM lastseat.relays WHERE name = $1`

	touchSQL = `UPDATE lastseat.relays SET seen_at = clock_timestamp() WHERE name = $1 AND epoch = $2`

	advanceSQL = `
	UPDATE lastseat.relays
	SET cursor = @new, delivered = delivered + @n, delivered_at = clock_timestamp(), seen_at = clock_timestamp(),
	    failures = 0, failing_since = NULL, retry_at = NULL
	WHERE name = @name AND epoch = @epoch AND cursor = @old`

	failSQL = `
	UPDATE lastseat.relays
	SET failures = failures + 1, failing_since = coalesce(failing_since, clock_timestamp()),
	    failed_at = clock_timestamp(), last_error = @error, retry_at = clock_timestamp() + @wait::interval,
	    seen_at = clock_timestamp(),
	    disabled_at = CASE WHEN @gone OR clock_timestamp() - failing_since > @give_up::interval
	                       THEN clock_timestamp() END,
	    disabled_because = CASE WHEN @gone THEN @error
	                            WHEN clock_timestamp() - failing_since > @give_up::interval
	                            THEN format('it has failed since %s, at last: %s', failing_since, @error::text) END
	WHERE name = @name AND epoch = @epoch
	RETURNING failures, coalesce(disabled_because, '')`

	leaveSQL = `UPDATE lastseat.relays SET holder = NULL WHERE name = $1 AND epoch = $2`
)

// SessionPrefix stands before the holder's name in the application_name of its sessions.
const SessionPrefix = "lastseat relay "

func (r *Relay) create(ctx context.Context) error {
	_, err := r.db.Exec(ctx, createSQL, pgx.NamedArgs{"name": r.target.Name, "now": r.target.FromNow()})
	return err
}

// claim takes the row. Without one, why says who has it, or why the target is disabled.
func (r *Relay) claim(ctx context.Context) (h *held, why reason, err error) {
	if err := r.create(ctx); err != nil {
		return nil, reason{}, fmt.Errorf("take the relay's row: %w", err)
	}
	h = &held{}
	var wait float64
	err = r.db.QueryRow(ctx, claimSQL, pgx.NamedArgs{
		"name": r.target.Name, "holder": r.holder, "lease": Lease, "prefix": SessionPrefix,
	}).Scan(&h.epoch, &h.cursor, &h.failures, &wait)
	h.retryIn = time.Duration(wait * float64(time.Second))
	if errors.Is(err, pgx.ErrNoRows) {
		h = nil
		err = r.db.QueryRow(ctx, whySQL, r.target.Name).Scan(&why.disabled, &why.holder)
	}
	if err != nil {
		return nil, why, fmt.Errorf("take the relay's row: %w", err)
	}
	return h, why, nil
}

// reason is why a relay does not have its row.
type reason struct{ disabled, holder string }

// touch says that the holder is alive.
func (r *Relay) touch(ctx context.Context, h *held) error {
	tag, err := r.db.Exec(ctx, touchSQL, r.target.Name, h.epoch)
	if err == nil && tag.RowsAffected() == 0 {
		return errFenced
	}
	return err
}

// advance moves the cursor over n events that were acknowledged.
func (r *Relay) advance(ctx context.Context, h *held, to string, n int) error {
	tag, err := r.db.Exec(ctx, advanceSQL, pgx.NamedArgs{
		"name": r.target.Name, "epoch": h.epoch, "old": h.cursor, "new": to, "n": n,
	})
	switch {
	case err != nil:
		return fmt.Errorf("move the cursor: %w", err)
	case tag.RowsAffected() == 0:
		return errFenced
	}
	h.cursor, h.failures = to, 0
	return nil
}

// noteFailure writes a failure down. disabled says why the target gets no more; empty: it is tried again.
func (r *Relay) noteFailure(
	ctx context.Context, h *held, failed error, wait time.Duration,
) (disabled string, err error) {
	gone := errors.As(failed, new(*GoneError))
	giveUp := r.limits.GiveUp
	if giveUp == 0 {
		giveUp = 100 * 365 * 24 * time.Hour
	}
	err = r.db.QueryRow(ctx, failSQL, pgx.NamedArgs{
		"name": r.target.Name, "epoch": h.epoch, "error": clip(failed.Error()), "wait": wait, "gone": gone,
		"give_up": giveUp,
	}).Scan(&h.failures, &disabled)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", errFenced
	}
	return disabled, err
}

func (r *Relay) leave(ctx context.Context, h *held) {
	_, _ = r.db.Exec(ctx, leaveSQL, r.target.Name, h.epoch) // the next one sees that our sessions are gone
}

// clip keeps an error short, and without a NUL byte, which text can't hold.
func clip(text string) string {
	const most = 500
	clean := make([]rune, 0, len(text))
	for _, char := range text {
		if char != 0 && len(clean) < most {
			clean = append(clean, char)
		}
	}
	return string(clean)
}
