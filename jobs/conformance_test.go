package jobs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// conforming are arguments of one kind that are alike for every door. ID stands for an id of a payment that is new at
// each door; the payments, accounts and transfers that are named are there.
type conforming struct {
	kind     string
	sqlstate string // of lastseat.enqueue; empty: accepted
	code     string // of the job that came past it
	args     []string
}

var x200, x201 = strings.Repeat("x", 200), strings.Repeat("x", 201)

// accepted and refused, by kind. Numbers are what jsonb makes of them: 1e3 is 1000, 1.0 stays 1.0.
var conformance = []conforming{
	{jobs.KindTransfer, "", jobs.CodeTransferred, []string{
		`{"from":"a","to":"b","amount":1,"currency":"EUR"}`,
		`{"from":"a","to":"b","amount":1e3,"currency":"EUR","description":"d","metadata":{"x":[1,null]}}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","description":null,"metadata":null}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","description":"","metadata":{}}`,
		`{"from":"\u00fc","to":"東京\u3000駅","amount":0.1e1,"currency":"EUR","description":"\u0007\n\"\\\/ 😀"}`,
		`{"from":"x","from":"a","to":"b","amount":"7","amount":1,"currency":"EUR"}`, // the last one counts
		`{"from":"😀","to":"\ud83d\ude00 ","amount":1,"currency":"\u0045UR"}`,
		`{"from":"a ","to":"a","amount":1,"currency":"EUR"}`,
		`{"from":"e\u0301","to":"\u00e9","amount":1,"currency":"EUR"}`, // two ways to write é
	}},
	{jobs.KindTransfer, "", jobs.CodeOutOfRange, []string{`{"from":"top","to":"` + x200 +
		`","amount":9223372036854775807,"currency":"EUR"}`}},
	{jobs.KindTransfer, "LS002", jobs.CodeCurrencyMismatch, []string{ // no account is in a currency that there is not
		`{"from":"a","to":"b","amount":1,"currency":"EUX"}`, `{"from":"a","to":"b","amount":1,"currency":"EURO"}`}},
	{jobs.KindTransfer, "", jobs.CodeCurrencyMismatch, []string{`{"from":"a","to":"b","amount":1,"currency":"USD"}`}},
	{jobs.KindTransfer, "LS003", jobs.CodeAccountNotFound, []string{
		`{"from":"a","to":"nobody","amount":1,"currency":"EUR"}`,
		`{"from":"nobody","to":"a","amount":1,"currency":"EUR"}`,
		`{"from":"a","to":"A","amount":1,"currency":"EUR"}`,
	}},
	{jobs.KindTransfer, "LS002", outbox.CodeInvalidArgs, concat(moneyRefused(``), []string{
		`{}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","description":7}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","description":{}}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","metadata":[]}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","metadata":"x"}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","metadata":false}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","payment":"p"}`,
	})},
	{jobs.KindCharge, "", jobs.CodeInsufficientFunds, []string{
		`{"payment":"ID","from":"poor","to":"b","amount":1,"currency":"EUR","processor":"fake","method":"pm_1"}`,
		`{"payment":"ID","from":"poor","to":"b","amount":1e1,"currency":"EUR","processor":"f_2","method":"` + x200 + `"}`,
	}},
	{jobs.KindCharge, "", jobs.CodeCurrencyMismatch, []string{
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"JPY","processor":"fake","method":"pm_1"}`}},
	{jobs.KindCharge, "LS003", jobs.CodeAccountNotFound, []string{
		`{"payment":"ID","from":"a","to":"nobody","amount":1,"currency":"EUR","processor":"fake","method":"pm_1"}`}},
	{jobs.KindCharge, "LS001", outbox.CodeInvalidArgs, []string{
		`{"payment":"p","from":"a","to":"b","amount":1,"currency":"EUR","processor":"fake","method":"pm_1"}`}},
	{jobs.KindCharge, "LS002", outbox.CodeInvalidArgs, concat(
		moneyRefused(`"payment":"ID","processor":"fake","method":"pm_1",`),
		idRefused("payment", `,"from":"a","to":"b","amount":1,"currency":"EUR","processor":"fake","method":"pm_1"`),
		chargesRefused(), []string{`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","processor":"fake",` +
			`"method":"pm_1","expires_at":null}`})},
	{jobs.KindAuthorize, "", jobs.CodeAuthorized, []string{
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1e2,"currency":"EUR","expires_at":null}`,
		`{"payment":"ID\u00fc 😀","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"9999-12-31T23:59:59.999999999Z"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"9999-12-31T12:00:00-11:59"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2999-02-28T23:59:59.5+14:59"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2996-02-29T00:00:00-14:59"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2999-06-01T12:00:00.1234565-00:00"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2999-06-01T12:00:00.9999999Z"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2999-06-01T12:00:00.00000001Z"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2999-06-01t12:00:00z"}`,
	}},
	{jobs.KindAuthorize, "", jobs.CodeAuthorizationExpired, []string{
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2020-01-01T00:00:00Z"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"0002-01-01T00:00:00Z"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"0001-12-31T23:59:59.9-00:01"}`,
		// no such day in the Catholic calendar
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"1582-10-10T12:00:00Z"}`,
	}},
	{jobs.KindAuthorize, "", jobs.CodeCurrencyMismatch,
		[]string{`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"JPY"}`}},
	{jobs.KindAuthorize, "", jobs.CodeInsufficientFunds,
		[]string{`{"payment":"ID","from":"poor","to":"b","amount":1,"currency":"EUR"}`}},
	{jobs.KindAuthorize, "LS003", jobs.CodeAccountNotFound,
		[]string{`{"payment":"ID","from":"a","to":"nobody","amount":1,"currency":"EUR"}`}},
	{jobs.KindAuthorize, "LS001", outbox.CodeInvalidArgs,
		[]string{`{"payment":"p","from":"a","to":"b","amount":1,"currency":"EUR"}`}},
	{jobs.KindAuthorize, "", jobs.CodeAuthorized, []string{
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","processor":null,"method":null}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","method":null}`,
	}},
	{jobs.KindAuthorize, "", jobs.CodeInsufficientFunds, []string{
		`{"payment":"ID","from":"poor","to":"b","amount":1,"currency":"EUR","processor":"fake","method":"pm_1"}`,
		`{"payment":"ID","from":"poor","to":"b","amount":1,"currency":"EUR","expires_at":"2999-06-01T12:00:00Z",` +
			`"processor":"f_2","method":"` + x200 + `"}`,
	}},
	{jobs.KindAuthorize, "LS002", outbox.CodeInvalidArgs, concat(moneyRefused(`"payment":"ID",`), idRefused("payment",
		`,"from":"a","to":"b","amount":1,"currency":"EUR"`), timesRefused(), chargesRefused(), []string{
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","description":"d"}`,
	})},
	{jobs.KindCapture, "", jobs.CodeAlreadyCaptured, []string{`{"payment":"p"}`, `{"payment":"p","amount":null}`,
		`{"payment":"p","amount":9223372036854775807}`, `{"payment":"\u0070","amount":1e1}`}},
	{jobs.KindRefund, "", jobs.CodeRefunded, []string{`{"payment":"p","amount":1}`, `{"payment":"p","amount":10e0}`}},
	{jobs.KindRefund, "", jobs.CodeAmountExceedsCaptured, []string{`{"payment":"p","amount":9223372036854775807}`}},
	{jobs.KindRefund, "", jobs.CodeNotLate, []string{`{"payment":"p","reference":"pi_1"}`,
		`{"payment":"p","reference":"` + x200 + `","amount":null}`}},
	{jobs.KindRefund, "LS003", jobs.CodePaymentNotFound, []string{`{"payment":"nobody","reference":"pi_1"}`}},
	{jobs.KindRefund, "LS002", outbox.CodeInvalidArgs, []string{
		`{"payment":"p","reference":"pi_1","amount":1}`, `{"payment":"p","reference":""}`, `{"payment":"p","reference":7}`,
		`{"payment":"p","reference":"pi 1"}`, `{"payment":"p","reference":"pi_ü"}`,
		`{"payment":"p","reference":"` + x201 + `"}`,
	}},
	{jobs.KindVoid, "", jobs.CodeAlreadyCaptured, []string{`{"payment":"p"}`}},
	{jobs.KindReverse, "", jobs.CodeReversed, []string{`{"transfer":"t\u00fc DOOR"}`}},
	{jobs.KindReverse, "", jobs.CodeAlreadyReversed, []string{`{"transfer":"taken back"}`}},
	{jobs.KindReverse, "LS003", jobs.CodePaymentNotFound, []string{`{"transfer":"p"}`, `{"transfer":"p capture"}`,
		`{"transfer":"reversal"}`, `{"transfer":"nobody"}`, `{"transfer":"` + x200 + `"}`}},
	{jobs.KindReverse, "LS002", outbox.CodeInvalidArgs, concat(idRefused("transfer", ``),
		[]string{`{"transfer":"t","amount":1}`, `{"payment":"p"}`, `{"transfer":"t","payment":null}`})},
	{jobs.KindVoid, "LS002", outbox.CodeInvalidArgs, concat(idRefused("payment", ``),
		[]string{`{"payment":"p","amount":1}`, `{"payment":"p","amount":null}`})},
}

// chargesRefused have a wrong processor or card.
func chargesRefused() (args []string) {
	for _, by := range []string{
		`"processor":"fake"`, `"method":"pm_1"`, `"processor":"","method":"pm_1"`, `"processor":"fake","method":""`,
		`"processor":null,"method":"pm_1"`, `"processor":"fake","method":null`, `"processor":7,"method":"pm_1"`,
		`"processor":"Fake","method":"pm_1"`, `"processor":"fake:x","method":"pm_1"`, `"processor":"1x","method":"pm_1"`,
		`"processor":"fake","method":"pm 1"`, `"processor":"fake","method":"pm_ü"`, `"processor":"fake","method":["pm_1"]`,
		`"processor":"fake\n","method":"pm_1"`, `"processor":"fake","method":"pm_1\n"`,
		`"processor":"fake","method":"` + x201 + `"`, `"processor":"` + x200 + `","method":"pm_1"`,
		`"processor":"fake","method":"pm_1","customer":"cus_1"`,
	} {
		args = append(args, `{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR",`+by+`}`)
	}
	return args
}

func init() {
	for kind, refused := range map[string]string{jobs.KindCapture: `"x":1`, jobs.KindRefund: `"currency":"EUR"`} {
		args := concat(idRefused("payment", ``), idRefused("payment", `,"amount":1`), []string{`{"payment":"p",` + refused +
			`}`, `{"payment":"p","x":null}`})
		for _, amount := range amountsRefused[1:] { // null stands for the whole
			args = append(args, `{"payment":"p","amount":`+amount+`}`)
		}
		conformance = append(conformance, conforming{kind, "LS002", outbox.CodeInvalidArgs, args})
	}
	for _, kind := range []string{jobs.KindCapture, jobs.KindRefund, jobs.KindVoid} {
		conformance = append(conformance, conforming{kind, "LS003", jobs.CodePaymentNotFound,
			[]string{`{"payment":"nobody"}`, `{"payment":"P"}`, `{"payment":"p "}`, `{"payment":"` + x200 + `"}`}})
	}
}

func concat(lists ...[]string) []string {
	var all []string
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

var amountsRefused = []string{
	`null`, `0`, `-0`, `-1`, `1.5`, `1.0`, `10e-1`, `1e-1`, `-1e0`, `"1"`, `""`, `9223372036854775808`,
	`18446744073709551617`, `1e19`, `1e30`, `true`, `false`, `[1]`, `{}`, `0.99999999999999999999`,
	`9223372036854775807.0`, strings.Repeat("9", 400),
}

// moneyRefused are arguments of which the accounts, the amount or the currency are wrong.
func moneyRefused(more string) []string {
	var all []string
	for _, id := range []string{``, `"from":null,`, `"from":"",`, `"from":1,`, `"from":["a"],`, `"from":"b",`,
		`"from":"` + x201 + `",`, `"From":"a",`, `"from":"a\u200b",`,
		`"from":"lastseat:clearing:fake:EUR",`} {
		all = append(all, `{`+more+id+`"to":"b","amount":1,"currency":"EUR"}`)
	}
	for _, id := range []string{``, `"to":null,`, `"to":"",`, `"to":false,`, `"to":"` + strings.Repeat("ü", 201) + `",`,
		`"to":"\u0061",`, `"to":"\u2066b",`,
		`"to":"lastseat:clearing:fake:EUR",`} {
		all = append(all, `{`+more+id+`"from":"a","amount":1,"currency":"EUR"}`)
	}
	for _, amount := range amountsRefused {
		all = append(all, `{`+more+`"from":"a","to":"b","amount":`+amount+`,"currency":"EUR"}`)
	}
	for _, currency := range []string{`null`, `"eur"`, `"EU"`, `""`, `7`, `["EUR"]`, `"EUR "`, `"XXX"`, `"XTS"`,
		`"EURO-1"`, `"1EUR"`, `"EURABCDEFGHIJ"`} {
		all = append(all, `{`+more+`"from":"a","to":"b","amount":1,"currency":`+currency+`}`)
	}
	return append(all, `{`+more+`"from":"a","to":"b","currency":"EUR"}`, `{`+more+`"from":"a","to":"b","amount":1}`,
		`{`+more+`"from":"a","to":"b","amount":1,"currency":"EUR","typo":1}`, `{`+more+
			`"from":"a","to":"b","amount":1,"currency":"EUR","typo":null}`, `{`+more+
			`"from":"a","to":"b","amount":1,"currency":"EUR","":1}`)
}

func idRefused(name, more string) []string {
	all := []string{`{` + strings.TrimPrefix(more, ",") + `}`}
	for _, id := range []string{`null`, `""`, `1`, `{}`, `["p"]`, `true`, `"` + x201 + `"`, `" "`, `"p\u200b"`,
		`"\u202ep"`, `"p\n"`, `"p\u00a0p"`, `"p\u0378"`, `"\u0301"`, `"p\ufe0f"`, `"p\ue000"`, `"\u3164"`, `"p\ufffd"`,
		`"p\udb40\udc41"`} {
		all = append(all, `{"`+name+`":`+id+more+`}`)
	}
	return all
}

func timesRefused() []string {
	var all []string
	for _, at := range []string{
		`""`, `"now"`, `"infinity"`, `"-infinity"`, `"tomorrow"`, `7`, `{}`, `false`, `1795435200`, `"2999-01-01"`,
		`"2999-01-01T00:00:00"`, `"2999-01-01 00:00:00Z"`, `"2999-01-01T00:00Z"`, `"2999-01-01T00:00:00 z"`,
		`"2999-01-01tt00:00:00Z"`, `"2999-01-01T00:00:00.Z"`, `"2999-01-01T00:00:00,5Z"`, `"2999-01-01T00:00:00.1234567890Z"`,
		`"2999-02-29T00:00:00Z"`, `"2999-02-30T00:00:00Z"`, `"2999-04-31T00:00:00Z"`, `"2999-13-01T00:00:00Z"`,
		`"2999-00-01T00:00:00Z"`, `"2999-01-00T00:00:00Z"`, `"2999-01-32T00:00:00Z"`, `"0000-01-01T00:00:00Z"`,
		`"0000-12-31T23:59:59-14:59"`, `"0001-01-01T00:00:00Z"`, `"0001-12-31T23:59:59.999999Z"`,
		`"0002-01-01T00:00:00+00:01"`,
		`"9999-12-31T23:59:59-00:01"`, `"10000-01-01T00:00:00Z"`, `"+2999-01-01T00:00:00Z"`, `"-2999-01-01T00:00:00Z"`,
		`"2999-01-01T24:00:00Z"`, `"2999-01-01T23:60:00Z"`, `"2999-01-01T23:59:60Z"`, `"2999-01-01T00:00:00+15:00"`,
		`"2999-01-01T00:00:00+14:60"`, `"2999-01-01T00:00:00+24:00"`, `"2999-01-01T00:00:00+1:00"`,
		`"2999-01-01T00:00:00+0100"`, `"2999-01-01T00:00:00+01"`, `"2999-01-01T00:00:00 UTC"`, `"2999-01-01T00:00:00Z "`,
		`" 2999-01-01T00:00:00Z"`,
		`"2999-01-01T00:00:00Z\n"`, `"2999-01-01T00:00:00Europe/Berlin"`, `"2999-1-1T00:00:00Z"`, `"٢٠٢٦-01-01T00:00:00Z"`,
		`"2999-01-01T00:00:00Z BC"`, `"2999-W01-1T00:00:00Z"`,
	} {
		all = append(all, `{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":`+at+`}`)
	}
	return all
}

// oneItem is a hold's other arguments, of one item.
const oneItem = `"items":[{"resource":"seat"}]`

func hold(items string) string { return `{"reservation":"ID","items":` + items + `}` }

func waiting(items string) string { return `{"reservation":"ID","items":[` + items + `],"wait":true}` }

// roomOf is an item with a time range, from one hour to another.
func roomOf(resource string, from, to int) string {
	return fmt.Sprintf(`{"resource":%q,"during":"[2026-12-01T%02d:00Z,2026-12-01T%02d:00Z)"}`, resource, from, to)
}

// closedRoom is of a resource with capacity 0.
var closedRoom = roomOf("closed", 10, 11)

func during(text string) string {
	encoded, _ := json.Marshal(text)
	return hold(`[{"resource":"room ID","during":` + string(encoded) + `}]`)
}

func each(text []string, wrap func(string) string) []string {
	all := make([]string, len(text))
	for i := range text {
		all[i] = wrap(text[i])
	}
	return all
}

// duringAccepted are all of one range, 10:00 to 11:30 UTC: what Postgres writes in any time zone, and what JSON has.
var duringAccepted = []string{
	`["2026-12-01 10:00:00+00","2026-12-01 11:30:00+00")`, `["2026-12-01 15:30:00+05:30","2026-12-01 17:00:00+05:30")`,
	`["2026-12-02 00:00:00+14","2026-12-02 01:30:00+14")`, `["2026-12-01 06:30:00-03:30","2026-12-01 08:00:00-03:30")`,
	`[2026-12-01 10:00:00+00,2026-12-01 11:30:00+00)`, `[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z)`,
	`[2026-12-01T10:00:00Z, 2026-12-01T11:30:00Z)`, `["2026-12-01T10:00:00Z", "2026-12-01T11:30:00Z")`,
	`[2026-12-01 10:00Z,2026-12-01 11:30z)`, `[2026-12-01t10:00:00z,2026-12-01t11:30:00z)`,
	`[2026-12-01T10:00Z,"2026-12-01 12:30+01")`, `["2026-12-01 10:00:00.000000Z",2026-12-01T11:30:00.0Z)`,
	`[2026-12-01 10:00:00.000000999Z,2026-12-01 11:30:00.0000009Z)`, `[2026-11-30T20:01-13:59,2026-12-02T02:29+14:59)`,
	`[2026-12-01T10:00-00:00,2026-12-01T11:30+00)`,
}

// duringAtTheEdge are accepted, too.
var duringAtTheEdge = []string{
	`[0002-01-01 00:00Z,9999-12-31 23:59:59.999999Z)`, `[0001-12-31T23:59-00:01,0002-01-01T00:00:00.000001Z)`,
	`[2024-02-29 00:00Z,2024-02-29 00:00:00.000001Z)`, `[1582-10-10T12:00Z,1582-10-11T12:00Z)`,
	`[9998-12-31T00:00+14:59,9999-12-31T12:00:00-11:59)`,
}

var duringRefused = []string{
	``, `empty`, `[,)`, `(,)`, `[2026-12-01T10:00:00Z,)`, `[,2026-12-01T10:00:00Z)`, `[2026-12-01T10:00:00Z,infinity)`,
	`[-infinity,2026-12-01T10:00:00Z)`, `[infinity,infinity)`, `[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z]`,
	`(2026-12-01T10:00:00Z,2026-12-01T11:30:00Z)`, `(2026-12-01T10:00:00Z,2026-12-01T11:30:00Z]`,
	`[2026-12-01T11:30:00Z,2026-12-01T10:00:00Z)`, `[2026-12-01T10:00:00Z,2026-12-01T10:00:00Z)`,
	`[2026-12-01T10:00:00Z,2026-12-01T11:00:00+01:00)`,
	`[2026-12-01T10:00:00.0000001Z,2026-12-01T10:00:00.0000009Z)`, `[2026-12-01T10:00:00Z 2026-12-01T11:30:00Z)`,
	`2026-12-01T10:00:00Z/2026-12-01T11:30:00Z`, `[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z`,
	`[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z) `,
	` [2026-12-01T10:00:00Z,2026-12-01T11:30:00Z)`, "[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z)\n",
	`[2026-12-01T10:00:00Z,  2026-12-01T11:30:00Z)`, `[2026-12-01T10:00:00Z ,2026-12-01T11:30:00Z)`,
	`["2026-12-01T10:00:00Z,2026-12-01T11:30:00Z)`,
	`[2026-12-01T10:00:00Z","2026-12-01T11:30:00Z")`, `["2026-12-01T10:00:00Z,2026-12-01T11:30:00Z")`,
	`["2026-12-01T10:00:00Z",2026-12-01T11:30:00Z")`, `[""2026-12-01T10:00:00Z"",2026-12-01T11:30:00Z)`,
	`['2026-12-01T10:00:00Z','2026-12-01T11:30:00Z')`,
	`[2026-12-01,2026-12-02)`, `[2026-12-01T10,2026-12-01T11)`, `[2026-12-01 10:00:00 UTC,2026-12-01 11:30:00 UTC)`,
	// no offset
	`[2026-12-01 10:00,2026-12-01 11:30)`, `[2026-12-01T10:00:00Z,2026-12-01T11:30:00)`,
	`["2026-12-01 10:00:00","2026-12-01 11:30:00+00")`, `[2026-12-01T10:00,"2026-12-01 12:30+01")`,
	`[2026-12-01T10:00:00+0100,2026-12-01T11:30:00+0100)`,
	`[2026-12-01T10:00:00+1,2026-12-01T11:30:00+1)`, `[2026-12-01T10:00:00+15,2026-12-01T11:30:00+15)`,
	`[2026-12-01T10:00:00+14:60,2026-12-01T11:30:00Z)`, `[2026-12-01T10:00:00+00:53:28,2026-12-01T11:30:00+00:53:28)`,
	`[2026-12-01T10:00:00.,2026-12-01T11:30:00.)`,
	`[2026-12-01T10:00:00.0000000001Z,2026-12-01T11:30:00Z)`, `[2026-12-01T24:00:00Z,2026-12-02T11:30:00Z)`,
	`[2026-12-01T10:60:00Z,2026-12-01T11:30:00Z)`, `[2026-12-01T10:00:60Z,2026-12-01T11:30:00Z)`,
	`[2026-02-29T10:00:00Z,2026-03-01T11:30:00Z)`,
	`[2026-11-31T10:00:00Z,2026-12-01T11:30:00Z)`, `[2026-13-01T10:00:00Z,2027-12-01T11:30:00Z)`,
	`[2026-12-00T10:00:00Z,2026-12-01T11:30:00Z)`, `[0000-12-01T10:00:00Z,2026-12-01T11:30:00Z)`,
	`[0001-12-31T23:59:59Z,2026-12-01T11:30:00Z)`,
	`[0002-01-01T00:00:00+00:01,2026-12-01T11:30:00Z)`, `[2026-12-01T10:00:00Z,10000-01-01T00:00:00Z)`,
	`[2026-12-01T10:00:00Z,9999-12-31T23:59:00-00:01)`, `[2026-12-01 10:00:00+00 BC,2026-12-01 11:30:00+00)`,
	`["0044-03-15 10:00:00+00 BC","0044-03-16 10:00:00+00 BC")`,
	`[01.12.2026 10:00:00 CET,01.12.2026 11:30:00 CET)`, `[12/01/2026 10:00:00,12/01/2026 11:30:00)`, `[now,tomorrow)`,
	`[٢٠٢٦-12-01T10:00:00Z,2026-12-01T11:30:00Z)`,
	`[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z),[2026-12-02T10:00:00Z,2026-12-02T11:30:00Z)`,
}

func itemsRefused() []string {
	all := []string{`null`, `[]`, `{}`, `"seat"`, `7`, `true`, `{"resource":"seat"}`, `[[]]`, `["seat"]`, `[7]`, `[null]`,
		`[{}]`, `[{"resource":"seat"},{}]`, `[{"resource":"seat"},7]`, `[{"quantity":1}]`, `[{"resource":null}]`,
		`[{"resource":""}]`, `[{"resource":7}]`,
		`[{"resource":["seat"]}]`, `[{"resource":"` + x201 + `"}]`, `[{"Resource":"seat"}]`,
		`[{"resource":"seat","typo":1}]`, `[{"resource":"seat","typo":null}]`, `[{"resource":"seat","":null}]`,
		`[{"resource":"seat","key":"k"}]`, `[{"resource":"seat"},{"resource":"s\u200beat"}]`, `[{"resource":"seat","Quantity":1}]`,
		`[{"resource":"seat","during":7}]`, `[{"resource":"seat","during":{}}]`,
		`[{"resource":"seat","during":["2026-12-01T10:00:00Z","2026-12-01T11:30:00Z"]}]`,
		`[{"resource":"seat","during":true}]`}
	for _, quantity := range append(slices.Clone(amountsRefused[1:]), `"x"`) { // null stands for one
		all = append(all, `[{"resource":"seat","quantity":`+quantity+`}]`)
	}
	for _, quantity := range append(slices.Clone(amountsRefused[1:]), `2`, `9223372036854775807`, `1e1`) {
		all = append(all, `[{"resource":"seat","during":"[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z)","quantity":`+quantity+
			`}]`)
	}
	return all
}

func init() {
	const held, money = `"reservation":"ID",` + oneItem, `"from":"a","to":"b","amount":1,"currency":"EUR"`
	times := each(timesRefused(), func(args string) string {
		return strings.Replace(args, `"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR"`, held, 1)
	})
	conformance = append(conformance,
		conforming{jobs.KindHold, "", jobs.CodeHeld, concat(each(duringAccepted, during), each(duringAtTheEdge, during),
			each([]string{
				`[{"resource":"seat"}]`, `[{"resource":"seat","quantity":null,"during":null}]`,
				`[{"resource":"seat","quantity":1e3}]`,
				`[{"resource":"seat","quantity":1},{"quantity":2,"resource":"seat"},{"resource":"\u0073eat"}]`,
				`[{"resource":"room ID","during":"[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z)","quantity":1}]`,
				`[{"resource":"room ID","during":"[2026-12-01 10:00Z,2026-12-01 11:00Z)"},{"resource":"room ID","during":"[2026-12-01 11:00Z,2026-12-01 12:00Z)"}]`,
				// the last one counts
				`[{"resource":"` + x200 + `"}]`, `[{"resource":"x","resource":"seat","quantity":"7","quantity":2}]`,
			}, hold), []string{
				`{` + held + `,"expires_at":null,"customer":null,"wait":null}`, `{` + held +
					`,"wait":false,"customer":"\u00fc 😀"}`, `{` + held + `,"wait":true,"customer":"` + x200 + `"}`, `{` + held +
					`,"expires_at":"9999-12-31T23:59:59.9999999Z"}`,
				`{` + held + `,"expires_at":"2999-06-01T12:00:00.1234565+14:59"}`, `{` + oneItem + `,"reservation":"ID\u00fc 😀"}`,
				`{"items":[7],"reservation":"ID",` + oneItem + `}`,
			})},
		conforming{jobs.KindHold, "", jobs.CodeSoldOut,
			each([]string{`[{"resource":"small","quantity":9223372036854775807}]`,
				`[{"resource":"small"},{"resource":"small"}]`,
				`[{"resource":"seat","quantity":9223372036854775807},{"resource":"seat","quantity":9223372036854775807}]`}, hold)},
		conforming{jobs.KindHold, "", jobs.CodeWaiting,
			each([]string{
				`{"resource":"small","quantity":2}`, `{"resource":"small"},{"resource":"small"}`, closedRoom,
				`{"resource":"small","quantity":9223372036854775806},` + roomOf("small", 10, 11) + `,{"resource":"small"}`,
			}, waiting)},
		conforming{jobs.KindHold, "", jobs.CodeHeld, each([]string{
			roomOf("room ID", 11, 12) + "," + roomOf("room ID", 9, 10) + "," + roomOf("room ID", 10, 11),
			roomOf("room ID", 9, 12) + "," + roomOf("hall ID", 9, 12) + `,{"resource":"room ID"}`,
		}, waiting)},
		conforming{jobs.KindHold, "", jobs.CodeOverlap,
			[]string{hold("[" + roomOf("room ID", 9, 11) + "," + roomOf("room ID", 10, 12) + "]")}},
		conforming{jobs.KindHold, "", jobs.CodeSoldOut, []string{hold("[" + closedRoom + "]")}},
		conforming{jobs.KindHold, "LS002", outbox.CodeInvalidArgs, each([]string{
			roomOf("room ID", 9, 11) + "," + roomOf("room ID", 10, 12),
			roomOf("room ID", 9, 11) + "," + roomOf("room ID", 9, 11),
			roomOf("room ID", 9, 10) + "," + roomOf("room ID", 14, 15) + "," + roomOf("room ID", 8, 12),
			roomOf("room ID", 8, 18) + "," + roomOf("room ID", 9, 10) + `,{"resource":"seat"},` + roomOf("room ID", 18, 19),
			`{"resource":"seat","quantity":9223372036854775807},{"resource":"seat"}`,
			`{"resource":"seat","quantity":9223372036854775806},{"resource":"small"},{"resource":"seat","quantity":2}`,
		}, waiting)},
		conforming{jobs.KindHold, "", jobs.CodeCustomerLimit, []string{`{"reservation":"ID","items":[{"resource":"show"}]}`,
			`{"reservation":"ID","items":[{"resource":"show","quantity":3}],"customer":"ann"}`}},
		conforming{jobs.KindHold, "", jobs.CodeHoldExpired, []string{`{` + held + `,"expires_at":"2020-01-01T00:00:00Z"}`,
			`{` + held + `,"expires_at":"0002-01-01T00:00:00Z","wait":true}`}},
		conforming{jobs.KindHold, "LS003", jobs.CodeResourceNotFound, each([]string{`[{"resource":"nothing"}]`,
			`[{"resource":"seat"},{"resource":"Seat"}]`, `[{"resource":"seat "}]`,
			`[{"resource":"nothing","during":"[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z)"}]`}, hold)},
		conforming{jobs.KindHold, "LS001", outbox.CodeInvalidArgs, []string{`{"reservation":"res",` + oneItem + `}`}},
		conforming{jobs.KindHold, "LS002", outbox.CodeInvalidArgs, concat(times, idRefused("reservation", `,`+oneItem),
			each(itemsRefused(), hold), each(duringRefused, during), []string{
				`{}`, `{"reservation":"ID"}`, `{` + held + `,"wait":1}`, `{` + held + `,"wait":"true"}`, `{` + held +
					`,"wait":[]}`, `{` + held + `,"customer":""}`, `{` + held + `,"customer":"\u2028x"}`, `{` + held + `,"customer":7}`, `{` + held + `,"customer":{}}`,
				`{` + held + `,"customer":"` + x201 + `"}`,
				`{` + held + `,"typo":1}`, `{` + held + `,"typo":null}`, `{` + held + `,"amount":1}`,
			})},
		conforming{jobs.KindExtend, "", jobs.CodeNotHeld,
			[]string{`{"reservation":"res","expires_at":"2999-06-01T12:00:00.1234565-00:00"}`,
				`{"reservation":"\u0072es","expires_at":"0002-01-01T00:00:00Z"}`}},
		conforming{jobs.KindExtend, "LS003", jobs.CodeReservationNotFound,
			[]string{`{"reservation":"nobody","expires_at":"2999-06-01T12:00:00Z"}`}},
		conforming{jobs.KindExtend, "LS002", outbox.CodeInvalidArgs, concat(idRefused("reservation",
			`,"expires_at":"2999-06-01T12:00:00Z"`), each(timesRefused(), func(args string) string {
			return strings.Replace(args, `"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR"`,
				`"reservation":"res"`, 1)
		}), []string{`{"reservation":"res"}`, `{"reservation":"res","expires_at":null}`,
			`{"reservation":"res","expires_at":"2999-06-01T12:00:00Z","x":null}`})},
		conforming{jobs.KindBook, "", jobs.CodeBooked, []string{
			`{` + held + `,` + money + `}`, `{` + held + `,` + money +
				`,"expires_at":"2999-01-01T00:00:00Z","customer":"ann","description":"d","metadata":{"x":[1,null]}}`, `{` + held +
				`,` + money + `,"expires_at":null,"customer":null,"description":null,"metadata":null}`,
			`{"reservation":"ID","items":[{"resource":"room ID","during":"[2026-12-01 10:00Z,2026-12-01 11:00Z)"}],"from":"a","to":"b","amount":1e2,"currency":"EUR"}`,
		}},
		conforming{jobs.KindBook, "", jobs.CodeHoldExpired, []string{`{` + held + `,` + money +
			`,"expires_at":"2020-01-01T00:00:00Z"}`}},
		conforming{jobs.KindBook, "", jobs.CodeInsufficientFunds, []string{`{` + held +
			`,"from":"poor","to":"b","amount":1,"currency":"EUR"}`}},
		conforming{jobs.KindBook, "", jobs.CodeCurrencyMismatch, []string{`{` + held +
			`,"from":"a","to":"b","amount":1,"currency":"JPY"}`}},
		conforming{jobs.KindBook, "", jobs.CodeSoldOut,
			[]string{`{"reservation":"ID","items":[{"resource":"small","quantity":2}],"from":"poor","to":"b","amount":1,"currency":"EUR"}`}},
		conforming{jobs.KindBook, "LS003", jobs.CodeResourceNotFound,
			[]string{`{"reservation":"ID","items":[{"resource":"nothing"}],` + money + `}`}},
		conforming{jobs.KindBook, "LS003", jobs.CodeAccountNotFound, []string{`{` + held +
			`,"from":"a","to":"nobody","amount":1,"currency":"EUR"}`}},
		conforming{jobs.KindBook, "LS001", outbox.CodeInvalidArgs, []string{`{"reservation":"res",` + oneItem + `,` + money +
			`}`}},
		conforming{jobs.KindBook, "LS002", outbox.CodeInvalidArgs, concat(moneyRefused(held+`,`), idRefused("reservation",
			`,`+oneItem+`,`+money), []string{
			`{"reservation":"ID",` + money + `}`, `{` + held + `}`, `{"reservation":"ID","items":[],` + money + `}`, `{` +
				held + `,` + money + `,"wait":true}`, `{` + held + `,` + money + `,"wait":null}`, `{` + held + `,` + money +
				`,"expires_at":"now"}`,
			`{` + held + `,` + money + `,"metadata":[]}`, `{` + held + `,` + money + `,"description":7}`, `{` + held + `,` +
				money + `,"customer":7}`,
		})},
	)
	for _, kind := range []string{jobs.KindConfirm, jobs.KindCancel} {
		conformance = append(conformance, conforming{kind, "", jobs.CodeNotHeld, []string{`{"reservation":"res"}`,
			`{"reservation":"\u0072es"}`}},
			conforming{kind, "LS003", jobs.CodeReservationNotFound, []string{`{"reservation":"nobody"}`,
				`{"reservation":"Res"}`, `{"reservation":"res "}`, `{"reservation":"` + x200 + `"}`}},
			conforming{kind, "LS002", outbox.CodeInvalidArgs, concat(idRefused("reservation", ``),
				[]string{`{"reservation":"res","expires_at":"2999-06-01T12:00:00Z"}`, `{"reservation":"res","expires_at":null}`,
					`{"reservation":"res","x":1}`})})
	}
}

// Postgres writes a range as the session's time zone has it. All of that means the same to SQL and to Go.
func TestRangesOfEveryTimeZone(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	rows, err := pool.Query(t.Context(), `
		SELECT DISTINCT written.text, lower(r) = lower(lastseat.during_arg('d', to_jsonb(written.text)))
		  AND upper(r) = upper(lastseat.during_arg('d', to_jsonb(written.text))), lower(r), upper(r)
		FROM pg_timezone_names z,
		  unnest('{"[2026-01-01 10:00Z,2026-01-01 11:30Z)","[2026-07-01 10:00:00.5Z,2026-07-01 11:30:59.123456Z)"}'::tstzrange[]) r,
		     LATERAL (SELECT set_config('TimeZone', z.name, true) || r::text, to_json(r)::text) x(zone, json),
		       LATERAL (SELECT substr(zone, char_length(z.name) + 1) AS text) written`)
	if err != nil {
		t.Fatal(err)
	}
	n, same := 0, false
	var text string
	var from, to time.Time
	if _, err := pgx.ForEachRow(rows, []any{&text, &same, &from, &to}, func() error {
		n++
		r := jobs.TimeRange{}
		if err := r.UnmarshalText([]byte(text)); err != nil || !same || !r.Start.Equal(from) || !r.End.Equal(to) ||
			r.Start.Location() != time.UTC {
			t.Errorf("%s is %v in Go (%v), the same in SQL: %t", text, r, err, same)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n < 60 {
		t.Errorf("%d ways to write them", n)
	}
}

// The same arguments through every door: lastseat.enqueue and Go refuse at once what a job that was inserted straight
// into river_job is rejected for, and what they accept means the same.
func TestConformance(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	for _, id := range []string{"a", "b", "ü", "東京\u3000駅", "a ", "😀", "😀 ", "e\u0301", "é", "top", "poor", x200} {
		exec(t, pool, `SELECT lastseat.open_account($1, 'EUR', CASE WHEN $1 <> 'poor' THEN NULL ELSE 0 END)`, id)
	}
	for _, door := range []string{"sql", "go", "raw"} {
		exec(t, pool, `SELECT lastseat.transfer('tü ' || $1, 'a', 'b', 1, 'EUR')`, door)
	}
	exec(t, pool, `SELECT lastseat.transfer('max', 'b', $1, 9223372036854775807, 'EUR')`, x200)
	exec(t, pool, `SELECT lastseat.transfer('taken back', 'a', 'b', 1, 'EUR'), lastseat.reverse('reversal', 'taken back')`)
	exec(t, pool, `SELECT lastseat.authorize('p', 'p', 'a', 'b', 100, 'EUR'), lastseat.capture('p capture', 'p')`)
	drain(t, pool, outbox.Settings{})
	exec(t, pool, `SELECT lastseat.define_limit('show', 2), lastseat.define_resource('seat', 1000000),
		lastseat.define_resource('small', 1), lastseat.define_resource('closed', 0),
		lastseat.define_resource('show', 1000, 0, 'show'),
		  lastseat.define_resource($1, 1000)`, x200)
	exec(t, pool, `SELECT lastseat.hold('res', 'res', '[{"resource": "seat"}]'), lastseat.cancel('res cancel', 'res')`)
	drain(t, pool, outbox.Settings{})
	type asked struct {
		conforming
		args, key string
	}
	var all []asked
	for i, c := range conformance {
		for j, args := range c.args {
			key := fmt.Sprintf("%d.%d", i, j)
			all = append(all, asked{c, args, key})
			at := func(door string) string {
				return strings.ReplaceAll(strings.ReplaceAll(args, "DOOR", door), "ID", door+key)
			}
			for _, room := range []string{"room", "hall"} {
				if strings.Contains(args, `"`+room+` ID"`) {
					exec(t, pool, `SELECT lastseat.define_resource($2 || ' ' || door || $1, 1)
						FROM unnest('{sql,go,raw}'::text[]) door`, key, room)
				}
			}
			_, err := pool.Exec(t.Context(), `SELECT lastseat.enqueue($1, $2, $3::jsonb)`, c.kind, "sql"+key, at("sql"))
			pgErr, state := (*pgconn.PgError)(nil), ""
			if errors.As(err, &pgErr) {
				state = pgErr.Code
			}
			if state != c.sqlstate || state != "" && (pgErr.Hint == "" || pgErr.Message == "" || strings.Contains(pgErr.Message,
				"<NULL>")) {
				t.Errorf("%s %s: SQL says %q (%v), want %q", c.kind, args, state, err, c.sqlstate)
			}
			_, err = outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: "go" + key, Args: outbox.RawArgs{Of: c.kind,
				JSON: json.RawMessage(at("go"))}}})
			if (err == nil) != (c.sqlstate == "") {
				t.Errorf("%s %s: Go says %v", c.kind, args, err)
			}
			exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, max_attempts, args)
				VALUES ($1, 'lastseat', 25, $2::jsonb || jsonb_build_object('key', $3::text))`, c.kind, at("raw"), "raw"+key)
		}
	}
	if stats := drain(t, pool, outbox.Settings{}); stats.Failures != 0 {
		t.Errorf("%+v", stats)
	}
	for _, c := range all {
		doors := []string{"raw"}
		if c.sqlstate == "" {
			doors = []string{"raw", "sql", "go"}
		}
		for _, door := range doors {
			if o := outcome(t, pool, door+c.key); o.Code != c.code {
				t.Errorf("%s %s: asked for by %s it is %s %s, want %s%s", c.kind, c.args, door, o.Code, o.Detail, c.code,
					failureOf(t, pool, door+c.key))
			}
		}
	}
	sameMeaning(t, pool)
	proven(t, pool)
}

// failureOf is what a pending request's job has failed with: the kind's decoder or apply lets something through that
// the tables refuse.
func failureOf(t *testing.T, pool *pgxpool.Pool, key string) string {
	t.Helper()
	return testdb.Scalar[string](t, pool, `SELECT coalesce((
		SELECT '; its job failed: ' || (j.errors[array_length(j.errors, 1)] ->> 'error')
		FROM lastseat.requests r JOIN lastseat.river_job j ON j.id = r.job_id
		WHERE r.key = $1 AND r.status = 'pending'), '')`, key)
}

// sameMeaning compares what the doors have made of the same arguments: payments, transfers, and what was recorded of
// them.
func sameMeaning(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for what, sql := range map[string]string{
		// without a time of its own it runs out 7 days after it was asked for, which is not at the same time
		"payments": `SELECT substr(key, length(door) + 1) AS of, door, (from_account, to_account, amount, currency, status,
			CASE WHEN expires_at - created_at BETWEEN '6 days' AND '8 days' THEN NULL
			  ELSE expires_at END, substr(id, length(door) + 1))::text AS is
			FROM lastseat.payments, unnest('{raw,sql,go}'::text[]) door WHERE starts_with(key, door)`,
		"transfers": `SELECT substr(key, length(door) + 1) AS of, door, (from_account, to_account, amount, currency,
			payment_id, reverses_id IS NULL, description, coalesce(metadata, '{}'))::text AS is
			FROM lastseat.transfers, unnest('{raw,sql,go}'::text[]) door WHERE starts_with(key, door)`,
		"reservations": `SELECT substr(key, length(door) + 1) AS of, door, (customer, status, waiting_number IS NULL, CASE
			WHEN expires_at - created_at BETWEEN '14 minutes' AND '16 minutes' THEN NULL
			  ELSE expires_at END, substr(id, length(door) + 1),
			(SELECT array_agg((i.position, replace(i.resource_id, door, ''), i.quantity, i.during, i.occupies)
			  ORDER BY i.position) FROM lastseat.reservation_items i WHERE i.reservation_id = r.id))::text AS is
			FROM lastseat.reservations r, unnest('{raw,sql,go}'::text[]) door WHERE starts_with(key, door)`,
	} {
		// those of the raw door alone were refused at the others
		differ := testdb.Scalar[*string](t, pool, `SELECT string_agg(of || ': ' || ways, '; ') FROM (
			SELECT of, string_agg(DISTINCT x.is, ' or ') AS ways
			  FROM (`+sql+`) x GROUP BY of HAVING count(*) NOT IN (1, 3) OR count(DISTINCT x.is) > 1) y`)
		if differ != nil {
			t.Errorf("%s differ: %s", what, *differ)
		}
	}
	if n := testdb.Scalar[int](t, pool,
		`SELECT count(*)::int FROM lastseat.payments WHERE starts_with(key, 'go')`); n < 10 {
		t.Errorf("%d payments were compared", n)
	}
	if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.reservations WHERE starts_with(key, 'go')
		AND status IN ('held', 'confirmed', 'waiting')`); n < 25 {
		t.Errorf("%d reservations were compared", n)
	}
	// however it was written
	if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.reservation_items
		WHERE during = '[2026-12-01 10:00Z,2026-12-01 11:30Z)'`); n < 3*len(duringAccepted) {
		t.Errorf("%d ranges from 10:00 to 11:30", n)
	}
}

// Go's own structs and the typed functions of SQL ask for the same: the one is a duplicate of the other.
func TestTypedFunctionsConform(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('a', 'EUR', NULL), lastseat.open_account('b', 'EUR')`)
	exec(t, pool, `SELECT lastseat.define_resource('seat', 100), lastseat.define_resource('room', 1)`)
	soon := time.Now().Add(time.Hour).Round(time.Microsecond)
	ten := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		key, sql string
		args     outbox.Args
	}{
		{"transfer", `transfer('transfer', 'a', 'b', 7, 'EUR')`, jobs.Transfer{From: "a", To: "b", Amount: 7,
			Currency: "EUR"}},
		{"transfer, more", `transfer('transfer, more', 'a', 'b', 7, 'EUR', 'lunch', '{"n": 1}')`, jobs.Transfer{From: "a",
			To: "b", Amount: 7, Currency: "EUR", Description: "lunch", Metadata: json.RawMessage(`{"n":1}`)}},
		{"authorize", `authorize('authorize', 'p', 'a', 'b', 7, 'EUR')`, jobs.Authorize{Payment: "p", From: "a", To: "b",
			Amount: 7, Currency: "EUR"}},
		{"authorize, time", `authorize('authorize, time', 'q', 'a', 'b', 7, 'EUR', now() + interval '1 hour')`,
			jobs.Authorize{Payment: "q", From: "a", To: "b", Amount: 7, Currency: "EUR", ExpiresAt: soon}},
		{"capture", `capture('capture', 'p')`, jobs.Capture{Payment: "p"}},
		{"capture, part", `capture('capture, part', 'q', 5)`, jobs.Capture{Payment: "q", Amount: 5}},
		{"void", `void('void', 'p')`, jobs.Void{Payment: "p"}},
		{"refund", `refund('refund', 'p')`, jobs.Refund{Payment: "p"}},
		{"refund, part", `refund('refund, part', 'q', 2)`, jobs.Refund{Payment: "q", Amount: 2}},
		{"refund, late", `refund('refund, late', 'q', reference => 'pi_1')`, jobs.Refund{Payment: "q", Reference: "pi_1"}},
		{"reverse", `reverse('reverse', 'transfer')`, jobs.Reverse{Transfer: "transfer"}},
		{"hold", `hold('hold', 'r', '[{"resource": "seat"}]')`, jobs.Hold{Reservation: "r",
			Items: []jobs.Item{{Resource: "seat"}}}},
		{"hold, more",
			`hold('hold, more', 's', '[{"resource": "seat", "quantity": 2}, {"resource": "room", "during": "[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z)"}]', now() + interval '1 hour', 'ann', true)`,
			jobs.Hold{Reservation: "s", Items: []jobs.Item{{Resource: "seat", Quantity: 2},
				{Resource: "room", During: &jobs.TimeRange{Start: ten, End: ten.Add(90 * time.Minute)}}}, Customer: "ann",
				Wait: true, ExpiresAt: soon}},
		{"extend", `extend('extend', 'r', '2999-06-01T12:00:00Z')`, jobs.Extend{Reservation: "r", ExpiresAt: time.Date(2999,
			6, 1, 12, 0, 0, 0, time.UTC)}},
		{"confirm", `confirm('confirm', 'r')`, jobs.Confirm{Reservation: "r"}},
		{"cancel", `cancel('cancel', 'r')`, jobs.Cancel{Reservation: "r"}},
		{"book", `book('book', 'b', '[{"resource": "seat"}]', 'a', 'b', 7, 'EUR')`, jobs.Book{Reservation: "b",
			Items: []jobs.Item{{Resource: "seat"}}, From: "a", To: "b", Amount: 7, Currency: "EUR"}},
		{"book, more", `book('book, more', 'c', '[{"resource": "seat"}]', 'a', 'b', 7, 'EUR', 'ann', 'lunch', '{"n": 1}')`,
			jobs.Book{Reservation: "c", Items: []jobs.Item{{Resource: "seat"}}, Customer: "ann", From: "a", To: "b", Amount: 7,
				Currency: "EUR", Description: "lunch", Metadata: json.RawMessage(`{"n":1}`)}},
	} {
		exec(t, pool, "SELECT lastseat."+c.sql)
		receipts, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: c.key, Args: c.args}})
		if err != nil || !receipts[0].Duplicate {
			t.Errorf("%s: %+v, %v", c.key, receipts, err)
		}
	}
	drain(t, pool, outbox.Settings{})
	// all but the void and the late refund, of a payment that stands
	if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests WHERE status = 'applied'`); n != 16 {
		t.Errorf("%d requests were applied", n)
	}
	for call, state := range map[string]string{
		`authorize('n', 'n', 'a', 'b', 1, 'EUR', 'infinity')`:       "LS002",
		`authorize('n', 'n', 'a', 'b', 1, 'EUR', '-infinity')`:      "LS002",
		`authorize('n', 'n', 'a', 'b', 1, 'EUR', '10000-01-01Z')`:   "LS002",
		`authorize('n', 'n', 'a', 'b', 1, 'EUR', '2999-01-01Z BC')`: "LS002",
		`authorize('n', 'n', 'a', 'b', 1, 'EUR', '0001-06-01Z')`:    "LS002",
		`authorize('n', 'n', 'a', 'b', NULL, 'EUR')`:                "LS002",
		`authorize('n', NULL, 'a', 'b', 1, 'EUR')`:                  "LS002",
		`authorize('n', 'n', NULL, 'b', 1, 'EUR')`:                  "LS002",
		`authorize('n', 'n', 'a', NULL, 1, 'EUR')`:                  "LS002",
		`authorize('n', 'n', 'a', 'b', 1, NULL)`:                    "LS002",
		`authorize('n', 'n', 'a', 'b', -1, 'EUR')`:                  "LS002",
		`authorize('n', 'n', 'a', 'a', 1, 'EUR')`:                   "LS002",
		`authorize('n', 'n', 'a', 'c', 1, 'EUR')`:                   "LS003",
		`authorize('n', 'p', 'a', 'b', 7, 'EUR')`:                   "LS001",
		`authorize(NULL, 'n', 'a', 'b', 7, 'EUR')`:                  "LS002", `capture('n', NULL)`: "LS002",
		`capture('n', 'n')`: "LS003", `capture('n', 'p', 0)`: "LS002", `capture('n', 'p', -1)`: "LS002",
		`capture('', 'p')`: "LS002",
		`void('n', NULL)`:  "LS002", `void('n', 'n')`: "LS003", `refund('n', NULL)`: "LS002", `refund('n', 'n')`: "LS003",
		`refund('n', 'p', 0)`: "LS002", `reverse('n', NULL)`: "LS002", `reverse('n', 'n')`: "LS003",
		`reverse('n', 'capture')`: "LS003", `reverse('n', 'reverse')`: "LS003", `reverse('n', '')`: "LS002",
		`void('lastseat:x', 'p')`: "LS002", `capture('river_job:1', 'p')`: "LS002",
	} {
		_, err := pool.Exec(t.Context(), "SELECT lastseat."+call)
		if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.Code != state || pgErr.Hint == "" {
			t.Errorf("%s: %v, want %s", call, err, state)
		}
	}
	proven(t, pool)
}
