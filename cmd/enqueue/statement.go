package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/jsonsafe"
	"github.com/lastseat/lastseat/internal/money"
	"github.com/lastseat/lastseat/jobs"
)

func (p *program) statementCommand() *cobra.Command {
	from, to := timeFlag{dates: true}, timeFlag{dates: true}
	var period jobs.Period
	var format listFormat
	cmd := &cobra.Command{
		Use:   "statement ACCOUNT",
		Short: "Show an account's entries with running balance",
		Long: `Show an account's entries in order, with the balance after each.

It begins after the last entry that was closed, if "worker retain" has closed the account, and says so.

A date means 00:00 UTC. --from is included, --to is not. To read page by page, pass the last version of a page to
--after-version. Amounts are decimals in the account's currency, and minor units in JSON; withdrawals are negative.`,
		Example: "  enqueue statement customer:7 --from 2026-11-01 --to 2026-12-01 --output csv",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			period.From, period.To = from.at, to.at
			switch {
			case period.AfterVersion < 0:
				return cli.Usage("--after-version is %d: a version, or 0", period.AfterVersion)
			case period.MaxEntries < 1 && cmd.Flags().Changed("limit"):
				return cli.Usage("--limit is %d: 1 or more", period.MaxEntries)
			case !period.To.IsZero() && period.From.After(period.To):
				return cli.Usage("--from is later than --to")
			}
			return p.look(cmd, func(pool *pgxpool.Pool) error {
				return p.statement(cmd, pool, args[0], period, format)
			})
		},
	}
	cmd.Flags().Var(&from, "from", "first time or date to show")
	cmd.Flags().Var(&to, "to", "first time or date not to show")
	cmd.Flags().Int64Var(&period.AfterVersion, "after-version", 0, "show only entries after this version")
	cmd.Flags().Int64Var(&period.MaxEntries, "limit", 0, "show at most this many entries (default all)")
	format.flag(cmd)
	return cmd
}

// statement writes entries as they come: there may be more of them than memory.
func (p *program) statement(cmd *cobra.Command, pool *pgxpool.Pool, id string, period jobs.Period,
	format listFormat) error {
	ctx := cmd.Context()
	out := bufio.NewWriter(p.streams.Out)
	// one snapshot: the balance is that of the entries
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, pool, snapshot, func(tx pgx.Tx) error {
		account, err := jobs.BalanceOf(ctx, tx, id)
		if err != nil {
			return err
		}
		// where there is no entry, what the account had when the period ended
		balance := account.Balance
		if !period.To.IsZero() {
			if balance, err = jobs.BalanceAt(ctx, tx, id, period.To); err != nil {
				return err
			}
		}
		if err := know(ctx, tx, account.Currency); err != nil {
			return err
		}
		if err := p.sayClosed(ctx, tx, id, account.Currency, period); err != nil {
			return err
		}
		w := newStatement(format, out, account.Currency, cli.Width(p.streams.Out))
		err = jobs.Statement(ctx, tx, id, period, func(e jobs.Entry) error {
			balance = e.BalanceAfter
			return w.entry(e)
		})
		if err != nil {
			return err
		}
		return w.end(balance)
	})
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	return err
}

// sayClosed says which of the entries that are asked for are no longer shown.
func (p *program) sayClosed(ctx context.Context, tx pgx.Tx, id, currency string, period jobs.Period) error {
	closing, err := jobs.ClosingOf(ctx, tx, id)
	if err != nil || closing == nil || period.From.After(closing.Through) || period.AfterVersion >= closing.Version {
		return err
	}
	_, err = fmt.Fprintf(p.streams.Err,
		"entries up to %d, of %s, were closed on %s and are not shown; the balance was %s\n", closing.Version,
		closing.Through.Format(time.DateTime), closing.ClosedAt.Format(time.DateOnly),
		money.Format(closing.Balance, currency))
	return err
}

func newStatement(format listFormat, out io.Writer, currency string, width int) statementWriter {
	switch format {
	case "json":
		return &jsonStatement{out: out, currency: currency}
	case "csv":
		return newCSVStatement(out, currency)
	default:
		return newTextStatement(out, currency, width)
	}
}

type statementWriter interface {
	entry(e jobs.Entry) error
	// end comes after the last entry, with the balance then.
	end(closing int64) error
}

// jsonStatement is one object a line, amounts in minor units.
type jsonStatement struct {
	out      io.Writer
	currency string
}

func (j *jsonStatement) entry(e jobs.Entry) error {
	return jsonsafe.Encode(j.out, struct {
		jobs.Entry
		Currency string `json:"currency"`
	}{e, j.currency})
}

func (j *jsonStatement) end(int64) error { return nil }

// csvStatement is for spreadsheets and programs.
type csvStatement struct {
	csv      *csvList
	currency string
}

func newCSVStatement(out io.Writer, currency string) *csvStatement {
	c := &csvStatement{csv: newCSVList(out), currency: currency}
	// an error stays in the writer
	_ = c.csv.write([]string{"version", "at", "amount", "balance_after", "currency", "counterparty", "kind", "key",
		"payment", "description"})
	return c
}

func (c *csvStatement) entry(e jobs.Entry) error {
	return c.csv.write([]string{
		strconv.FormatInt(e.Version, 10), e.At.Format(time.RFC3339Nano), money.Format(e.Amount, c.currency),
		money.Format(e.BalanceAfter, c.currency),
		c.currency, e.Counterparty, e.Kind, e.Key, e.Payment, e.Description,
	})
}

func (c *csvStatement) end(int64) error {
	return c.csv.end()
}

// textStatement is for people: a table that begins and ends with a balance.
type textStatement struct {
	table    table
	currency string
	begun    bool
}

func newTextStatement(out io.Writer, currency string, width int) *textStatement {
	s := &textStatement{currency: currency}
	s.table = table{out: out, right: []bool{0: true, 2: true, 3: true, 8: false}, width: width}
	s.table.rows = [][]string{{"VERSION", "AT (UTC)", "AMOUNT", "BALANCE " + currency, "COUNTERPARTY", "KIND", "KEY",
		"PAYMENT", "DESCRIPTION"}}
	return s
}

func (s *textStatement) entry(e jobs.Entry) error {
	if err := s.begin(e.BalanceAfter - e.Amount); err != nil {
		return err
	}
	return s.table.add(strconv.FormatInt(e.Version, 10), e.At.Format(time.DateTime), money.Format(e.Amount, s.currency),
		money.Format(e.BalanceAfter, s.currency),
		cli.OneLine(e.Counterparty), cli.OneLine(e.Kind), cli.OneLine(e.Key), cli.OneLine(e.Payment),
		cli.OneLine(e.Description))
}

func (s *textStatement) begin(opening int64) error {
	if s.begun {
		return nil
	}
	s.begun = true
	return s.table.add("", "opening balance", "", money.Format(opening, s.currency))
}

func (s *textStatement) end(closing int64) error {
	if err := s.begin(closing); err != nil {
		return err
	}
	if err := s.table.add("", "closing balance", "", money.Format(closing, s.currency)); err != nil {
		return err
	}
	return s.table.flush()
}
