package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How the lane's cost grows: one thing changes, everything else is as in the table of contestants.

// curve is one thing that grows.
type curve struct {
	name   string // what grows
	points []point
}

// point is a place on a curve, with its measurements.
type point struct {
	at       int
	workload string
	jobs     int
	accounts int
	items    int // of a reservation
	batch    int
	runs     []measurement
}

func curves(o options) []*curve {
	grow := func(name string, values []int, set func(p *point, value int)) *curve {
		c := &curve{name: name}
		for _, value := range values {
			p := point{at: value, workload: spread, jobs: o.jobs, accounts: o.accounts, batch: o.batch}
			set(&p, value)
			c.points = append(c.points, p)
		}
		return c
	}
	pending, accounts := []int{10_000, 100_000, 1_000_000}, []int{100, 1_000, 10_000, 100_000}
	batches, items := []int{1, 10, 100, 500, 1_000, 2_000, 5_000}, []int{1, 2, 5, 10, 30}
	if o.short {
		pending, accounts, batches, items = []int{100}, []int{50}, []int{10}, []int{2}
	}
	return []*curve{
		grow("requests that wait", pending, func(p *point, n int) { p.jobs = n }),
		grow("accounts", accounts, func(p *point, n int) { p.accounts = n }),
		// A batch of one job costs a commit for each.
		grow("jobs in a batch", batches, func(p *point, n int) { p.batch, p.jobs = n, min(o.jobs, 2_000*n) }),
		grow("items of a reservation", items, func(p *point, n int) {
			p.workload, p.items, p.jobs = stays, n, max(1, o.jobs/n)
		}),
	}
}

// draw measures all curves, round by round.
func draw(ctx context.Context, server *server, o options, progress io.Writer) ([]*curve, error) {
	all := slices.DeleteFunc(curves(o), func(c *curve) bool { return !o.only.MatchString("curve: " + c.name) })
	for round := range o.rounds {
		for _, c := range all {
			for i := range c.points {
				p := &c.points[i]
				lane := contestant{name: "lane", workload: p.workload, on: ours, verify: verifySettled,
					work: laneWorker(pgx.Serializable, p.batch)}
				here := o
				here.accounts, here.items = p.accounts, p.items
				m, err := measure(ctx, server, here, lane, p.jobs)
				if err != nil {
					return nil, fmt.Errorf("curve: %s, %d: %w", c.name, p.at, err)
				}
				p.runs = append(p.runs, m)
				fmt.Fprintf(progress, "round %d/%d: curve: %s, %d: %.0f jobs/s\n", round+1, o.rounds, c.name, p.at, m.rate())
			}
		}
	}
	return all, nil
}

func curvesTable(all []*curve) string {
	var text strings.Builder
	text.WriteString("| what grows | to | jobs | jobs/s: least, median, most | WAL bytes per job |\n" +
		"| --- | --: | --: | --: | --: |\n")
	for _, c := range all {
		for _, p := range c.points {
			sorted := slices.SortedFunc(slices.Values(p.runs), func(a, b measurement) int {
				return cmp.Compare(a.rate(), b.rate())
			})
			m := sorted[len(sorted)/2]
			fmt.Fprintf(&text, "| %s | %s | %s | %s, %s, %s | %s |\n", c.name, thousands(float64(p.at)),
				thousands(float64(m.jobs)), thousands(sorted[0].rate()), thousands(m.rate()),
				thousands(sorted[len(sorted)-1].rate()), thousands(m.walPerJob()))
		}
	}
	return text.String()
}

// The years: one database in which requests are asked for and settled until there are so many, with autovacuum as it
// comes. At some numbers on the way it is measured.

// year is what the database does when so many are settled.
type year struct {
	settled     int
	asked, lane float64 // requests/s in bulk from one connection, without a worker; jobs/s
	bytes       int64   // of the whole database
}

func years(most int) []int {
	var at []int
	for n := 100_000; n < most; n *= 10 {
		at = append(at, n, min(3*n, most))
	}
	return slices.Compact(append([]int{0}, append(at, most)...))
}

// live settles o.settled requests, and measures on the way.
func live(ctx context.Context, server *server, o options, progress io.Writer) ([]year, error) {
	f := filling{ground: ours, workload: spread, accounts: o.accounts}
	databaseURL, drop, err := server.copied(ctx, f)
	if err != nil {
		return nil, err
	}
	if !o.keep {
		defer drop()
	}
	pool, err := openPool(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	var all []year
	for _, at := range years(o.settled) {
		if err := settleUpTo(ctx, pool, &f, at); err != nil {
			return nil, err
		}
		y, err := liveFor(ctx, pool, &f, o)
		if err != nil {
			return nil, err
		}
		all = append(all, y)
		fmt.Fprintf(progress, "%d settled: asked %.0f/s, lane %.0f/s, %d MB\n", y.settled, y.asked, y.lane, y.bytes>>20)
	}
	return all, verify(ctx, pool, verifySettled(f))
}

// settleUpTo asks and settles in turn.
func settleUpTo(ctx context.Context, pool *pgxpool.Pool, f *filling, most int) error {
	const some = 100_000
	for f.jobs < most {
		n := min(some, most-f.jobs)
		if err := f.settlePast(ctx, pool, f.jobs, n); err != nil {
			return err
		}
		f.jobs += n
	}
	return nil
}

func liveFor(ctx context.Context, pool *pgxpool.Pool, f *filling, o options) (y year, err error) {
	y.settled = f.jobs
	if err := pool.QueryRow(ctx, `SELECT pg_database_size(current_database())`).Scan(&y.bytes); err != nil {
		return y, err
	}
	if _, err := pool.Exec(ctx, "CHECKPOINT"); err != nil {
		return y, fmt.Errorf("checkpoint: %w", err)
	}
	began := time.Now()
	if err := f.askFor(ctx, pool, f.jobs, o.jobs); err != nil {
		return y, fmt.Errorf("ask: %w", err)
	}
	y.asked = float64(o.jobs) / time.Since(began).Seconds()
	f.jobs += o.jobs
	settling, err := laneWorker(pgx.Serializable, o.batch)(ctx, pool, o.jobs)
	y.lane = float64(o.jobs) / settling.elapsed.Seconds()
	return y, err
}

func yearsTable(all []year) string {
	if len(all) == 0 {
		return ""
	}
	var text strings.Builder
	text.WriteString("| settled before | enqueue_many, requests/s | lane, jobs/s | MB | bytes per request |\n" +
		"| --: | --: | --: | --: | --: |\n")
	for _, y := range all {
		each := "-"
		if y.settled > 0 {
			each = thousands(float64(y.bytes) / float64(y.settled))
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s |\n", thousands(float64(y.settled)), thousands(y.asked),
			thousands(y.lane), thousands(float64(y.bytes>>20)), each)
	}
	return text.String()
}
