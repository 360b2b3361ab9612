package jobs

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/lastseat/lastseat/internal/naming"
)

// The rules of arguments, for jobs that were inserted directly, bypassing the SQL functions. They are those of the SQL
// functions, to the letter: TestConformance puts the same arguments through both doors.
//
// They use gjson, because encoding/json takes "FROM" for "from".

// eachArg calls set for every argument that is given. A null counts as not given, but an unknown argument is an error
// even if it is null.
func eachArg(args []byte, set func(name string, value gjson.Result) (known bool, err error)) error {
	var failed error
	gjson.ParseBytes(args).ForEach(func(name, value gjson.Result) bool {
		if name.Str == "key" {
			return true
		}
		known, err := set(name.Str, value)
		switch {
		case !known:
			err = fmt.Errorf("there is no argument %q", name.Str)
		case value.Type == gjson.Null:
			err = nil // and nothing is set
		}
		failed = err
		return err == nil
	})
	return failed
}

func idArg(name string, value gjson.Result, id *string) error {
	if n := utf8.RuneCountInString(value.Str); value.Type != gjson.String || n < 1 || n > naming.Longest {
		return fmt.Errorf("%q is %.50s: an id is text of 1 to 200 characters", name, value.Raw)
	}
	if fault := naming.Check(value.Str); fault != "" {
		return fmt.Errorf("%q %s: %s", name, fault, naming.Rule)
	}
	*id = value.Str
	return nil
}

// accountArg is the id of an account that requests may name: money under way at a processor is the worker's alone to
// move.
func accountArg(name string, value gjson.Result, id *string) error {
	if strings.HasPrefix(value.Str, ownAccounts) {
		return fmt.Errorf("%q is %.50q: accounts that begin with %s are the worker's own", name, value.Str, ownAccounts)
	}
	return idArg(name, value, id)
}

func amountArg(name string, value gjson.Result, amount *int64) error {
	n, err := strconv.ParseInt(value.Raw, 10, 64)
	if value.Type != gjson.Number || err != nil || n < 1 {
		return fmt.Errorf("%q is %.50s: an amount is a whole number of minor units, from 1 to 9223372036854775807",
			name, value.Raw)
	}
	*amount = n
	return nil
}

// currencyFormat is the form of a currency's code, as in the table currencies. Whether there is one of that code, the
// accounts tell: none is in a currency that there is not.
var currencyFormat = regexp.MustCompile(`^[A-Z][A-Z0-9]{2,11}$`)

func currencyArg(name string, value gjson.Result, code *string) error {
	if value.Type != gjson.String || !currencyFormat.MatchString(value.Str) || value.Str == "XXX" || value.Str == "XTS" {
		return fmt.Errorf("%q is %.50s: a currency is a code in upper case, such as EUR", name, value.Raw)
	}
	*code = value.Str
	return nil
}

func textArg(name string, value gjson.Result, text *string) error {
	if value.Type != gjson.String {
		return fmt.Errorf("%q is %.50s, not text", name, value.Raw)
	}
	*text = value.Str
	return nil
}

func objectArg(name string, value gjson.Result, object *[]byte) error {
	if !value.IsObject() {
		return fmt.Errorf("%q is %.50s, not a JSON object", name, value.Raw)
	}
	*object = []byte(value.Raw)
	return nil
}

// timeFormat is RFC 3339 with its offset; time.Parse alone takes more. The years are 2 to 9999: Go's zero time, which
// stands for none, is in year 1, and JSON has no year 10000.
var timeFormat = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]` +
	`(\.[0-9]{1,9})?([Zz]|[+-](0[0-9]|1[0-4]):[0-5][0-9])$`)

func timeArg(name string, value gjson.Result, at *time.Time) error {
	parsed, err := time.Parse(time.RFC3339Nano, strings.ToUpper(value.Str))
	parsed = parsed.UTC()
	fits := value.Type == gjson.String && err == nil && timeFormat.MatchString(value.Str) && isStorable(parsed)
	if !fits {
		return fmt.Errorf("%q is %.50s: a time is RFC 3339 with its offset, 2026-11-23T12:00:00Z", name, value.Raw)
	}
	*at = parsed.Truncate(time.Microsecond) // what the table holds
	return nil
}

// isStorable tells whether a time is in the years that Go, JSON and the tables can all hold.
func isStorable(t time.Time) bool { return t.Year() >= 2 && t.Year() <= 9999 }

func boolArg(name string, value gjson.Result, b *bool) error {
	if !value.IsBool() {
		return fmt.Errorf("%q is %.50s, not true or false", name, value.Raw)
	}
	*b = value.Bool()
	return nil
}

func missing(name string) error { return fmt.Errorf("%q is missing", name) }
