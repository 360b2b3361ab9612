package jobs_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// The same arguments through every door: lastseat.enqueue and Go refuse at once what a job that was inserted straight
// into river_job is rejected for.
func TestConformance(t *testing.T) {
	pool := newPool(t)
	for _, id := range []string{"a", "b", "ü", strings.Repeat("x", 200)} {
		exec(t, pool, `SELECT lastseat.open_account($1, 'EUR', NULL)`, id)
	}
	const ok = jobs.CodeTransferred
	cases := []struct{ args, sqlstate, code string }{
		{`{"from":"a","to":"b","amount":1,"currency":"EUR"}`, "", ok},
		{`{"from":"ü","to":"` + strings.Repeat("x", 200) + `","amount":9223372036854775807,"currency":"EUR"}`, "", jobs.CodeOutOfRange}, // for the third time
		{`{"from":"a","to":"b","amount":1e3,"currency":"EUR","description":"d","metadata":{"x":[1,null]}}`, "", ok},
		{`{"from":"a","to":"b","amount":1,"currency":"EUR","description":null,"metadata":null}`, "", ok},
		{`{"from":"a","to":"b","amount":1,"currency":"USD"}`, "", jobs.CodeCurrencyMismatch},
		{`{"from":"a","to":"nobody","amount":1,"currency":"EUR"}`, "LS003", jobs.CodeAccountNotFound},
		{`{"from":"nobody","to":"a","amount":1,"currency":"EUR"}`, "LS003", jobs.CodeAccountNotFound},
	}
	for _, args := range []string{
		`{}`,
		`{"to":"b","amount":1,"currency":"EUR"}`,
		`{"from":"a","amount":1,"currency":"EUR"}`,
		`{"from":"a","to":"b","currency":"EUR"}`,
		`{"from":"a","to":"b","amount":1}`,
		`{"from":null,"to":"b","amount":1,"currency":"EUR"}`,
		`{"from":"","to":"b","amount":1,"currency":"EUR"}`,
		`{"from":1,"to":"b","amount":1,"currency":"EUR"}`,
		`{"from":"` + strings.Repeat("x", 201) + `","to":"b","amount":1,"currency":"EUR"}`,
		`{"from":"a","to":"a","amount":1,"currency":"EUR"}`,
		`{"from":"a","to":"b","amount":0,"currency":"EUR"}`,
		`{"from":"a","to":"b","amount":-1,"currency":"EUR"}`,
		`{"from":"a","to":"b","amount":1.5,"currency":"EUR"}`,
		`{"from":"a","to":"b","amount":1.0,"currency":"EUR"}`,
		`{"from":"a","to":"b","amount":"1","currency":"EUR"}`,
		`{"from":"a","to":"b","amount":9223372036854775808,"currency":"EUR"}`,
		`{"from":"a","to":"b","amount":1e30,"currency":"EUR"}`,
		`{"from":"a","to":"b","amount":true,"currency":"EUR"}`,
		`{"from":"a","to":"b","amount":1,"currency":"eur"}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUX"}`,
		`{"from":"a","to":"b","amount":1,"currency":""}`,
		`{"from":"a","to":"b","amount":1,"currency":7}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","description":7}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","metadata":[]}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","metadata":"x"}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","descripton":"typo"}`,
		`{"From":"a","to":"b","amount":1,"currency":"EUR"}`,
	} {
		cases = append(cases, struct{ args, sqlstate, code string }{args, "LS002", outbox.CodeInvalidArgs})
	}
	for i, c := range cases {
		// through SQL
		_, err := pool.Exec(t.Context(), `SELECT lastseat.enqueue('payment.transfer', $1, $2::jsonb)`, "sql-"+c.args[:min(150, len(c.args))], c.args)
		pgErr := (*pgconn.PgError)(nil)
		state := ""
		if errors.As(err, &pgErr) {
			state = pgErr.Code
		}
		if state != c.sqlstate || state != "" && (pgErr.Hint == "" || pgErr.Message == "") {
			t.Errorf("%s: SQL says %q (%v), want %q", c.args, state, err, c.sqlstate)
		}
		// through Go
		_, err = outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{
			Key: "go-" + c.args[:min(150, len(c.args))], Args: outbox.RawArgs{Of: jobs.KindTransfer, JSON: json.RawMessage(c.args)},
		}})
		if (err == nil) != (c.sqlstate == "") {
			t.Errorf("%s: Go says %v", c.args, err)
		}
		// past both
		exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, args) VALUES ('payment.transfer', 'lastseat', $1::jsonb || jsonb_build_object('key', $2::text))`,
			c.args, "raw-"+string(rune('A'+i)))
	}
	drain(t, pool, outbox.Settings{})
	for i, c := range cases {
		if o := outcome(t, pool, "raw-"+string(rune('A'+i))); o.Code != c.code {
			t.Errorf("%s: the worker says %s %s, want %s", c.args, o.Code, o.Detail, c.code)
		}
	}
	proven(t, pool)
}
