// Package history makes the past of a Lastseat database tamper-evident.
//
// What a transaction of the lane settled, and the rows that it wrote, are noted as links of a chain in the same commit:
// a link names the rows, has a digest of each, and a hash of all that and of the link before. Whoever changes a row
// later, or takes one away, would have to change its digest, and with it every link that follows; `worker audit --seal`
// keeps the last hashes elsewhere.
//
// The lane that writes a row and the audit that reads it take the digest with the same function of this package, so a
// row must look the same to both: times are whole microseconds, JSON is in one canonical form.
package history

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"time"
)

// The tables whose rows are noted, as the column relation of lastseat.history has them.
const (
	Requests     = "requests"         // those that were applied or rejected, for good
	Failed       = "requests.failed"  // requests that have failed, each time
	Reopened     = "requests.pending" // requests that were failed and are pending again, each time
	Transfers    = "transfers"
	Payments     = "payments"     // the key is ID@VERSION: every version is noted
	Reservations = "reservations" // likewise
	Items        = "reservation_items"
	Closings     = "closings"
)

// Removal is the chain in which retention notes what it removes, and Removed what it adds to the name of the table:
// requests.removed. A digest of such a link is that of the row as it was when it was removed.
// Archived instead of Removed says that the rows went to a file first.
const (
	Removal  = "retention"
	Removed  = ".removed"
	Archived = ".archived"
)

// DigestSize is the length of a row's digest in bytes: the first half of a SHA-256.
const DigestSize = 16

// row collects the fields of a row, each with its length before it, so that no two rows look the same.
type row struct {
	buf   []byte
	spare []byte // for digests: one allocation for many
}

// null is the length of a field that is null.
const null = ^uint32(0)

func (r *row) text(s string) {
	r.buf = binary.BigEndian.AppendUint32(r.buf, uint32(len(s)))
	r.buf = append(r.buf, s...)
}

// optional is a text for which empty means null.
func (r *row) optional(s string) {
	if s == "" {
		r.null()
		return
	}
	r.text(s)
}

func (r *row) null() { r.buf = binary.BigEndian.AppendUint32(r.buf, null) }

func (r *row) bytes(b []byte) {
	r.buf = binary.BigEndian.AppendUint32(r.buf, uint32(len(b)))
	r.buf = append(r.buf, b...)
}

func (r *row) number(n int64) { r.buf = binary.BigEndian.AppendUint64(r.buf, uint64(n)) }

// time is null if it is zero.
func (r *row) time(t time.Time) {
	if t.IsZero() {
		r.null()
		return
	}
	r.buf = binary.BigEndian.AppendUint32(r.buf, 8)
	r.number(t.UnixMicro())
}

func (r *row) digest() []byte {
	sum := sha256.Sum256(r.buf)
	r.buf = r.buf[:0]
	if len(r.spare) < DigestSize {
		r.spare = make([]byte, 256*DigestSize)
	}
	digest := r.spare[:DigestSize:DigestSize]
	r.spare = r.spare[DigestSize:]
	copy(digest, sum[:])
	return digest
}

// Head is the end of a chain: the last link. Its zero value is the end of a chain that has none yet.
type Head struct {
	Number int64
	Hash   []byte
}

// Link is one row of lastseat.history: rows of one table that one transaction wrote.
type Link struct {
	Chain    string
	Number   int64 // 1, 2, 3 ... within the chain
	At       time.Time
	Relation string
	Keys     []string
	Digests  [][]byte
}

// Hash continues a chain: it is the hash of this link and of all before it.
func (l *Link) Hash(before []byte) []byte {
	sum := sha256.New()
	r := &row{buf: make([]byte, 0, 64*len(l.Keys)+200)}
	r.text("lastseat history 1")
	r.bytes(before)
	r.text(l.Chain)
	r.number(l.Number)
	r.time(l.At)
	r.text(l.Relation)
	r.number(int64(len(l.Keys)))
	for i, key := range l.Keys {
		r.text(key)
		r.bytes(l.Digests[i])
		flush(sum, r, 1<<15)
	}
	flush(sum, r, 0)
	return sum.Sum(nil)
}

func flush(sum hash.Hash, r *row, limit int) {
	if len(r.buf) > limit {
		sum.Write(r.buf)
		r.buf = r.buf[:0]
	}
}

// Log is what a transaction has to note. A nil Log notes nothing.
type Log struct {
	links []*Link
	row   row
}

// add notes a row of which the fields were collected.
func (l *Log) add(relation, key string) { l.Add(relation, key, l.row.digest()) }

// Add notes a row with its digest.
func (l *Log) Add(relation, key string, digest []byte) {
	if l == nil {
		return
	}
	var link *Link
	if n := len(l.links); n > 0 && l.links[n-1].Relation == relation {
		link = l.links[n-1]
	} else {
		link = &Link{Relation: relation}
		l.links = append(l.links, link)
	}
	link.Keys, link.Digests = append(link.Keys, key), append(link.Digests, digest)
}

// Take returns the links that continue a chain after head, each with its hash, and empties the log.
func (l *Log) Take(chain string, at time.Time, head Head) (links []*Link, hashes [][]byte, end Head) {
	for _, link := range l.links {
		link.Chain, link.Number, link.At = chain, head.Number+1, at
		head = Head{Number: link.Number, Hash: link.Hash(head.Hash)}
		links, hashes = append(links, link), append(hashes, head.Hash)
	}
	l.links = nil
	return links, hashes, head
}

// Empty tells whether there is nothing to note.
func (l *Log) Empty() bool { return l == nil || len(l.links) == 0 }
