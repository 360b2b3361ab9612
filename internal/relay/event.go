package relay

import (
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/lastseat/lastseat/outbox"
)

// ContentType is that of [Event.Body].
const ContentType = "application/cloudevents+json; charset=utf-8"

// TypePrefix stands before the kind in the type of an event.
const TypePrefix = "lastseat."

// Event is an outcome on its way out.
type Event struct {
	ID      string // lastseat:DATABASE:CURSOR, the same whenever it is delivered
	Cursor  string // to go on behind it
	Outcome outbox.Outcome
	// Ordering is what the request was ordered by, such as the account that pays; its key, if its kind is not ordered.
	Ordering string
	Body     []byte // a CloudEvent 1.0 in its structured JSON form

	database string
}

// body is the CloudEvent. The outcome is complete in it: nobody has to read headers, and a signature covers all of it.
type body struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"` // the request's key
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            data      `json:"data"`
}

type data struct {
	Key           string          `json:"key"`
	Kind          string          `json:"kind"`
	Status        outbox.Status   `json:"status"`
	Code          string          `json:"code"`
	Detail        json.RawMessage `json:"detail"`
	DetailLeftOut bool            `json:"detail_left_out,omitempty"`
	Attempts      int             `json:"attempts"`
	RequestedAt   time.Time       `json:"requested_at"`
	SettledAt     time.Time       `json:"settled_at"`
	Cursor        string          `json:"cursor"`
}

// newEvent makes the event of an outcome. A detail that encoding/json can't read (Postgres nests deeper) is left out.
func newEvent(database, cursor string, outcome outbox.Outcome) (e Event, err error) {
	e = Event{
		ID: "lastseat:" + url.PathEscape(database) + ":" + cursor, Cursor: cursor, Outcome: outcome, database: database,
	}
	if e.Body, err = e.encode(outcome.Detail, false); err != nil {
		e.Body, err = e.encode(nil, true)
	}
	return e, err
}

// Within is the event with a body of no more than limit bytes. A detail that is too large for the target is left out,
// and the body says so; the outcome can be read by its key. So the size of a detail can't hold up what comes after it.
func (e Event) Within(limit int) (Event, error) {
	if limit <= 0 || len(e.Body) <= limit {
		return e, nil
	}
	encoded, err := e.encode(nil, true)
	if err == nil && len(encoded) > limit {
		err = fmt.Errorf("the outcome has %d bytes even without its detail, and the target takes %d", len(encoded), limit)
	}
	e.Body = encoded
	return e, err
}

func (e *Event) encode(detail json.RawMessage, leftOut bool) ([]byte, error) {
	o := &e.Outcome
	settled := *o.SettledAt
	encoded, err := json.Marshal(body{
		SpecVersion: "1.0", ID: e.ID, Source: "/lastseat/" + url.PathEscape(e.database), Type: TypePrefix + o.Kind,
		Subject: o.Key, Time: settled, DataContentType: "application/json",
		Data: data{
			Key: o.Key, Kind: o.Kind, Status: o.Status, Code: o.Code, Detail: detail, DetailLeftOut: leftOut,
			Attempts: o.Attempts, RequestedAt: o.RequestedAt, SettledAt: settled, Cursor: e.Cursor,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("encode the outcome of %q: %w", o.Key, err)
	}
	return encoded, nil
}
