// Package audit proves a Lastseat database: every rule that must hold, as a query for the rows that break it.
package audit

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Check is one rule.
type Check struct {
	Name string
	Rule string // what must hold, in a sentence
	// sql selects the rows that break the rule, each as one text that names the row and what is wrong.
	sql string
	// run finds them where that is no query; sql is empty.
	run func(ctx context.Context, tx pgx.Tx, since *Seal) ([]string, error)
}

// Finding is what became of a [Check].
type Finding struct {
	Check      string   `json:"check"`
	Rule       string   `json:"rule"`
	OK         bool     `json:"ok"`
	Violations []string `json:"violations"` // the first of them
}

// mostViolations of a check are read; one is enough to fail, and the first tell what it is about.
const mostViolations = 20

// Beginner is what a pgx connection and pool have in common.
type Beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Observer is told what an audit does. Each function may be nil.
type Observer struct {
	Announce func(Check)   // before each check: one may take minutes
	Report   func(Finding) // after each check
	Count    func(Counts)  // at the end, unless the audit was broken off
	// Seal is called at the end if every rule holds, with the ends of the history in the snapshot that was proved.
	Seal func(*Seal)
	// Since is a seal that the history has to contain; nil: none.
	Since *Seal
	// Archive is the directory to which retention has written what it removed; empty: its files are not looked at.
	Archive string
}

// Run makes all checks on one snapshot of the database, so that a worker may go on meanwhile, and calls report after
// each. It only reads. ok tells whether every rule holds.
func Run(ctx context.Context, db Beginner, report func(Finding)) (ok bool, err error) {
	return RunObserved(ctx, db, Observer{Report: report})
}

// RunObserved is [Run], and also tells the observer which check comes next and how many rows were proved.
func RunObserved(ctx context.Context, db Beginner, o Observer) (ok bool, err error) {
	tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	defer readEveryTime(tx.Conn())()
	// Every check reads whole tables. In the order of an index each row of millions would be a read of its own.
	if _, err := tx.Exec(ctx, "SET LOCAL enable_indexscan = off; SET LOCAL timezone = 'UTC'"); err != nil {
		return false, err
	}
	ok = true
	checks := Checks
	if o.Archive != "" {
		checks = append(slices.Clone(Checks), archived(o.Archive), archivedBalances(o.Archive))
	}
	for _, check := range checks {
		if o.Announce != nil {
			o.Announce(check)
		}
		violations, err := violations(ctx, tx, check, o.Since)
		if err != nil {
			return false, fmt.Errorf("check %s: %w", check.Name, err)
		}
		ok = ok && len(violations) == 0
		if o.Report != nil {
			o.Report(Finding{Check: check.Name, Rule: check.Rule, OK: len(violations) == 0, Violations: violations})
		}
	}
	if o.Seal != nil && ok {
		seal, err := takeSeal(ctx, tx)
		if err != nil {
			return false, err
		}
		o.Seal(seal)
	}
	if o.Count == nil {
		return ok, nil
	}
	counts, err := count(ctx, tx)
	if err != nil {
		return false, fmt.Errorf("count the rows: %w", err)
	}
	o.Count(counts)
	return ok, nil
}

// Materialized: what is under a LIMIT is planned for its first rows, with an index probe for each of millions. A rule
// that holds has no first rows.
const violationsSQL = `
	WITH broken(violation) AS MATERIALIZED (%s)
	SELECT violation FROM broken LIMIT %d`

func violations(ctx context.Context, tx pgx.Tx, check Check, since *Seal) ([]string, error) {
	if check.run != nil {
		found, err := check.run(ctx, tx, since)
		return append([]string{}, found...), err
	}
	rows, err := tx.Query(ctx, fmt.Sprintf(violationsSQL, check.sql, mostViolations))
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if found == nil {
		found = []string{}
	}
	return found, err
}
