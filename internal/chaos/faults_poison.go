package chaos

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

const sigkill = syscall.SIGKILL

var poisonFaults = []Fault{
	{
		Name:  "bad-jobs",
		Does:  "hundreds of bad jobs in front of all others, inserted straight into river_job",
		Args:  []string{"no key", "no arguments", "unknown kind", "wrong types", "deep", "too large", "key of the worker's"},
		Holds: "Each is rejected or has a failed attempt; those of a kind that no worker has stay. The honest ones settle.",
		do:    insertBadJobs,
	},
	{
		Name: "stray-jobs", Does: "second jobs for keys that were asked for, inserted straight into river_job",
		Holds: "A key has one effect.", do: insertStrayJobs,
	},
	{
		Name: "bad-handlers", Does: "jobs whose handler ends the process, panics, hangs, fails, or cuts its connection",
		Args:  []string{"exit", "panic", "slow", "sql", "cut", "error"},
		Holds: "Charged after a few tries, and named in the log. The honest ones settle.",
		do: func(ctx context.Context, r *run, s Step) error {
			_, err := r.admin.Exec(
				ctx,
				`SELECT lastseat.enqueue('points.poison', format('poison/%s/%s/%s', $1::text, $2::text, n),
				jsonb_build_object('how', $1::text), queue => 'points') FROM generate_series(1, 2) n`,
				s.Arg,
				fmt.Sprint(s.At),
			)
			return err
		},
	},
	{
		Name: "hurry", Does: "one client asks at once for up to 2,200 tiny requests, or for 200 of 60 kB",
		Args: []string{"tiny", "large"},
		do: func(ctx context.Context, r *run, s Step) error {
			n, size := 200+2*s.N, 0
			if s.Arg == "large" {
				n, size = 200, 60_000
			}
			_, err := r.admin.Exec(ctx, `SELECT count(*) FROM lastseat.enqueue_many((SELECT jsonb_agg(jsonb_build_object(
				'kind', 'payment.transfer', 'key', format('poison/%s/%s', $1::text, n), 'args', jsonb_build_object(
				'from', 'bank', 'to', 'e0', 'amount', 1, 'currency', 'EUR', 'description', repeat('x', $3::int))))
				FROM generate_series(1, $2::int) n))`, fmt.Sprint(s.At), n, size)
			return err
		},
	},
}

// badJobs are the kind and the arguments of a job, with %s for what tells it from others.
var badJobs = map[string][2]string{
	"no key":              {"payment.transfer", `{"from": "bank", "to": "p0", "amount": 1, "currency": "EUR"}`},
	"no arguments":        {"payment.transfer", `{"key": "poison/%s"}`},
	"unknown kind":        {"payment.unheard_of", `{"key": "poison/%s"}`},
	"wrong types":         {"reservation.hold", `{"key": "poison/%s", "reservation": 7, "items": {"resource": []}}`},
	"deep":                {"payment.transfer", `deep`},
	"too large":           {"payment.transfer", `large`},
	"key of the worker's": {"payment.transfer", `{"key": "lastseat:payment.expire:%s"}`},
}

const badJobSQL = `
	INSERT INTO lastseat.river_job (kind, queue, args, state, scheduled_at, max_attempts)
	SELECT $1, 'lastseat', CASE $2
	         WHEN 'deep' THEN format('{"key": "poison/%s/%s", "metadata": %s}', $3::text, n, repeat('[', 3000)
	           || repeat(']', 3000))
	         WHEN 'large' THEN format('{"key": "poison/%s/%s", "description": "%s"}', $3::text, n, repeat('x', 70000))
	         ELSE replace($2, '%s', $3::text || '/' || n) END::jsonb, 'available', now() - interval '1 h', 2
	FROM generate_series(1, $4::int) n`

func insertBadJobs(ctx context.Context, r *run, s Step) error {
	bad, n := badJobs[s.Arg], 40+s.N/4
	if s.Arg == "too large" || s.Arg == "deep" {
		n = 20 + s.N/40
	}
	_, err := r.admin.Exec(ctx, badJobSQL, bad[0], bad[1], fmt.Sprint(s.At), n)
	return err
}

// insertStrayJobs inserts a second job for each of the last keys that were answered with ok.
func insertStrayJobs(ctx context.Context, r *run, s Step) error {
	n := 0
	calls := r.history.Calls()
	for i := len(calls) - 1; i >= 0 && n < 20+s.N%50; i-- {
		c := calls[i]
		if c.Status != OK || c.Misuse || c.Duplicate || c.Op.Later {
			continue
		}
		n++
		_, err := r.admin.Exec(ctx, `INSERT INTO lastseat.river_job (kind, queue, args, state, scheduled_at, max_attempts)
			VALUES ($1, $2, $3::jsonb || jsonb_build_object('key', $4::text), 'available', clock_timestamp(), 2)`,
			c.Op.Kind, c.Op.Queue, string(c.Op.Args), c.Op.Key)
		if err != nil {
			return err
		}
	}
	time.Sleep(s.For)
	return nil
}
