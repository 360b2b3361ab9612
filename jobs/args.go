package jobs

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/bojanz/currency"
	"github.com/tidwall/gjson"
)

// The rules of arguments, for jobs that came past the SQL functions. They are those of lastseat.check_args, to the
// letter: TestConformance puts the same arguments through both doors.
//
// gjson and not encoding/json, which takes "FROM" for "from".

// eachArg calls set for every argument that is given; a null stands for one that is not. Unknown ones are an error, null
// or not.
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
	if n := utf8.RuneCountInString(value.Str); value.Type != gjson.String || n < 1 || n > 200 {
		return fmt.Errorf("%q is %.50s: an id is text of 1 to 200 characters", name, value.Raw)
	}
	*id = value.Str
	return nil
}

func amountArg(name string, value gjson.Result, amount *int64) error {
	n, err := strconv.ParseInt(value.Raw, 10, 64)
	if value.Type != gjson.Number || err != nil || n < 1 {
		return fmt.Errorf("%q is %.50s: an amount is a whole number of minor units, from 1 to 9223372036854775807", name, value.Raw)
	}
	*amount = n
	return nil
}

func currencyArg(name string, value gjson.Result, code *string) error {
	if value.Type != gjson.String || !currency.IsValid(value.Str) || value.Str == "" {
		return fmt.Errorf("%q is %.50s: a currency is an active ISO 4217 code in upper case", name, value.Raw)
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

// timeFormat is RFC 3339 with its offset. A pattern, for time.Parse takes more. The years are 2 to 9999: in year 1 is Go's
// zero time, which stands for none, and Go and JSON have no year 10000.
var timeFormat = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$`)

func timeArg(name string, value gjson.Result, at *time.Time) error {
	parsed, err := time.Parse(time.RFC3339Nano, value.Str)
	parsed = parsed.UTC()
	if value.Type != gjson.String || err != nil || !timeFormat.MatchString(value.Str) || parsed.Year() < 2 || parsed.Year() > 9999 {
		return fmt.Errorf("%q is %.50s: a time is RFC 3339 with its offset, 2026-11-23T12:00:00Z", name, value.Raw)
	}
	*at = parsed.Truncate(time.Microsecond) // what the table holds
	return nil
}

func boolArg(name string, value gjson.Result, b *bool) error {
	if !value.IsBool() {
		return fmt.Errorf("%q is %.50s, not true or false", name, value.Raw)
	}
	*b = value.Bool()
	return nil
}

func itemsArg(name string, value gjson.Result, items *[]Item) error {
	list := value.Array()
	if !value.IsArray() || len(list) == 0 {
		return fmt.Errorf("%q is %.50s, not a list of at least one", name, value.Raw)
	}
	*items = nil
	for i, element := range list {
		item, err := itemArg(element)
		if err != nil {
			return fmt.Errorf("item %d: %w", i+1, err)
		}
		*items = append(*items, item)
	}
	return nil
}

func itemArg(element gjson.Result) (item Item, err error) {
	if !element.IsObject() {
		return item, fmt.Errorf("it is %.50s, not an object", element.Raw)
	}
	element.ForEach(func(key, value gjson.Result) bool {
		name := key.Str
		switch given := value.Type != gjson.Null; name {
		case "resource":
			if given {
				err = idArg(name, value, &item.Resource)
			}
		case "quantity":
			if given {
				err = amountArg(name, value, &item.Quantity)
			}
		case "during":
			if given {
				item.During = &TimeRange{}
				err = rangeArg(name, value, item.During)
			}
		default:
			err = fmt.Errorf("there is no argument %q", name)
		}
		return err == nil
	})
	switch {
	case err != nil:
		return item, err
	case item.Resource == "":
		return item, missing("resource")
	case item.During != nil && item.Quantity > 1:
		return item, fmt.Errorf(`"quantity" is %d: a time range takes the resource as a whole`, item.Quantity)
	}
	return item, nil
}

// rangeFormat is a half-open range as Postgres writes it: each bound in quotes, or not. A time without an offset is UTC.
var rangeFormat = func() *regexp.Regexp {
	const at = `([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]((?:[01][0-9]|2[0-3]):[0-5][0-9])(:[0-5][0-9](?:\.[0-9]{1,9})?)?(Z|[+-](?:0[0-9]|1[0-4])(?::[0-5][0-9])?)?`
	const bound = `(?:` + at + `|"` + at + `")`
	return regexp.MustCompile(`^\[` + bound + `, ?` + bound + `\)$`)
}()

func rangeArg(name string, value gjson.Result, r *TimeRange) (err error) {
	if value.Type == gjson.String {
		*r, err = parseRange(value.Str)
	}
	if value.Type != gjson.String || err != nil {
		return fmt.Errorf("%q is %.100s: a time range has a start before its end, [2026-11-23T10:00:00Z,2026-11-23T11:30:00Z)", name, value.Raw)
	}
	return nil
}

func parseRange(text string) (r TimeRange, err error) {
	parts := rangeFormat.FindStringSubmatch(text)
	if parts == nil {
		return r, fmt.Errorf("%.100q is not a half-open time range", text)
	}
	for i, bound := range []*time.Time{&r.Start, &r.End} {
		if parts[1+8*i] == "" { // in quotes
			copy(parts[1+8*i:], parts[5+8*i:9+8*i])
		}
		day, minute, second, offset := parts[1+8*i], parts[2+8*i], parts[3+8*i], parts[4+8*i]
		if second == "" {
			second = ":00"
		}
		switch len(offset) {
		case 0:
			offset = "Z"
		case len("+01"):
			offset += ":00"
		}
		if *bound, err = time.Parse(time.RFC3339Nano, day+"T"+minute+second+offset); err != nil {
			return r, err
		}
		*bound = bound.UTC().Truncate(time.Microsecond)
		if bound.Year() < 2 || bound.Year() > 9999 {
			return r, fmt.Errorf("%.100q is not in the years 2 to 9999", text)
		}
	}
	if !r.Start.Before(r.End) {
		return r, fmt.Errorf("%.100q has no start before its end", text)
	}
	return r, nil
}

func missing(name string) error { return fmt.Errorf("%q is missing", name) }
