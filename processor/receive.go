package processor

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

// Event is something that a processor tells by webhook.
type Event struct {
	ID   string // the same whenever it comes again
	Type string // the processor's own word: payment_intent.succeeded
	// Reference is the charge that it is about, and Payment our id of the payment; empty if it is about none, or about
	// one of others.
	Reference, Payment string
	// Key is that of the operation that has made what the event shows, a charge or a refund.
	Key     string
	Created time.Time
	Live    bool   // real money
	Body    []byte // as it came, JSON
	// Record is the charge as the processor has it now, if [Receiver].LookUp fetched it.
	Record *Record
}

// Receiver takes in a processor's webhooks: an [http.Handler] for a service's own server.
//
// An event is taken in once: its id and what Take does are one transaction. When it comes again, it is answered with
// 2xx and nothing happens. Events come in any order, and tell of a state that may have changed since. So Take does not
// trust what the event shows: it looks at Record, or has somebody look later, and never lets an earlier state
// overwrite a later one.
//
// The database is one with the schema of Lastseat, and the login a member of lastseat_producer.
type Receiver struct {
	// Source names the processor in lastseat.taken_events, for example "stripe".
	Source string
	// Verify proves that the body comes from the processor, and reads it. The time is now. stripe.Webhooks makes one.
	Verify func(header http.Header, body []byte, now time.Time) (Event, error)
	// LookUp fetches the charge that an event is about, before the transaction begins: [Gateway.LookUp]. Nil: nothing
	// is fetched.
	LookUp func(ctx context.Context, query Query) (Record, error)
	// DB begins transactions: a pool of pgx.
	DB interface {
		Begin(ctx context.Context) (pgx.Tx, error)
	}
	// Take does what the event asks for in the transaction that takes it in, for example enqueues a request. It makes no
	// network calls. After an error nothing has happened, and the processor sends the event again; an event that nobody
	// cares for is no error.
	Take func(ctx context.Context, tx pgx.Tx, event Event) error
	// Observe, if it is there, hears of each webhook: "taken", "duplicate", "refused" or "failed". For a metric.
	Observe func(result string)
	// Logger hears of what was refused and what failed; by default [slog.Default].
	Logger *slog.Logger
}

const (
	webhookLimit   = 1 << 20
	webhookTimeout = 20 * time.Second
)

func (rc *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), webhookTimeout)
	defer cancel()
	status, result, err := rc.receive(ctx, w, r)
	if err != nil {
		level := slog.LevelWarn
		if result == "failed" {
			level = slog.LevelError
		}
		cmp.Or(rc.Logger, slog.Default()).Log(ctx, level, "a webhook was not taken in",
			slog.String("source", rc.Source), slog.Int("status", status), slog.Any("error", err))
		http.Error(w, http.StatusText(status), status) // the reason is for our log
	} else {
		w.WriteHeader(status)
	}
	if rc.Observe != nil {
		rc.Observe(result)
	}
}

func (rc *Receiver) receive(ctx context.Context, w http.ResponseWriter, r *http.Request) (int, string, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return http.StatusMethodNotAllowed, "refused", errors.New("it is no POST")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, webhookLimit))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return http.StatusRequestEntityTooLarge, "refused", err
	} else if err != nil {
		return http.StatusBadRequest, "refused", err
	}
	event, err := rc.Verify(r.Header, body, time.Now())
	if err != nil {
		return http.StatusBadRequest, "refused", err
	}
	if rc.LookUp != nil && event.Reference != "" {
		record, err := rc.LookUp(ctx, Query{Reference: event.Reference})
		if err != nil {
			return http.StatusInternalServerError, "failed", err
		}
		event.Record = &record
	}
	first := false
	err = pgx.BeginFunc(ctx, rc.DB, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT lastseat.take_event($1, $2)`, rc.Source, event.ID).Scan(&first)
		if err != nil || !first {
			return err
		}
		return rc.Take(ctx, tx, event)
	})
	switch {
	case err != nil: // also a COMMIT whose reply is lost: then it comes again, and is a duplicate
		return http.StatusInternalServerError, "failed", err
	case !first:
		return http.StatusOK, "duplicate", nil
	}
	return http.StatusOK, "taken", nil
}
