// Package archive writes what retention removes to files, and reads them again. The file of a link of the history has
// the rows of that link in their order, so whoever has the history can prove the file.
package archive

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/lastseat/lastseat/internal/history"
)

// Formats are the kinds of files, by the ends of their names.
var Formats = []string{"csv.gz", "parquet"}

// Name is the name of the file for a link of the chain of removals, which has rows of a table.
func Name(table string, link int64, format string) string {
	return fmt.Sprintf("%s-%012d.%s", table, link, format)
}

// find is the path of a link's file, in whatever format.
func find(dir, table string, link int64) (string, error) {
	for _, format := range Formats {
		path := filepath.Join(dir, Name(table, link, format))
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is missing", filepath.Join(dir, Name(table, link, "*")))
}

// table is how rows of a table stand in a file, and what the history has of them.
type table[R, H any] struct {
	name, one string
	columns   []string // of a CSV file
	cells     func(*R) []string
	parse     func(cells []string) (R, error)
	from      func(H) R
	to        func(*R) H
	key       func(H) string
	digest    func(H) []byte
}

var requests = table[request, *history.Request]{
	name: history.Requests, one: "request", columns: columns, cells: (*request).cells, parse: parseCells,
	from: fromHistory, to: (*request).toHistory,
	key: func(q *history.Request) string { return q.Key }, digest: (*history.Request).Digest,
}

var transfers = table[transfer, *history.Transfer]{
	name: history.Transfers, one: "transfer", columns: transferColumns, cells: (*transfer).cells, parse: parseTransfer,
	from: fromTransfer, to: (*transfer).toHistory,
	key: (*history.Transfer).RemovedKey, digest: (*history.Transfer).Digest,
}

// request is a row of requests in a file. Times are UTC.
type request struct {
	Key         string    `parquet:"key"`
	Kind        string    `parquet:"kind,dict"`
	Fingerprint []byte    `parquet:"fingerprint"`
	JobID       int64     `parquet:"job_id"`
	RequestedAt time.Time `parquet:"requested_at,timestamp(microsecond)"`
	Status      string    `parquet:"status,dict"`
	Code        string    `parquet:"code,dict"`
	Detail      *string   `parquet:"detail,optional"`
	Attempts    int64     `parquet:"attempts"`
	SettledAt   time.Time `parquet:"settled_at,timestamp(microsecond)"`
}

// columns are those of a CSV file.
var columns = []string{"key", "kind", "fingerprint", "job_id", "requested_at", "status", "code", "detail", "attempts",
	"settled_at"}

func fromHistory(q *history.Request) request {
	r := request{Key: q.Key, Kind: q.Kind, Fingerprint: q.Fingerprint, JobID: q.JobID, RequestedAt: q.RequestedAt.UTC(),
		Status: q.Status, Code: q.Code, Attempts: int64(q.Attempts), SettledAt: q.SettledAt.UTC()}
	if q.Detail != nil {
		r.Detail = new(string(q.Detail))
	}
	return r
}

func (r *request) toHistory() *history.Request {
	q := &history.Request{Key: r.Key, Kind: r.Kind, Fingerprint: r.Fingerprint, JobID: r.JobID,
		RequestedAt: r.RequestedAt, Status: r.Status, Code: r.Code, Attempts: int(r.Attempts), SettledAt: r.SettledAt}
	if r.Detail != nil {
		q.Detail = []byte(*r.Detail)
	}
	return q
}

// Write writes the rows of a link to its file in dir. When it returns, the file is on disk, whole, under its name: a
// crash leaves a file of another name at most.
func Write(dir, format string, link int64, rows []*history.Request) error {
	return write(dir, format, link, requests, rows)
}

// WriteTransfers is [Write] for transfers.
func WriteTransfers(dir, format string, link int64, rows []*history.Transfer) error {
	return write(dir, format, link, transfers, rows)
}

func write[R, H any](dir, format string, link int64, t table[R, H], noted []H) (err error) {
	rows := make([]R, len(noted))
	for i, row := range noted {
		rows[i] = t.from(row)
	}
	path := filepath.Join(dir, Name(t.name, link, format))
	// What is left of a crash goes, and a link that leads elsewhere.
	if err := os.Remove(path + ".part"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreClosed(file.Close())) }()
	if format == "parquet" {
		err = writeParquet(file, rows)
	} else {
		err = writeCSV(file, t, rows)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".part", path); err != nil {
		return err
	}
	return syncDir(dir)
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// Leftover returns the rows of a link's files that are there before the link is, as the history names them. They are of
// a transaction that was rolled back; or of another database, or of this one before it was restored, and then nobody
// else may have these rows.
func Leftover(dir, of string, link int64) (keys []string, paths []string, err error) {
	if of == history.Transfers {
		return leftover(dir, link, transfers)
	}
	return leftover(dir, link, requests)
}

func leftover[R, H any](dir string, link int64, t table[R, H]) (keys []string, paths []string, err error) {
	for _, format := range Formats {
		path := filepath.Join(dir, Name(t.name, link, format))
		rows, err := read(path, t)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, nil, err
		}
		paths = append(paths, path)
		for _, row := range rows {
			keys = append(keys, t.key(row))
		}
	}
	return keys, paths, nil
}

// syncDir: the file's name is on disk as well.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Prove proves that a link's file has the rows of the link, as they were settled, in their order. The error names the
// file.
func Prove(dir string, link *history.Link) error {
	if link.Relation == history.Transfers+history.Archived {
		return prove(dir, link, transfers)
	}
	return prove(dir, link, requests)
}

// Transfers are the transfers in a link's file.
func Transfers(dir string, link int64) ([]*history.Transfer, error) {
	path, err := find(dir, transfers.name, link)
	if err != nil {
		return nil, err
	}
	return read(path, transfers)
}

func prove[R, H any](dir string, link *history.Link, t table[R, H]) error {
	path, err := find(dir, t.name, link.Number)
	if err != nil {
		return err
	}
	rows, err := read(path, t)
	if err != nil {
		return err
	}
	if len(rows) != len(link.Keys) {
		return fmt.Errorf("%s was changed: it has %d %ss, and %d were removed", path, len(rows), t.one, len(link.Keys))
	}
	for i, row := range rows {
		if t.key(row) != link.Keys[i] || !bytes.Equal(t.digest(row), link.Digests[i]) {
			return fmt.Errorf("%s was changed: row %d is not %s %s as it was settled", path, i+1, t.one, link.Keys[i])
		}
	}
	return nil
}

func writeCSV[R, H any](file io.Writer, t table[R, H], rows []R) error {
	zipped := gzip.NewWriter(file)
	lines := csv.NewWriter(zipped)
	_ = lines.Write(t.columns) // Flush keeps the error
	for i := range rows {
		_ = lines.Write(t.cells(&rows[i]))
	}
	lines.Flush()
	return errors.Join(lines.Error(), zipped.Close())
}

func (r *request) cells() []string {
	detail := "" // no JSON is empty
	if r.Detail != nil {
		detail = *r.Detail
	}
	return []string{r.Key, r.Kind, hex.EncodeToString(r.Fingerprint), strconv.FormatInt(r.JobID, 10),
		r.RequestedAt.Format(time.RFC3339Nano), r.Status, r.Code, detail, strconv.FormatInt(r.Attempts, 10),
		r.SettledAt.Format(time.RFC3339Nano)}
}

func writeParquet[R any](file io.Writer, rows []R) error {
	writer := parquet.NewGenericWriter[R](file, parquet.Compression(&parquet.Zstd))
	_, err := writer.Write(rows)
	return errors.Join(err, writer.Close())
}

// read reads a file that write has written.
func read[R, H any](path string, t table[R, H]) ([]H, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var rows []R
	if filepath.Ext(path) == ".parquet" {
		rows, err = readParquet[R](file)
	} else {
		rows, err = readCSV(file, t)
	}
	if err != nil {
		return nil, fmt.Errorf("%s can't be read: %w", path, err)
	}
	noted := make([]H, len(rows))
	for i := range rows {
		noted[i] = t.to(&rows[i])
	}
	return noted, nil
}

func readParquet[R any](file *os.File) (rows []R, err error) {
	// The library panics at some damaged files.
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("it is damaged: %v", cause)
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return parquet.Read[R](file, info.Size())
}

func readCSV[R, H any](file io.Reader, t table[R, H]) ([]R, error) {
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	lines := csv.NewReader(unzipped)
	lines.FieldsPerRecord = len(t.columns)
	all, err := lines.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("it has no line of names")
	}
	rows := make([]R, 0, len(all)-1)
	for i, cells := range all[1:] {
		r, err := t.parse(cells)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", i+1, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func parseCells(cells []string) (request, error) {
	r := request{Key: cells[0], Kind: cells[1], Status: cells[5], Code: cells[6]}
	if cells[7] != "" {
		r.Detail = &cells[7]
	}
	var all [5]error
	r.Fingerprint, all[0] = hex.DecodeString(cells[2])
	r.JobID, all[1] = strconv.ParseInt(cells[3], 10, 64)
	r.RequestedAt, all[2] = time.Parse(time.RFC3339Nano, cells[4])
	r.Attempts, all[3] = strconv.ParseInt(cells[8], 10, 64)
	r.SettledAt, all[4] = time.Parse(time.RFC3339Nano, cells[9])
	return r, errors.Join(all[:]...)
}
