package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/jobs"
)

// taking holds the flags of commands that reserve resources.
type taking struct {
	reservation string
	asked       []string
	during      rangeFlag
	customer    string
}

func (t *taking) flags(cmd *cobra.Command) {
	reservationFlag(cmd, &t.reservation)
	cmd.Flags().StringArrayVar(&t.asked, "item", nil, "a resource, or RESOURCE=N; may be given several times")
	cmd.Flags().Var(&t.during, "during", "reserve the resources as a whole for a time: START/END")
	cmd.Flags().StringVar(&t.customer, "customer", "", "whose limit it counts for")
	cli.Require(cmd, "item")
}

func (t *taking) items() ([]jobs.Item, error) {
	items := make([]jobs.Item, len(t.asked))
	for i, text := range t.asked {
		item, err := parseItem(text)
		if err != nil {
			return nil, err
		}
		item.During = t.during.given
		items[i] = item
	}
	return items, nil
}

// parseItem reads RESOURCE or RESOURCE=N: N are the digits after the last "=", if nothing else follows it.
func parseItem(text string) (jobs.Item, error) {
	at := strings.LastIndexByte(text, '=')
	if at < 0 || at == len(text)-1 || strings.Trim(text[at+1:], "0123456789") != "" {
		return jobs.Item{Resource: text}, nil
	}
	quantity, err := strconv.ParseInt(text[at+1:], 10, 64)
	if err != nil || quantity < 1 { // the JSON would leave 0 out, which means 1
		return jobs.Item{}, cli.BadData("--item %q: a quantity is a whole number, from 1 to 9223372036854775807", text)
	}
	return jobs.Item{Resource: text[:at], Quantity: quantity}, nil
}

// rangeFlag is a time range on the command line; nil means that it is not given.
type rangeFlag struct{ given *jobs.TimeRange }

// String, Set and Type make it a flag.
func (f *rangeFlag) String() string {
	if f.given == nil {
		return ""
	}
	return f.given.String()
}

// Set accepts START/END as in ISO 8601, and [START,END) as in Postgres.
func (f *rangeFlag) Set(value string) error {
	if start, end, iso := strings.Cut(value, "/"); iso {
		value = "[" + start + "," + end + ")"
	}
	f.given = &jobs.TimeRange{}
	if f.given.UnmarshalText([]byte(value)) != nil {
		return errors.New("it is a time range like 2026-12-01T10:00:00Z/2026-12-01T11:30:00Z, which ends after it starts")
	}
	return nil
}

// Type is what the help shows.
func (f *rangeFlag) Type() string { return "range" }
