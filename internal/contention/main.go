// Command contention measures one business case, withdrawals from accounts that may not go below zero, under more and
// less contention, by each of the mechanisms that are known for it:
//
//   - row lock: SELECT ... FOR UPDATE, look, UPDATE, at READ COMMITTED;
//   - version: look, UPDATE ... WHERE version = what was seen, and again if it was not;
//   - SERIALIZABLE: look, UPDATE, and again after a 40001;
//   - advisory lock: pg_advisory_xact_lock on the account, look, UPDATE;
//   - one statement: UPDATE ... WHERE balance >= amount, which looks and changes at once;
//   - the lane, by clients who wait for the outcome of each request, and by clients who only ask.
//
// Contention is how many accounts of the table are in use, and by how many clients. All are durable in the same way,
// on a Postgres with fsync on. What each has done is checked before its numbers count: every movement that a client
// was told of is there, and no other, the sums are right, and no account is below zero.
//
// The lane writes more for each withdrawal than the others do: a request, a job, a transfer and the entries of two
// accounts. One contestant with row locks does, too. The others write the account and one row that says what was done,
// under the same unique key.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lastseat/lastseat/internal/testbed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv("DATABASE_URL"), os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "contention:", err)
		os.Exit(1)
	}
}

// What it shows is shown there, beside what it says.
const (
	plotFile   = "docs/contention.svg"
	reportFile = "docs/contention.md"
)

// options are the flags.
type options struct {
	accounts, clients []int
	table             int // accounts that there are, in use or not
	duration          time.Duration
	rounds            int
	only              *regexp.Regexp
	plot, report      string
	draw              bool
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	o := options{accounts: []int{1, 10, 100, 1_000, 10_000}, clients: []int{1, 4, 16, 64}, only: regexp.MustCompile("")}
	flags := flag.NewFlagSet("contention", flag.ContinueOnError)
	flags.SetOutput(stderr)
	list := func(into *[]int) func(string) error {
		return func(text string) (err error) {
			*into = nil
			for field := range strings.SplitSeq(text, ",") {
				n, err := strconv.Atoi(field)
				if err != nil || n < 1 {
					return errors.New("whole numbers from 1, with commas in between")
				}
				*into = append(*into, n)
			}
			slices.Sort(*into)
			return nil
		}
	}
	flags.Func("accounts", "accounts in use (default 1,10,100,1000,10000)", list(&o.accounts))
	flags.Func("clients", "clients at a time (default 1,4,16,64)", list(&o.clients))
	flags.DurationVar(&o.duration, "duration", 3*time.Second, "how long each is measured")
	flags.IntVar(&o.rounds, "rounds", 1, "how often everything is measured; medians are shown")
	flags.StringVar(&o.plot, "plot", plotFile, "write the plot to this file, as SVG; empty, and with -short: don't")
	flags.StringVar(&o.report, "report", reportFile,
		"write the tables to this file, as Markdown; empty, and with -short: to stdout")
	flags.BoolVar(&o.draw, "draw", false, "measure nothing: draw the plot of the tables that the report has")
	flags.Func("only", "measure the contestants whose name matches this regular expression",
		func(text string) (err error) {
			o.only, err = regexp.Compile(text)
			return err
		})
	short := flags.Bool("short", false, "little of everything: to see that it works, not how fast")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.table = max(10_000, slices.Max(o.accounts))
	if *short {
		if o.plot == plotFile {
			o.plot = ""
		}
		if o.report == reportFile {
			o.report = ""
		}
		o.accounts, o.clients, o.table, o.duration = []int{1, 50}, []int{4}, 50, 50*time.Millisecond
	}
	if o.duration <= 0 || o.rounds < 1 || flags.NArg() > 0 {
		return o, errors.New("a duration and at least 1 round, and flags only; see -help")
	}
	return o, nil
}

// run is the program. What it is doing goes to stderr.
func run(ctx context.Context, args []string, databaseURL string, stdout, stderr io.Writer) (err error) {
	o, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	if o.draw {
		text, err := os.ReadFile(o.report)
		if err != nil {
			return err
		}
		return o.writePlot(string(text))
	}
	server, err := openServer(ctx, databaseURL, o.table)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close(ctx)) }()
	about, err := testbed.Describe(ctx, server.admin, server.local != nil)
	if err != nil {
		return err
	}
	results, err := contest(ctx, server, o, stderr)
	if err != nil {
		return err
	}
	about += fmt.Sprintf(" Each measurement took %s", o.duration)
	if o.rounds > 1 {
		about += fmt.Sprintf(", in %d rounds; the numbers are those of the median", o.rounds)
	}
	about += ".\n"
	text := report(about, results, o)
	if o.plot != "" {
		if err := o.writePlot(text); err != nil {
			return err
		}
	}
	if o.report != "" {
		return os.WriteFile(o.report, []byte(text), 0o644)
	}
	_, err = io.WriteString(stdout, text)
	return err
}

func (o options) writePlot(report string) error {
	svg, err := svgOf(report)
	if err != nil {
		return err
	}
	return os.WriteFile(o.plot, svg, 0o644)
}

// cell is what is measured: who, and under what contention.
type cell struct {
	contestant        string
	accounts, clients int
}

type results map[cell]measurement

// contest measures everything, round by round: what disturbs the machine for a while then disturbs several.
func contest(ctx context.Context, server *server, o options, progress io.Writer) (results, error) {
	rounds := make(map[cell][]measurement)
	for round := range o.rounds {
		for _, clients := range o.clients {
			for _, accounts := range o.accounts {
				for _, c := range contestants {
					if !o.only.MatchString(c.name) {
						continue
					}
					at := cell{c.name, accounts, clients}
					m, err := measure(ctx, server, o, c, at)
					if err != nil {
						return nil, fmt.Errorf("%s, %d accounts, %d clients: %w", c.name, accounts, clients, err)
					}
					rounds[at] = append(rounds[at], m)
					fmt.Fprintf(progress, "round %d/%d, %d clients, %d accounts: %s: %.0f/s, %.2f retries, p99 %s\n",
						round+1, o.rounds, clients, accounts, c.name, m.rate, m.retries, m.p99.Round(10*time.Microsecond))
				}
			}
		}
	}
	all := make(results)
	for at, measured := range rounds {
		slices.SortFunc(measured, func(a, b measurement) int { return cmp.Compare(a.rate, b.rate) })
		all[at] = measured[len(measured)/2]
	}
	return all, nil
}
