package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// timeFlag is a time on the command line. The zero time means that none is given.
type timeFlag struct {
	at    time.Time
	dates bool // a date is accepted too, and means 00:00 UTC
}

// String, Set and Type make it a flag.
func (f *timeFlag) String() string {
	if f.at.IsZero() {
		return ""
	}
	return f.at.Format(time.RFC3339Nano)
}

// Set accepts RFC 3339.
func (f *timeFlag) Set(value string) error {
	if _, err := time.Parse("2006-01-02T15:04:05", strings.Replace(value, " ", "T", 1)); err == nil {
		value = strings.Replace(value, " ", "T", 1)
		return fmt.Errorf("a time needs its offset, %sZ for UTC, or %s+01:00", value, value)
	}
	at, err := time.Parse(time.RFC3339, strings.ToUpper(value))
	if err != nil && f.dates {
		at, err = time.Parse(time.DateOnly, value)
	}
	switch {
	case (err != nil || at.IsZero()) && f.dates:
		return errors.New("it is a time like 2026-11-23T12:00:00Z, or a date like 2026-11-23")
	case err != nil || at.IsZero():
		return errors.New("it is a time like 2026-11-23T12:00:00Z")
	}
	f.at = at.UTC()
	return nil
}

// Type is what the help shows.
func (f *timeFlag) Type() string { return "time" }
