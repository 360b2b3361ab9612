// Package importfile reads the files that `enqueue import` accepts: transfers, accounts and resources as
// CSV, and requests of any kind as JSON Lines.
//
// It reads a stream in bounded memory, one record at a time, and checks each record as far as that is
// possible without a database: shape, lengths, amounts, currencies. Every error names its line. Whether an
// account exists, a key was used before or a request is too large is left to the functions of the schema.
//
// A file that was cut inside a record is refused. JSON shows a cut by itself. A CSV row may look whole without
// its end ("1" of "1250.00"), so its line has to end, unless [Options] say otherwise. A file that was cut after
// a line looks complete.
package importfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"time"
)

// The values of [Reader.Format].
const (
	FormatTransfers = "transfers" // CSV, records of Request
	FormatAccounts  = "accounts"  // CSV, records of Account
	FormatResources = "resources" // CSV, records of Resource
	FormatRequests  = "requests"  // JSON Lines, records of Request
)

// Record is one row or one JSON line. Exactly one of Account, Resource and Request is set; in one file it
// is always the same one.
type Record struct {
	Line int // where the record starts in the file, from 1

	Account  *Account
	Resource *Resource
	Request  *Request
}

// Account is an account to open.
type Account struct {
	ID             string
	Currency       string // ISO 4217, upper case
	OverdraftLimit *int64 // minor units, at least 0; nil: unbounded
}

// Resource is a resource to define. Capacity and Overbook are at least 0, and their sum fits int64.
type Resource struct {
	ID       string
	Capacity int64
	Overbook *int64 // nil: the file does not say
}

// Request is a request to enqueue.
type Request struct {
	Kind string
	Key  string

	// Args is a JSON object. From JSON Lines it is what the file says, byte for byte, so that no number
	// passes through a float. From a transfers CSV it is from, to, amount (minor units), currency, and
	// description and metadata where there are any.
	Args json.RawMessage

	ScheduledAt time.Time // not before this time; zero: now
	Queue       string    // empty: the one of payments and reservations
}

// Reader reads the records of one file in order. It isn't safe for concurrent use.
type Reader struct {
	format string
	read   func() (Record, error)
	err    error
}

// Options of a [Reader].
type Options struct {
	UnendedLastLine bool // take the last row of a CSV file even though its line does not end
	// Know makes a currency known to package money that is not in its list, if the database has it; nil: none is.
	Know func(code string) error
}

// NewReader finds out what the file holds: JSON Lines where the first byte that isn't space is '{', else
// CSV, whose header says which table. It reads no further than that line. An error is an [*Error].
func NewReader(r io.Reader, options Options) (*Reader, error) {
	lines := &lines{r: bufio.NewReaderSize(r, 64<<10)}
	first, err := lines.skipBlank()
	switch {
	case err == io.EOF:
		return nil, &Error{Msg: "the file is empty: it begins with a header such as " + transferColumns()}
	case err != nil:
		return nil, err
	}
	lines.unread()
	if msg := otherFormat(first); msg != "" {
		return nil, errorf(lines.n, "%s", msg)
	}
	switch bytes.TrimSpace(first)[0] {
	case '{':
		return &Reader{format: FormatRequests, read: (&jsonLines{lines}).read}, nil
	case '[':
		return nil, errorf(lines.n,
			"a JSON array can't be read as a stream: write one object a line, without [ ] around them or commas between")
	}
	table, err := newCSVTable(lines, options)
	if err != nil {
		return nil, err
	}
	return &Reader{format: table.schema.format, read: table.read}, nil
}

// Format says what the file holds: "transfers", "accounts", "resources" or "requests".
func (r *Reader) Format() string { return r.format }

// Next returns the next record, io.EOF after the last one, or an [*Error]. Both of these are final: further
// calls return them again.
func (r *Reader) Next() (Record, error) {
	if r.err != nil {
		return Record{}, r.err
	}
	record, err := r.read()
	if err != nil {
		r.err = err
		return Record{}, err
	}
	return record, nil
}
