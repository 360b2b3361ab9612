package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/importfile"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/txn"
)

func (p *program) importCommand() *cobra.Command {
	var options importOptions
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Make every request in a file",
		Long: `Make every request in a file, in the order of its lines.

The file is one of:

  JSON Lines of any kind    {"kind","key","args"}, amounts in minor units; "queue" and "scheduled_at" if need be
  CSV of transfers          key,from_account,to_account,amount,currency; description and metadata (JSON) if need be
  CSV of accounts           account,currency,overdraft
  CSV of resources          resource,capacity,overbook (overbook may be left out)

The header tells the CSV files apart. Each chunk is one transaction. A bad line stops the import: the error names the
line, and nothing of its chunk is written. Running an import again is safe: requests already made count as duplicates,
and a resource that exists gets the file's capacity, and keeps its overbook where the file has none. A line that repeats
an earlier one of the same file is named.

The last line of a CSV file has to end: "1" may be the beginning of "1250.00", where the file was cut. If your program
writes files without a line end after the last line, pass --allow-missing-newline.`,
		Example: "  enqueue import transfers.csv --open-accounts\n" +
			"  enqueue import resources.csv && enqueue import requests.jsonl",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if options.chunk < 1 || options.chunk > 10_000 {
				return cli.Usage("--chunk is %d: 1 to 10000 lines", options.chunk)
			}
			return p.importFile(cmd.Context(), args[0], options)
		},
	}
	cmd.Flags().BoolVar(&options.openAccounts, "open-accounts", false,
		"open missing accounts of transfers, authorizations and bookings, with unlimited overdraft")
	cmd.Flags().IntVar(&options.chunk, "chunk", 1000, "lines in a transaction")
	cmd.Flags().BoolVar(&options.file.UnendedLastLine, "allow-missing-newline", false,
		"take the last line of a CSV file for whole even though it does not end")
	return cmd
}

type importOptions struct {
	openAccounts bool
	chunk        int // lines
	file         importfile.Options
}

func (p *program) importFile(ctx context.Context, name string, options importOptions) error {
	file, size, err := p.open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	p.patience = importPatience
	pool, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer closePool(pool)
	options.file.Know = func(code string) error { return know(ctx, pool, code) }
	progress := cli.NewProgress(p.streams.Err, size)
	imported := &importer{
		pool: pool, openAccounts: options.openAccounts, opened: make(map[string]bool), progress: progress,
	}
	err = imported.all(ctx, progress.Reader(file), options)
	progress.Finish()
	if err != nil && imported.counts.Lines > 0 {
		err = &cli.PartialError{Err: err, Done: fmt.Sprintf(
			"everything up to line %d is in; running the import again is safe", imported.counts.Lines)}
	}
	return errors.Join(err, p.output.Print(p.streams.Out, imported.counts, imported.counts.String()))
}

// open returns the file and its size in bytes, -1 where that is not known.
func (p *program) open(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(p.streams.In), -1, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, fileError(name, err)
	}
	info, err := file.Stat()
	if err != nil || info.IsDir() {
		_ = file.Close()
		return nil, 0, cli.BadData("%q is a directory: give the name of a file in it", name)
	}
	return file, info.Size(), nil
}

// counts of an import; what an error took back is not in it.
type counts struct {
	Lines      int `json:"lines"` // the number of the last line that is in
	Requests   int `json:"requests"`
	Duplicates int `json:"duplicates"`
	Accounts   int `json:"accounts_opened"`
	Resources  int `json:"resources_defined"` // new ones, and those whose capacity has changed

	// Repeated lines are duplicates of an earlier line of the same file.
	RepeatedLines int        `json:"repeated_lines"`
	Repeated      []repeated `json:"repeated,omitempty"` // the first ones
}

func (c counts) String() string {
	lines := []string{fmt.Sprintf("%d requests: %d new, %d duplicates; %d accounts opened, %d resources defined",
		c.Requests, c.Requests-c.Duplicates, c.Duplicates, c.Accounts, c.Resources)}
	for _, r := range c.Repeated {
		lines = append(lines, r.String())
	}
	if more := c.RepeatedLines - len(c.Repeated); more > 0 {
		lines = append(lines, fmt.Sprintf("%d more lines repeat earlier ones", more))
	}
	return strings.Join(lines, "\n")
}

type importer struct {
	pool         *pgxpool.Pool
	openAccounts bool
	opened       map[string]bool // accounts known to be open
	seen         seenKeys
	counts       counts
	rows         int // that are in
	progress     *cli.Progress
}

func (im *importer) all(ctx context.Context, file io.Reader, options importOptions) error {
	reader, err := importfile.NewReader(file, options.file)
	if err != nil {
		return err
	}
	for {
		records := make([]importfile.Record, 0, options.chunk)
		for len(records) < options.chunk {
			record, err := reader.Next()
			if errors.Is(err, io.EOF) {
				return im.write(ctx, records)
			}
			if err != nil {
				return err
			}
			records = append(records, record)
		}
		if err := im.write(ctx, records); err != nil {
			return err
		}
	}
}

// write makes one transaction of the records, or writes nothing.
func (im *importer) write(ctx context.Context, records []importfile.Record) error {
	if len(records) == 0 {
		return nil
	}
	var c *chunk
	err := txn.Run(ctx, im.pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
		// A transaction that runs again after a conflict starts from what is committed.
		c = &chunk{importer: im, tx: tx, opened: make(map[string]bool), counts: im.counts}
		return c.write(ctx, records)
	})
	if err != nil {
		return err
	}
	im.counts = c.counts
	for i := range c.requests {
		if of := im.seen.add(c.requests[i].Key, c.lines[i]); of > 0 {
			im.counts.repeat(c.lines[i], of, c.requests[i].Key)
		}
	}
	im.counts.Lines = records[len(records)-1].Line
	im.rows += len(records)
	im.progress.Rows(im.rows)
	maps.Copy(im.opened, c.opened)
	return nil
}

// chunk is one transaction of an import.
type chunk struct {
	*importer
	tx       pgx.Tx
	opened   map[string]bool // accounts that this chunk opens or has found open
	counts   counts
	requests []outbox.Request
	lines    []int // of the requests, in the file
}

func (c *chunk) write(ctx context.Context, records []importfile.Record) error {
	for _, record := range records {
		if err := c.prepare(ctx, record); err != nil {
			return atLine(record.Line, err)
		}
	}
	receipts, err := outbox.EnqueueMany(ctx, c.tx, c.requests)
	if err != nil {
		return c.locate(err)
	}
	for _, receipt := range receipts {
		c.counts.Requests++
		if receipt.Duplicate {
			c.counts.Duplicates++
		}
	}
	return nil
}

// prepare writes a resource or an account, or adds a request to those of the chunk.
func (c *chunk) prepare(ctx context.Context, record importfile.Record) error {
	switch {
	case record.Resource != nil:
		r := record.Resource
		return c.define(ctx, jobs.Resource{ID: r.ID, Capacity: r.Capacity, Overbook: r.Overbook})
	case record.Account != nil:
		a := record.Account
		return c.openAccount(ctx, jobs.Account{ID: a.ID, Currency: a.Currency, OverdraftLimit: a.OverdraftLimit})
	}
	request := record.Request
	if err := c.openMissing(ctx, request); err != nil {
		return err
	}
	c.requests = append(c.requests, outbox.Request{
		Key: request.Key, Args: argsOfLine(request), ScheduledAt: request.ScheduledAt,
	})
	c.lines = append(c.lines, record.Line)
	return nil
}

// queuedArgs are raw arguments for a queue of their own.
type queuedArgs struct {
	outbox.RawArgs
	queue string
}

// Queue implements [outbox.Queued].
func (a queuedArgs) Queue() string { return a.queue }

func argsOfLine(request *importfile.Request) outbox.Args {
	raw := outbox.RawArgs{Of: request.Kind, JSON: request.Args}
	if request.Queue == "" {
		return raw
	}
	return queuedArgs{raw, request.Queue}
}

// locate names the line of the request that was refused, and the earlier line that has used its key.
func (c *chunk) locate(err error) error {
	refused := (*outbox.RequestError)(nil)
	if !errors.As(err, &refused) {
		return err
	}
	line := c.lines[refused.Index]
	for i, earlier := range c.requests[:refused.Index] {
		if earlier.Key == refused.Key && errors.Is(err, outbox.ErrKeyReused) {
			return &importfile.Error{Line: line, Msg: fmt.Sprintf(
				"line %d has used the key %q already, for another request: give one of them another key", c.lines[i], refused.Key)}
		}
	}
	return atLine(line, refused.Err)
}

func atLine(line int, err error) error { return fmt.Errorf("line %d: %w", line, err) }

func (c *chunk) openAccount(ctx context.Context, account jobs.Account) error {
	receipt, err := jobs.OpenAccount(ctx, c.tx, account)
	if err == nil && !receipt.Duplicate {
		c.counts.Accounts++
	}
	return err
}

func (c *chunk) define(ctx context.Context, resource jobs.Resource) error {
	receipt, err := jobs.DefineResource(ctx, c.tx, resource)
	if err == nil && !receipt.Duplicate {
		c.counts.Resources++
	}
	return err
}

// openMissing opens the accounts of a request that names two and their currency, each once in an import.
func (c *chunk) openMissing(ctx context.Context, request *importfile.Request) error {
	namesAccounts := func(kind jobs.Kind) bool { return kind.Name == request.Kind && kind.Has("from", "to", "currency") }
	if !c.openAccounts || !slices.ContainsFunc(jobs.Kinds(), namesAccounts) {
		return nil
	}
	var args struct {
		From     string `json:"from"`
		To       string `json:"to"`
		Currency string `json:"currency"`
	}
	if err := json.Unmarshal(request.Args, &args); err != nil {
		return nil //nolint:nilerr // lastseat.enqueue says what is wrong with the arguments
	}
	for _, id := range []string{args.From, args.To} {
		if c.importer.opened[id] || c.opened[id] {
			continue
		}
		if err := c.openAccount(ctx, jobs.Account{ID: id, Currency: args.Currency, IfMissing: true}); err != nil {
			return err
		}
		c.opened[id] = true
	}
	return nil
}
