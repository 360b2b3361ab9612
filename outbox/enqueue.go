package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Args are a request's arguments: a struct that encodes to a JSON object and names its kind. River's JobArgs have the
// same shape.
type Args interface {
	Kind() string
}

// Queued are the arguments of a kind that has a queue of its own, which a worker with that [Settings].Queue
// settles. The kinds of package jobs share [Queue].
type Queued interface {
	Args
	Queue() string // 1 to 64 letters, digits, hyphens and underscores
}

// RawArgs are arguments that are JSON already.
type RawArgs struct {
	Of   string          // the kind
	JSON json.RawMessage // an object
}

// Kind implements [Args].
func (a RawArgs) Kind() string { return a.Of }

// MarshalJSON implements [json.Marshaler].
func (a RawArgs) MarshalJSON() ([]byte, error) { return a.JSON, nil }

// Request asks for something once.
type Request struct {
	Key         string // the caller's idempotency key, 1 to 200 characters
	Args        Args
	ScheduledAt time.Time // not before this time; zero: now
}

// Receipt is the answer to a request.
type Receipt struct {
	Key       string `json:"key"`
	Kind      string `json:"kind"`
	Status    Status `json:"status"` // pending, or what a duplicate has become meanwhile
	Duplicate bool   `json:"duplicate"`
}

// Enqueue asks for what args say, inside the caller's transaction: once that is committed, a worker will do it
// once; if it is rolled back, nothing was asked for. The same key with the same arguments is a duplicate, which
// changes nothing.
//
// Errors are [ErrKeyReused], [ErrInvalid], [ErrUnknown] and [ErrTooLarge]; after each the transaction can only be
// rolled back.
func Enqueue(ctx context.Context, tx pgx.Tx, key string, args Args) (Receipt, error) {
	receipts, err := EnqueueMany(ctx, tx, []Request{{Key: key, Args: args}})
	if err != nil {
		return Receipt{}, err
	}
	return receipts[0], nil
}

// BatchSender is what a pgx.Tx, a connection and a pool have in common.
type BatchSender interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

const enqueueSQL = `SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.enqueue($1, $2, $3::jsonb, $4, $5) r`

// EnqueueMany asks for several requests in their order and in one round trip: for all of them or, with an error,
// for none. Its errors are those of [Enqueue], as a [*RequestError] that says which request it was.
//
// If ctx has a sampled span of OpenTelemetry, the requests carry its trace context: a worker that traces adds
// their outcome to the trace.
//
// db is the caller's transaction. On a connection or a pool the requests are a transaction of their own.
func EnqueueMany(ctx context.Context, db BatchSender, requests []Request) ([]Receipt, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	batch := &pgx.Batch{}
	queueTrace(ctx, batch)
	receipts := make([]Receipt, len(requests))
	failed := -1
	for i, request := range requests {
		args, err := encodeArgs(request)
		if err != nil {
			return nil, &RequestError{Index: i, Key: request.Key, Err: err}
		}
		scheduledAt := request.ScheduledAt
		if scheduledAt.IsZero() {
			scheduledAt = time.Unix(0, 0) // in the past on every clock: now
		}
		queued := batch.Queue(enqueueSQL, request.Args.Kind(), request.Key, args, scheduledAt, queueOf(request.Args))
		queued.QueryRow(func(row pgx.Row) error {
			r := &receipts[i]
			err := row.Scan(&r.Key, &r.Kind, &r.Status, &r.Duplicate)
			if err != nil && failed < 0 {
				failed = i
			}
			return err
		})
	}
	if err := db.SendBatch(ctx, batch).Close(); err != nil {
		err = ContractError(err)
		if failed >= 0 && contractual(err) {
			return nil, &RequestError{Index: failed, Key: requests[failed].Key, Err: err}
		}
		return nil, fmt.Errorf("ask for requests: %w", err)
	}
	return receipts, nil
}

func queueOf(args Args) string {
	if queued, ok := args.(Queued); ok {
		return queued.Queue()
	}
	return Queue
}

// RequestError says which of several requests was refused, and why. Err is one of the package's sentinels.
type RequestError struct {
	Index int // from 0
	Key   string
	Err   error
}

// Error is one line that names the key.
func (e *RequestError) Error() string { return fmt.Sprintf("request %q: %v", e.Key, e.Err) }

// Unwrap gives the sentinel to errors.Is.
func (e *RequestError) Unwrap() error { return e.Err }

func contractual(err error) bool {
	return errors.As(err, new(*requestError))
}

// encodeArgs refuses what Postgres would refuse with a less helpful message, and what encoding/json would change.
func encodeArgs(request Request) (string, error) {
	if request.Args == nil {
		return "", fmt.Errorf("%w: no arguments", ErrInvalid)
	}
	for what, text := range map[string]string{"key": request.Key, "kind": request.Args.Kind()} {
		if strings.ContainsRune(text, 0) {
			return "", fmt.Errorf("%w: the %s %q has a NUL byte, which Postgres can't keep", ErrInvalid, what, text)
		}
		if !utf8.ValidString(text) {
			return "", fmt.Errorf("%w: the %s %q is not UTF-8", ErrInvalid, what, text)
		}
	}
	args, err := json.Marshal(request.Args)
	if err != nil {
		return "", fmt.Errorf("%w: encode arguments: %w", ErrInvalid, err)
	}
	if name, value := brokenText(request.Args, args); name != "" {
		return "", fmt.Errorf("%w: %s is %.100q, which is not UTF-8", ErrInvalid, name, value)
	}
	return string(args), nil
}
