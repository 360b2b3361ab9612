package jobs

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// Item is a part of a reservation: a quantity of a resource, or the whole of it for a time.
type Item struct {
	Resource string     `json:"resource"`
	Quantity int64      `json:"quantity,omitempty"` // 0: one; with During nothing else
	During   *TimeRange `json:"during,omitempty"`
}

// TimeRange is half-open: Start belongs to it, End does not.
type TimeRange struct {
	Start, End time.Time
}

// String is what Postgres reads as a tstzrange, in UTC.
func (r TimeRange) String() string {
	return fmt.Sprintf("[%s,%s)", r.Start.UTC().Format(time.RFC3339Nano), r.End.UTC().Format(time.RFC3339Nano))
}

// MarshalText makes a JSON string of it.
func (r TimeRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText and Postgres write.
func (r *TimeRange) UnmarshalText(text []byte) error {
	parsed, err := parseRange(string(text))
	*r = parsed
	return err
}

func (r TimeRange) overlaps(other TimeRange) bool {
	return r.Start.Before(other.End) && other.Start.Before(r.End)
}

// neverTogether says why items can't be taken together, whatever others give up and however much there is; nil: they
// may be. For lastseat.check_items_fit.
func neverTogether(items []Item) error {
	sums := make(map[string]int64)
	for i, it := range items {
		if it.During == nil {
			if sums[it.Resource] > math.MaxInt64-max(1, it.Quantity) {
				return fmt.Errorf("the items ask for more than %d of %q", int64(math.MaxInt64), it.Resource)
			}
			sums[it.Resource] += max(1, it.Quantity)
			continue
		}
		for j, other := range items[:i] {
			if other.Resource == it.Resource && other.During != nil && other.During.overlaps(*it.During) {
				return fmt.Errorf("items %d and %d take %q at times that overlap", j+1, i+1, it.Resource)
			}
		}
	}
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

// rangeFormat is a half-open range as Postgres writes it: each bound in quotes, or not, and with its offset.
var rangeFormat = func() *regexp.Regexp {
	const at = `([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9])(:[0-5][0-9](?:\.[0-9]{1,9})?)?` +
		`([Zz]|[+-](?:0[0-9]|1[0-4])(?::[0-5][0-9])?)`
	const bound = `(?:` + at + `|"` + at + `")`
	return regexp.MustCompile(`^\[` + bound + `, ?` + bound + `\)$`)
}()

func rangeArg(name string, value gjson.Result, r *TimeRange) (err error) {
	if value.Type == gjson.String {
		*r, err = parseRange(value.Str)
	}
	if value.Type != gjson.String || err != nil {
		const example = "[2026-11-23T10:00:00Z,2026-11-23T11:30:00Z)"
		return fmt.Errorf("%q is %.100s: a time range has a start before its end, each with its offset, %s",
			name, value.Raw, example)
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
		if offset = strings.ToUpper(offset); len(offset) == len("+01") {
			offset += ":00"
		}
		if *bound, err = time.Parse(time.RFC3339Nano, day+"T"+minute+second+offset); err != nil {
			return r, err
		}
		*bound = bound.UTC().Truncate(time.Microsecond)
		if !isStorable(*bound) {
			return r, fmt.Errorf("%.100q is not in the years 2 to 9999", text)
		}
	}
	if !r.Start.Before(r.End) {
		return r, fmt.Errorf("%.100q has no start before its end", text)
	}
	return r, nil
}
