package history

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// RequestColumns are the columns of a row r of requests, as [ScanRequest] reads them.
const RequestColumns = `r.key, r.kind, r.fingerprint, r.job_id, r.requested_at, r.status, coalesce(r.code, ''),
	r.detail::text, r.attempts, r.settled_at`

// ScanRequest reads a row of requests; more are the destinations of the columns that follow.
func ScanRequest(rows pgx.Rows, more ...any) (*Request, error) {
	q := &Request{}
	var settledAt *time.Time
	into := []any{&q.Key, &q.Kind, &q.Fingerprint, &q.JobID, &q.RequestedAt, &q.Status, &q.Code, &q.Detail,
		&q.Attempts, &settledAt}
	err := rows.Scan(append(into, more...)...)
	if settledAt != nil {
		q.SettledAt = *settledAt
	}
	return q, err
}
