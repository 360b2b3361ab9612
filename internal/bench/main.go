// Command bench measures how fast it is from the business transaction to the outcome, beside what one would write
// without Lastseat. All of it is one run on one Postgres:
//
// - end to end: 16 connections ask while the worker settles, with the latency of an outcome at parts of the full rate;
//   - settling alone: the lane, a River worker with a transaction for each job, one with a transaction for a hundred, a
//     River job that does nothing, and set-based SQL on one connection;
//   - asking alone: what the functions cost beside plain INSERTs and COPY, and what a worker makes them wait for;
//   - clients that wait for each outcome, beside a transaction with row locks that writes the same rows;
//   - the write-ahead log of a transfer.
//
// Two other runs show how that changes: -curves with what waits, accounts, the batch and the items of a reservation;
// -settled in one database until so many are settled in it.
//
// Every contestant runs at its own best: River does nothing in a plain schema, the others write by hand to our tables
// without our triggers, with several numbers of workers. All start from vacuumed copies of one database, so every
// contestant finds the same pages. What each has done is checked before its time counts: the ledger has to be whole,
// and every request settled. A contestant that fails ends the run.
//
// The Postgres is that of DATABASE_URL, in databases made for the run and dropped after it, or a private one with fsync
// on. The program itself works on the same cores, which a worker on a machine of its own would not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"slices"
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
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	jobs, slowJobs, accounts int
	asks, backlog            int
	warm                     int // jobs that a contestant settles, uncounted, before its first measurement; 0: none
	rounds, batch            int
	pace                     time.Duration // how long is asked at a part of the full rate
	quick, short, allAskings bool
	curves, keep, peers      bool
	peersDir                 string
	settled                  int
	items                    int // of a stay; 0: nights
	only                     *regexp.Regexp
	limit                    time.Duration
	profile                  string
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	o := options{only: regexp.MustCompile(""), warm: 200}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.jobs, "jobs", 50_000, "requests that a contestant settles")
	flags.IntVar(&o.slowJobs, "slow-jobs", 5_000,
		"requests where one takes milliseconds; hot accounts and reservations by hand get twice as many")
	flags.IntVar(&o.accounts, "accounts", 10_000, "accounts, or resources, at least 5")
	flags.IntVar(&o.asks, "asks", 8_000, "requests that are made to measure a way to ask, at least 100; half of that "+
		"where they are paced, ten times where they come 1,000 at once")
	flags.IntVar(&o.backlog, "backlog", 100_000, "transfers that keep a worker busy while others ask")
	flags.IntVar(&o.rounds, "rounds", 1,
		"how often everything is measured; the tables show medians, and of asking all together")
	flags.IntVar(&o.batch, "batch", 0, "jobs in a batch of the lane; 0: its default")
	flags.DurationVar(&o.limit, "limit", 5*time.Minute, "how long one measurement may take")
	flags.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile of the whole run to this file")
	flags.Func("only", "measure the contestants whose name and workload match this regular expression: ^lane, stays or "+
		"^asking", func(text string) (err error) {
		o.only, err = regexp.Compile(text)
		return err
	})
	flags.DurationVar(&o.pace, "pace", 5*time.Second, "how long clients wait, or ask at a part of the full rate")
	flags.BoolVar(&o.quick, "quick", false, "less of everything and the main contestants only, those by hand and River "+
		"with the numbers of workers that are best as a rule: two to three minutes")
	flags.BoolVar(&o.short, "short", false, "few jobs: to see that it works, not how fast")
	flags.BoolVar(&o.curves, "curves", false, "measure how the lane's rate changes with what waits, accounts, batch and "+
		"items, and nothing else")
	flags.IntVar(&o.settled, "settled", 0, "measure one database until so many requests are settled in it, and nothing "+
		"else: 10,000,000 take half an hour and 20 GB")
	flags.BoolVar(&o.peers, "peers", false, "measure graphile-worker and pg-boss, too, with jobs that do nothing (needs "+
		"node and npm)")
	flags.BoolVar(&o.keep, "keep", false, "leave that database where it is, on the server of DATABASE_URL")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.short {
		o.jobs, o.slowJobs, o.accounts, o.asks, o.backlog, o.warm = 200, 200, 100, 100, 1_000, 0
		o.pace, o.quick, o.allAskings = 100*time.Millisecond, true, true
	} else if o.quick {
		o.jobs, o.slowJobs, o.asks, o.warm, o.pace = 20_000, 1_000, 3_000, 0, time.Second
	}
	if o.jobs < 1 || o.slowJobs < 1 || o.accounts < nights || o.rounds < 1 || o.batch < 0 || o.asks < 100 ||
		o.backlog < 1 || o.settled < 0 || flags.NArg() > 0 {
		return o, errors.New("at least 1 job, 5 accounts, 100 asks, 1 of backlog and 1 round, and flags only; see -help")
	}
	return o, nil
}

// run is the program. The tables go to stdout, what it is doing to stderr.
func run(ctx context.Context, args []string, databaseURL string, stdout, stderr io.Writer) (err error) {
	o, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	stopProfile, err := startProfile(o.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()

	server, err := openServer(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close(ctx)) }()
	if o.peers {
		dir, remove, err := installPeers(ctx)
		if err != nil {
			return err
		}
		defer remove()
		o.peersDir, server.peersDir = dir, dir
	}
	about, err := testbed.Describe(ctx, server.admin, server.local != nil)
	if err != nil {
		return err
	}
	report, err := o.report(ctx, server, stderr)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s\n\n%s", about, report)
	return err
}

// report measures everything, and returns the tables.
func (o options) report(ctx context.Context, server *server, progress io.Writer) (string, error) {
	if o.settled > 0 {
		years, err := live(ctx, server, o, progress)
		return yearsTable(years), err
	}
	if o.curves {
		curves, err := draw(ctx, server, o, progress)
		return curvesTable(curves), err
	}
	rides, err := travel(ctx, server, o, progress)
	if err != nil {
		return "", err
	}
	results, err := contest(ctx, server, o, progress)
	if err != nil {
		return "", err
	}
	answers, err := interview(ctx, server, o, progress)
	if err != nil {
		return "", err
	}
	stays, err := waitAll(ctx, server, o, progress)
	if err != nil {
		return "", err
	}
	log, err := accountOfLog(ctx, server, o, progress)
	if err != nil {
		return "", err
	}
	tables := []string{
		ridesTable(rides), table(results) + agedLine(results), answersTable(answers), staysTable(stays), logTable(log),
	}
	return strings.Join(slices.DeleteFunc(tables, func(t string) bool { return strings.Count(t, "\n") <= 2 }), "\n"), nil
}

// contest measures all contestants, round by round: what disturbs the machine for a while then disturbs several.
func contest(ctx context.Context, server *server, o options, progress io.Writer) ([]result, error) {
	var all []result
	for _, c := range contestants(o) {
		if o.only.MatchString(c.name + ", " + c.workload) {
			all = append(all, result{contestant: c})
		}
	}
	for round := range o.rounds {
		for i := range all {
			r := &all[i]
			if round == 0 && o.warm > 0 { // code and caches, warm; and a mistake shows before minutes are spent
				if _, err := measure(ctx, server, o, r.contestant, min(r.jobs, o.warm)); err != nil {
					return nil, fmt.Errorf("%s, %s, warming up: %w", r.name, r.workload, err)
				}
			}
			run, err := measure(ctx, server, o, r.contestant, r.jobs)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", r.name, r.workload, err)
			}
			r.runs = append(r.runs, run)
			fmt.Fprintf(progress, "round %d/%d: %s, %s: %.0f jobs/s\n", round+1, o.rounds, r.name, r.workload, run.rate())
		}
	}
	return all, nil
}

func startProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() error { pprof.StopCPUProfile(); return file.Close() }, nil
}
