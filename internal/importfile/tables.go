package importfile

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/lastseat/lastseat/internal/money"
	"github.com/lastseat/lastseat/jobs"
)

// schema is what a CSV file can hold: columns in any order, and how a row becomes a record.
type schema struct {
	format   string
	columns  []string
	optional []string // those of columns that a file may lack
	parse    func(*row) Record
}

var schemas = []*schema{
	{
		FormatTransfers, []string{"key", "from_account", "to_account", "amount", "currency", "description", "metadata"},
		[]string{"description", "metadata"}, parseTransfer,
	},
	{FormatAccounts, []string{"account", "currency", "overdraft"}, nil, parseAccount},
	{FormatResources, []string{"resource", "capacity", "overbook"}, []string{"overbook"}, parseResource},
}

func parseTransfer(r *row) Record {
	key := r.id("key")
	var args jobs.Transfer
	args.From, args.To = r.id("from_account"), r.id("to_account")
	if args.From == args.To {
		r.failf("to_account", "from_account and to_account are both %s: a transfer needs two accounts", quote(args.From))
	}
	args.Currency = r.currency()
	args.Amount = r.amount("amount", args.Currency)
	if args.Amount <= 0 {
		r.failf("amount", "amount %s is not more than 0: to move money the other way, swap from_account and to_account",
			quote(r.text("amount")))
	}
	args.Description = r.text("description")
	args.Metadata = r.object("metadata")
	raw, err := json.Marshal(args)
	if err != nil {
		r.failf("key", "writing the arguments as JSON: %s", err)
	}
	return Record{Request: &Request{Kind: args.Kind(), Key: key, Args: raw}}
}

func parseAccount(r *row) Record {
	account := &Account{ID: r.id("account"), Currency: r.currency()}
	switch overdraft := r.text("overdraft"); overdraft {
	case "unlimited":
		return Record{Account: account}
	case "":
		account.OverdraftLimit = new(int64)
	default:
		limit := r.amount("overdraft", account.Currency)
		if limit < 0 {
			r.failf("overdraft", "overdraft %s is less than 0: write how far below zero the account may go", quote(overdraft))
		}
		account.OverdraftLimit = &limit
	}
	return Record{Account: account}
}

func parseResource(r *row) Record {
	resource := &Resource{ID: r.id("resource"), Capacity: r.count("capacity")}
	if r.text("overbook") != "" {
		overbook := r.count("overbook")
		if overbook > math.MaxInt64-resource.Capacity {
			r.failf("overbook", "capacity %d and overbook %d are more than %d together: write what is really there",
				resource.Capacity, overbook, int64(math.MaxInt64))
		}
		resource.Overbook = &overbook
	}
	return Record{Resource: resource}
}

// chooseSchema returns the one that shares most columns with the header, so that a misspelt column is an
// error about that column; nil if that doesn't single one out.
func chooseSchema(header []string) *schema {
	var best *schema
	most := 0
	for _, s := range schemas {
		shared := 0
		for _, column := range s.columns {
			if slices.Contains(header, column) {
				shared++
			}
		}
		switch {
		case shared > most:
			best, most = s, shared
		case shared == most:
			best = nil
		}
	}
	return best
}

// check says what is wrong with a header, or nothing.
func (s *schema) check(header []string) string {
	known := fmt.Sprintf("the columns of %s are %s", s.format, strings.Join(s.columns, ", "))
	for i, column := range header {
		switch {
		case !slices.Contains(s.columns, column):
			return fmt.Sprintf("column %s is unknown: %s", quote(column), known)
		case slices.Contains(header[:i], column):
			return fmt.Sprintf("column %s is there twice: %s", quote(column), known)
		}
	}
	for _, column := range s.columns {
		if !slices.Contains(s.optional, column) && !slices.Contains(header, column) {
			return fmt.Sprintf("column %s is missing: %s", quote(column), known)
		}
	}
	return ""
}

func knownHeaders() string {
	var headers []string
	for _, s := range schemas {
		headers = append(headers, strings.Join(s.columns, ","))
	}
	return strings.Join(headers, " or ")
}

// row reads the fields of the table's current row. The first error sticks; what comes after it doesn't count,
// so that a parse function reads like the table that it describes.
type row struct {
	table *csvTable
	err   error
}

func (r *row) failf(column, format string, args ...any) {
	if r.err == nil {
		r.err = errorf(r.table.line(r.table.column[column]), format, args...)
	}
}

// text is the field of a column, or "" where the file lacks an optional one.
func (r *row) text(column string) string {
	if i, ok := r.table.column[column]; ok {
		return r.table.fields[i]
	}
	return ""
}

// object reads a JSON object; nil where there is none.
func (r *row) object(column string) json.RawMessage {
	text := []byte(strings.TrimSpace(r.text(column)))
	if len(text) == 0 {
		return nil
	}
	if !json.Valid(text) || text[0] != '{' {
		r.failf(column, `%s %s is not a JSON object: write "{""order"": 7}", with the quotes doubled`, column,
			quote(string(text)))
		return nil
	}
	if msg := checkEscapes(text); msg != "" {
		r.failf(column, "%s: %s", column, msg)
	}
	return text
}

func (r *row) id(column string) string {
	id := r.text(column)
	if msg := checkID(column, id); msg != "" {
		r.failf(column, "%s", msg)
	}
	return id
}

func (r *row) currency() string {
	code := r.text("currency")
	_, err := money.Digits(code)
	if know := r.table.know; err != nil && know != nil {
		if err := know(code); err != nil && r.err == nil {
			r.err = err // of the database, not of the file
		}
		_, err = money.Digits(code)
	}
	if err != nil {
		r.failf("currency", "%s", err)
	}
	return code
}

// amount reads a decimal in the currency's unit as minor units.
func (r *row) amount(column, currency string) int64 {
	minor, err := money.Parse(r.text(column), currency)
	switch {
	case err == nil:
	case column == "overdraft":
		r.failf(column, `overdraft: %s, or "unlimited", or nothing for none`, err)
	default:
		r.failf(column, "%s", err)
	}
	return minor
}

// count reads a whole number from 0. Not strconv alone: it takes "+5" and "-0".
func (r *row) count(column string) int64 {
	text := r.text(column)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strings.Trim(text, "0123456789") != "" {
		r.failf(column, "%s %s is not a whole number from 0 to %d: write digits only",
			column, quote(text), int64(math.MaxInt64))
	}
	return n
}
