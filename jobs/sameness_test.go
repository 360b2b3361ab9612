package jobs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// meaning is what a request asks for: the values of its arguments, whatever their spelling. A value is a string, an
// int64, a bool, a time.Time, a jobs.TimeRange, a number (in metadata), a list of items, or an object.
type meaning map[string]any

// number is a decimal inside metadata.
type number string

// speller writes meanings as JSON, each time in another way.
type speller struct{ *rapid.T }

func (s speller) pick(what string, ways ...string) string {
	return rapid.SampledFrom(ways).Draw(s.T, what)
}

func (s speller) flip(what string) bool { return rapid.Bool().Draw(s.T, what) }

func (s speller) value(v any) string {
	switch v := v.(type) {
	case string:
		return s.text(v)
	case int64:
		return s.integer(v)
	case bool:
		return fmt.Sprint(v)
	case number:
		return s.pick("number", string(v)+"0", string(v), string(v)+"00e0")
	case time.Time:
		return s.text(s.time(v))
	case jobs.TimeRange:
		return s.text(s.timeRange(v))
	case []meaning:
		all := make([]string, len(v))
		for i := range v {
			all[i] = s.object(v[i], map[string][]string{"quantity": {"1", "null", "1e0"}, "during": {"null"}})
		}
		return "[" + strings.Join(rapid.Permutation(all).Draw(s.T, "order"), ",") + "]"
	case meaning:
		return s.object(v, nil)
	}
	panic(fmt.Sprintf("%T", v))
}

func (s speller) text(text string) string {
	encoded, _ := json.Marshal(text)
	if first := text[0]; first >= 'a' && first <= 'z' && s.flip("escape") {
		return fmt.Sprintf(`"\u%04x%s`, first, encoded[2:])
	}
	return string(encoded)
}

func (s speller) integer(n int64) string {
	if n%10 == 0 && s.flip("exponent") {
		return fmt.Sprintf("%de1", n/10)
	}
	return fmt.Sprint(n)
}

func (s speller) time(at time.Time) string {
	zone := time.FixedZone("", 60*rapid.SampledFrom([]int{0, 60, -210, 839, -839}).Draw(s.T, "offset"))
	text := at.In(zone).Format("2006-01-02T15:04:05" + s.pick("fraction", ".999999", ".000000", ".000000000") + "Z07:00")
	if local, ok := strings.CutSuffix(text, "Z"); ok {
		text = local + s.pick("zero", "Z", "z", "+00:00", "-00:00")
	}
	return strings.Replace(text, "T", s.pick("T", "T", "t"), 1)
}

func (s speller) timeRange(r jobs.TimeRange) string {
	quote := s.pick("quote", "", `"`)
	return "[" + quote + s.time(r.Start) + quote + s.pick("comma", ",", ", ") + s.time(r.End) + ")"
}

// object writes the members in any order, and of those that are left out some, in a spelling that means the same.
func (s speller) object(m meaning, leftOut map[string][]string) string {
	var members []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		members = append(members, s.text(name)+":"+s.value(m[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(leftOut)) {
		if _, given := m[name]; !given && s.flip("say that nothing is given") {
			members = append(members, s.text(name)+":"+s.pick("nothing", leftOut[name]...))
		}
	}
	return "{" + strings.Join(rapid.Permutation(members).Draw(s.T, "order"), ",") + "}"
}

// ways are, for each kind, the arguments that may be left out, and the spellings that mean the same.
var ways = map[string]map[string][]string{
	jobs.KindTransfer:  {"description": {"null", `""`}, "metadata": {"null", "{}"}},
	jobs.KindAuthorize: {"expires_at": {"null", `"2999-01-01T00:00:00Z"`, `"2999-01-02T00:00:00Z"`}},
	jobs.KindCapture:   {"amount": {"null"}},
	jobs.KindRefund:    {"amount": {"null"}, "reference": {"null"}},
	jobs.KindCharge:    {},
	jobs.KindVoid:      {}, jobs.KindReverse: {}, jobs.KindConfirm: {}, jobs.KindCancel: {}, jobs.KindExtend: {},
	jobs.KindHold: {
		"expires_at": {"null", `"2999-01-01T00:00:00Z"`}, "customer": {"null"}, "wait": {"null", "false"},
	},
	jobs.KindBook: {
		"expires_at": {"null", `"2999-01-01T00:00:00Z"`}, "customer": {"null"},
		"description": {"null", `""`}, "metadata": {"null", "{}"},
	},
}

// draw makes up a request of a kind. id is new.
func draw(t *rapid.T, kind, id string) meaning {
	s := speller{t}
	m := meaning{}
	money := func() {
		m["from"], m["to"], m["currency"] = s.pick("from", "a", "b"), s.pick("to", "c", "d"), "EUR"
		m["amount"] = rapid.Int64Range(1, 40).Draw(t, "amount")
	}
	words := func() {
		if s.flip("description") {
			m["description"] = s.pick("text", "lunch", "1.50 \"2.0\\", "3.00")
		}
		if s.flip("metadata") {
			m["metadata"] = meaning{"n": number(s.pick("n", "1.5", "20.25", "0.1")), "null": meaning{}, "s": `1.50\ "2.0`}
		}
	}
	items := func() {
		var all []meaning
		for i := range rapid.IntRange(1, 4).Draw(t, "items") {
			item := meaning{"resource": s.pick("resource", "seat", "table", "room")}
			switch n := rapid.Int64Range(1, 10).Draw(t, "quantity"); {
			case n > 6:
				// Each at a time of its own: a hold that waits may not want a resource twice at a time.
				at := time.Date(2030, time.Month(1+i), int(n), 12, 0, 0, int(n)*1000, time.UTC)
				item["during"] = jobs.TimeRange{Start: at, End: at.Add(time.Hour)}
			case n > 1:
				item["quantity"] = n
			}
			all = append(all, item)
		}
		m["reservation"], m["items"] = id, all
		if s.flip("customer") {
			m["customer"] = s.pick("who", "ann", "bob")
		}
	}
	switch kind {
	case jobs.KindTransfer:
		money()
		words()
	case jobs.KindAuthorize:
		m["payment"] = id
		money()
	case jobs.KindCharge:
		m["payment"] = id
		money()
		m["processor"], m["method"] = s.pick("processor", "stripe", "other"), s.pick("method", "pm_1", "pm_2")
	case jobs.KindCapture, jobs.KindRefund, jobs.KindVoid:
		m["payment"] = s.pick("payment", "p", "q")
		if kind != jobs.KindVoid && s.flip("amount") {
			m["amount"] = rapid.Int64Range(1, 40).Draw(t, "amount")
		} else if kind == jobs.KindRefund && s.flip("reference") {
			m["reference"] = s.pick("reference", "pi_1", "pi_2")
		}
	case jobs.KindReverse:
		m["transfer"] = s.pick("transfer", "t", "u")
	case jobs.KindHold:
		items()
		if s.flip("wait") {
			m["wait"] = true
		}
	case jobs.KindBook:
		items()
		money()
		words()
	default:
		m["reservation"] = s.pick("reservation", "r", "s")
		if kind == jobs.KindExtend {
			m["expires_at"] = time.Date(2999, 6, 1, 12, 0, 0, 1000*rapid.IntRange(0, 2).Draw(t, "us"), time.UTC)
		}
	}
	return m
}

// change makes a request that asks for something else.
func change(t *rapid.T, kind string, m meaning) meaning {
	changed := maps.Clone(m)
	var names []string
	for name := range ways[kind] {
		names = append(names, name)
	}
	names = slices.DeleteFunc(append(names, slices.Collect(maps.Keys(m))...), func(name string) bool {
		return name == "currency" || name == "expires_at" && kind != jobs.KindExtend
	})
	slices.Sort(names)
	name := rapid.SampledFrom(names).Draw(t, "what changes")
	other := map[string][2]any{
		"from": {"a", "b"}, "to": {"c", "d"}, "payment": {"p", "q"}, "transfer": {"t", "u"}, "reservation": {"r", "s"},
		"customer": {"ann", "bob"}, "description": {"lunch", "dinner"}, "amount": {int64(7), int64(8)},
		"metadata":  {meaning{"n": number("1.5")}, meaning{"n": number("1.05")}},
		"processor": {"stripe", "other"}, "method": {"pm_1", "pm_2"}, "reference": {"pi_1", "pi_2"},
	}
	if kind == jobs.KindRefund && name != "payment" { // it has one of the two
		delete(changed, map[string]string{"amount": "reference", "reference": "amount"}[name])
	}
	switch was := m[name].(type) {
	case time.Time:
		changed[name] = was.Add(time.Microsecond)
	case []meaning:
		changed[name] = changeItems(t, was)
	default:
		switch {
		case name == "wait":
			changed[name] = true
			if m[name] == true {
				delete(changed, name)
			}
		case m[name] == nil || fmt.Sprint(m[name]) != fmt.Sprint(other[name][0]):
			changed[name] = other[name][0]
		default:
			changed[name] = other[name][1]
		}
	}
	return changed
}

func changeItems(t *rapid.T, items []meaning) []meaning {
	i := rapid.IntRange(0, len(items)-1).Draw(t, "item")
	item := maps.Clone(items[i])
	changed := slices.Clone(items)
	switch r, ranged := item["during"].(jobs.TimeRange); {
	case rapid.Bool().Draw(t, "one more"):
		if ranged {
			item["during"] = jobs.TimeRange{Start: r.Start.AddDate(1, 0, 0), End: r.End.AddDate(1, 0, 0)}
		}
		return append(changed, item)
	case ranged:
		item["during"] = jobs.TimeRange{Start: r.Start, End: r.End.Add(time.Microsecond)}
	default:
		n, _ := item["quantity"].(int64)
		item["quantity"] = max(1, n) + 1
	}
	changed[i] = item
	return changed
}

// sqlDoors are the ways to ask, besides the job that another client inserts.
var sqlDoors = map[string]func(t *testing.T, pool *pgxpool.Pool, kind, key, args string) (duplicate bool, err error){
	"enqueue": func(t *testing.T, pool *pgxpool.Pool, kind, key, args string) (duplicate bool, err error) {
		err = pool.QueryRow(t.Context(), `SELECT duplicate FROM lastseat.enqueue($1, $2, $3::jsonb)`, kind, key, args).
			Scan(&duplicate)
		return duplicate, err
	},
	"enqueue_many": func(t *testing.T, pool *pgxpool.Pool, kind, key, args string) (duplicate bool, err error) {
		err = pool.QueryRow(t.Context(), `SELECT duplicate FROM lastseat.enqueue_many(
			jsonb_build_array(jsonb_build_object('kind', $1::text, 'key', $2::text, 'args', $3::jsonb)))`, kind, key, args).
			Scan(&duplicate)
		return duplicate, err
	},
	"Go": func(t *testing.T, pool *pgxpool.Pool, kind, key, args string) (duplicate bool, err error) {
		receipts, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{
			{Key: key, Args: outbox.RawArgs{Of: kind, JSON: json.RawMessage(args)}},
		})
		return err == nil && receipts[0].Duplicate, err
	},
}

// A request that says the same in other words is a duplicate; one that asks for something else is refused, at every
// door and for every kind.
func TestSamenessIsOfTheMeaning(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account(id, 'EUR', NULL) FROM unnest('{a,b,c,d}'::text[]) id`)
	exec(t, pool, `SELECT lastseat.define_resource(id, 1000000) FROM unnest('{seat,table,room}'::text[]) id`)
	exec(t, pool, `SELECT lastseat.authorize(id, id, 'a', 'b', 1, 'EUR') FROM unnest('{p,q}'::text[]) id`)
	exec(t, pool, `SELECT lastseat.transfer(id, 'a', 'b', 1, 'EUR') FROM unnest('{t,u}'::text[]) id`)
	exec(t, pool, `SELECT lastseat.hold(id, id, '[{"resource":"seat"}]') FROM unnest('{r,s}'::text[]) id`)
	kinds := slices.Sorted(maps.Keys(ways))
	if len(kinds) != len(jobs.Kinds()) {
		t.Fatalf("%d kinds are tried, there are %d", len(kinds), len(jobs.Kinds()))
	}
	doors := slices.Sorted(maps.Keys(sqlDoors))
	n, same, raw := 0, 0, map[string]bool{} // keys of raw jobs, and whether they say the same
	rapid.Check(t, func(rt *rapid.T) {
		n++
		key, s := fmt.Sprint("k", n), speller{rt}
		kind := s.pick("kind", kinds...)
		asked := draw(rt, kind, "id"+key)
		if _, err := sqlDoors[s.pick("first door", doors...)](t, pool, kind, key, s.object(asked, ways[kind])); err != nil {
			rt.Fatalf("%s %v: %v", kind, asked, err)
		}
		again, isSame := asked, s.flip("the same")
		if !isSame {
			again = change(rt, kind, asked)
		} else {
			same++
		}
		args := s.object(again, ways[kind])
		for _, name := range doors {
			duplicate, err := sqlDoors[name](t, pool, kind, key, args)
			pgErr := (*pgconn.PgError)(nil)
			reused := errors.Is(err, outbox.ErrKeyReused) || errors.As(err, &pgErr) && pgErr.Code == "LS001"
			if duplicate != isSame || reused == isSame {
				rt.Fatalf("%s: %s %s after %v: duplicate %t, %v", name, kind, args, asked, duplicate, err)
			}
		}
		exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, max_attempts, args, metadata)
			VALUES ($1, 'lastseat', 25, $2::jsonb || jsonb_build_object('key', $3::text), '{"raw": true}')`, kind, args, key)
		raw[key] = isSame
	})
	if same < 10 || n-same < 10 {
		t.Fatalf("%d of %d said the same", same, n)
	}
	drain(t, pool, outbox.Settings{})
	discarded := testdb.Scalar[[]string](t, pool, `SELECT coalesce(array_agg(args ->> 'key'), '{}')
		FROM lastseat.river_job WHERE metadata ? 'raw' AND state = 'discarded'`)
	for key, isSame := range raw {
		if slices.Contains(discarded, key) == isSame {
			t.Errorf("the raw job with the key %s says the same: %t, and is discarded: %t", key, isSame, !isSame)
		}
	}
}
