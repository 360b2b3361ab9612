// Command soak runs the fault bench for as long as it is asked to, one plan after the other, and stops at the first
// violation: then it looks for the shortest plan that still fails. Its results go to internal/chaos/results.json and
// docs/reliability.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/lastseat/lastseat/internal/chaos"
)

func main() {
	chaos.OwnMounts()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	length, round, pause     time.Duration
	seed, calm               uint64
	faults, plan             string
	results, report, program string
	add, build               string
	tries                    int
	sabotages, peers         bool
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.DurationVar(&o.length, "time", 10*time.Minute, "how long to go on; 0: only write the report")
	flags.DurationVar(&o.round, "round", 45*time.Second, "the length of a plan")
	flags.DurationVar(&o.pause, "pause", 600*time.Millisecond, "between two faults, on average")
	flags.Uint64Var(&o.seed, "seed", uint64(time.Now().Unix()), "of the first plan; the next one has the next")
	flags.Uint64Var(&o.calm, "calm", 2, "every so many plans one has one fault at a time; 0: none has")
	flags.StringVar(
		&o.faults,
		"faults",
		"",
		"only these, with spaces between them; with -sabotages: a part of a sabotage's name",
	)
	flags.StringVar(&o.plan, "plan", "", "carry out this plan (JSON) and no other")
	flags.StringVar(&o.results, "results", "", "add the results to this file")
	flags.IntVar(&o.tries, "tries", 20, "how often a shorter plan is tried after a violation")
	flags.StringVar(&o.build, "build", "", "build the programs into this directory, for -programs, and nothing else")
	flags.StringVar(&o.add, "add", "", "with -time 0: add what this file of results has, of a run elsewhere")
	flags.StringVar(&o.report, "report", "", "write the report to this file")
	flags.StringVar(&o.program, "programs", "", "a directory with the programs; empty: build them")
	flags.BoolVar(&o.sabotages, "sabotages", false, "try the sabotages, and nothing else")
	flags.BoolVar(
		&o.peers,
		"peers",
		false,
		"see what other queues do after a SIGKILL, for 2 minutes each, and nothing else",
	)
	return o, flags.Parse(args)
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	results, err := chaos.ReadResults(o.results)
	if err != nil {
		return err
	}
	if o.length == 0 { // only the report
		return o.write(results)
	}
	if o.build != "" {
		return chaos.BuildWithClock(ctx, o.build)
	}
	if o.program == "" {
		if o.program, err = os.MkdirTemp("", "lastseat-soak-"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(o.program) }()
		if err := chaos.BuildWithClock(ctx, o.program); err != nil {
			return err
		}
	}
	bench, err := chaos.NewBench(ctx, o.program, os.Stdout)
	if err != nil {
		return err
	}
	defer bench.Close()
	work := o.rounds
	switch {
	case o.sabotages:
		work = o.trySabotages
	case o.peers:
		work = tryPeers
	}
	err = work(ctx, bench, results)
	if o.results != "" {
		err = errors.Join(err, results.Write(o.results))
	}
	if o.report != "" {
		err = errors.Join(err, os.WriteFile(o.report, []byte(results.Report()), 0o600))
	}
	return err
}

// write writes the report, after adding the results of a run elsewhere.
func (o options) write(results *chaos.Results) error {
	if o.add != "" {
		others, err := chaos.ReadResults(o.add)
		if err != nil {
			return err
		}
		results.Merge(others)
		if err := results.Write(o.results); err != nil {
			return err
		}
	}
	return os.WriteFile(o.report, []byte(results.Report()), 0o600)
}

// rounds carries out plan after plan.
func (o options) rounds(ctx context.Context, bench *chaos.Bench, results *chaos.Results) error {
	began := time.Now()
	for seed := o.seed; ctx.Err() == nil && (seed == o.seed || time.Since(began)+o.round < o.length); seed++ {
		plan := chaos.NewPlan(seed, min(o.round, o.length), o.pause, strings.Fields(o.faults)...)
		if o.calm > 0 && seed%o.calm == 0 {
			plan = chaos.NewCalmPlan(seed, min(o.round, o.length), o.pause, strings.Fields(o.faults)...)
		}
		if o.plan != "" {
			if err := json.Unmarshal([]byte(o.plan), &plan); err != nil { //nolint:musttag // names as in Go
				return err
			}
		}
		fmt.Print(plan)
		result, err := bench.Run(ctx, plan, chaos.NoSabotage)
		if err != nil {
			return err
		}
		results.Add(result)
		fmt.Printf("seed %d, %.0f s: %d requests, %d faults, calls %v, refusals %v, longest standstill %v\n", seed,
			result.Took.Seconds(), result.Requests, len(result.Happened), result.Calls, result.Refusals, result.Longest)
		if len(result.Lost) > 0 {
			fmt.Printf("lost with a primary whose standby was asynchronous: %d, %v\n", len(result.Lost), result.Lost)
		}
		if len(result.Violations) > 0 {
			return o.reduce(ctx, bench, result)
		}
		if o.plan != "" {
			break
		}
	}
	return nil
}

// reduce tells of the violations and looks for the shortest plan that has some.
func (o options) reduce(ctx context.Context, bench *chaos.Bench, result *chaos.Result) error {
	for _, v := range result.Violations {
		fmt.Println("VIOLATION", v)
	}
	fmt.Println(result.Logs)
	if o.tries == 0 {
		return fmt.Errorf("seed %d has %d violations", result.Plan.Seed, len(result.Violations))
	}
	shortest := chaos.Reduce(result.Plan, o.tries, func(plan chaos.Plan) bool {
		fmt.Printf("%d steps\n", len(plan.Steps))
		again, err := bench.Run(ctx, plan, chaos.NoSabotage)
		return err == nil && len(again.Violations) > 0
	})
	return fmt.Errorf("seed %d has %d violations; the shortest plan that still fails: -plan '%s'", result.Plan.Seed,
		len(result.Violations), shortest.JSON())
}

func tryPeers(ctx context.Context, bench *chaos.Bench, results *chaos.Results) (err error) {
	results.Peers, err = bench.Peers(ctx, 2*time.Minute)
	return err
}

func (o options) trySabotages(ctx context.Context, bench *chaos.Bench, results *chaos.Results) error {
	var missed error
	for _, sabotage := range chaos.Sabotages() {
		if o.faults != "" && !strings.Contains(sabotage.Name, o.faults) {
			continue
		}
		caught, err := bench.Try(ctx, sabotage)
		if err != nil {
			missed = errors.Join(missed, err)
			continue
		}
		fmt.Printf("%-25s seen by %s after %.0f s\n", sabotage.Name, caught.Check, caught.Seconds)
		results.Sabotages[sabotage.Name] = caught
	}
	return missed
}
