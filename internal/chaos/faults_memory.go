package chaos

import (
	"context"
	"fmt"
	"time"
)

var memoryFaults = []Fault{
	{
		Name: "out-of-memory", Does: "a job whose handler takes memory until its worker has none left (RLIMIT_DATA)",
		Holds: "Charged after a few tries, and named in the log. The others settle.", do: growMemory,
	},
}

// growMemory asks for a job that takes too much memory, and waits until it is charged and named.
func growMemory(ctx context.Context, r *run, s Step) error {
	key := fmt.Sprintf("poison/grow/%v/%d", s.At, s.N)
	_, err := r.admin.Exec(ctx, `SELECT lastseat.enqueue('points.poison', $1, '{"how": "grow"}', queue => 'points')`, key)
	if err != nil || !r.plan.Alone {
		return err
	}
	starts := r.own[0].count()
	for give := time.Now().Add(30 * time.Second); time.Now().Before(give) && ctx.Err() == nil; {
		attempts := 0
		err := r.admin.QueryRow(ctx, `SELECT greatest(r.attempts, coalesce(j.attempt, 0)) FROM lastseat.requests r
			LEFT JOIN lastseat.river_job j ON j.id = r.job_id WHERE r.key = $1 AND (r.status <> 'pending'
			OR j.state = 'retryable')`, key).Scan(&attempts)
		if err == nil && attempts > 0 && r.own[0].says(key) {
			r.logf("%s is charged after %d deaths", key, r.own[0].count()-starts)
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.violate("quarantine", "%s is not charged and named within 30 s: %s", key, r.logs())
	return nil
}
