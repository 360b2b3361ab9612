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

// Name is the name of the file for a link of the chain of removals.
func Name(link int64, format string) string { return fmt.Sprintf("requests-%012d.%s", link, format) }

// find is the path of a link's file, in whatever format.
func find(dir string, link int64) (string, error) {
	for _, format := range Formats {
		path := filepath.Join(dir, Name(link, format))
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is missing", filepath.Join(dir, Name(link, "*")))
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
func Write(dir, format string, link int64, requests []*history.Request) (err error) {
	rows := make([]request, len(requests))
	for i, q := range requests {
		rows[i] = fromHistory(q)
	}
	path := filepath.Join(dir, Name(link, format))
	// What is left of a crash goes, and a link that leads elsewhere.
	if err := os.Remove(path + ".part"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreClosed(file.Close())) }()
	write := writeCSV
	if format == "parquet" {
		write = writeParquet
	}
	if err := write(file, rows); err != nil {
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

// Leftover returns the requests of a link's files that are there before the link is. They are of a transaction that was
// rolled back; or of another database, or of this one before it was restored, and then nobody else may have these rows.
func Leftover(dir string, link int64) (keys []string, paths []string, err error) {
	for _, format := range Formats {
		path := filepath.Join(dir, Name(link, format))
		requests, err := Read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, nil, err
		}
		paths = append(paths, path)
		for _, q := range requests {
			keys = append(keys, q.Key)
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
	path, err := find(dir, link.Number)
	if err != nil {
		return err
	}
	requests, err := Read(path)
	if err != nil {
		return err
	}
	if len(requests) != len(link.Keys) {
		return fmt.Errorf("%s was changed: it has %d requests, and %d were removed", path, len(requests), len(link.Keys))
	}
	for i, q := range requests {
		if q.Key != link.Keys[i] || !bytes.Equal(q.Digest(), link.Digests[i]) {
			return fmt.Errorf("%s was changed: row %d is not request %s as it was settled", path, i+1, link.Keys[i])
		}
	}
	return nil
}

func writeCSV(file io.Writer, rows []request) error {
	zipped := gzip.NewWriter(file)
	lines := csv.NewWriter(zipped)
	_ = lines.Write(columns) // Flush keeps the error
	for _, r := range rows {
		detail := "" // no JSON is empty
		if r.Detail != nil {
			detail = *r.Detail
		}
		_ = lines.Write([]string{r.Key, r.Kind, hex.EncodeToString(r.Fingerprint), strconv.FormatInt(r.JobID, 10),
			r.RequestedAt.Format(time.RFC3339Nano), r.Status, r.Code, detail, strconv.FormatInt(r.Attempts, 10),
			r.SettledAt.Format(time.RFC3339Nano)})
	}
	lines.Flush()
	return errors.Join(lines.Error(), zipped.Close())
}

func writeParquet(file io.Writer, rows []request) error {
	writer := parquet.NewGenericWriter[request](file, parquet.Compression(&parquet.Zstd))
	_, err := writer.Write(rows)
	return errors.Join(err, writer.Close())
}

// Read reads a file that [Write] has written.
func Read(path string) ([]*history.Request, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var rows []request
	if filepath.Ext(path) == ".parquet" {
		rows, err = readParquet(file)
	} else {
		rows, err = readCSV(file)
	}
	if err != nil {
		return nil, fmt.Errorf("%s can't be read: %w", path, err)
	}
	requests := make([]*history.Request, len(rows))
	for i := range rows {
		requests[i] = rows[i].toHistory()
	}
	return requests, nil
}

func readParquet(file *os.File) (rows []request, err error) {
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
	return parquet.Read[request](file, info.Size())
}

func readCSV(file io.Reader) ([]request, error) {
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	lines := csv.NewReader(unzipped)
	lines.FieldsPerRecord = len(columns)
	all, err := lines.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("it has no line of names")
	}
	rows := make([]request, 0, len(all)-1)
	for i, cells := range all[1:] {
		r, err := parseCells(cells)
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
