package txn_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/txn"
)

// jammed is a database where everything conflicts. It lives in a bubble, where time passes only when all sleep.
type jammed struct{}

func (jammed) BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error) {
	return nil, &pgconn.PgError{Code: "40001"}
}

func TestPausesGrowAndAreJittered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		short, long := 0, 0
		for range 100 {
			options, seen := recorder(txn.Options{Retries: 20})
			start, sum := time.Now(), time.Duration(0)
			wantErr(t, txn.Run(t.Context(), jammed{}, options, nil), txn.ErrConflict)
			for i, retry := range *seen {
				limit := min(time.Second, 5*time.Millisecond<<i)
				if retry.Pause < 0 || retry.Pause > limit {
					t.Errorf("pause %d is %v", i, retry.Pause)
				}
				if retry.Pause < limit/2 {
					short++
				} else {
					long++
				}
				sum += retry.Pause
			}
			if slept := time.Since(start); len(*seen) != 20 || slept != sum {
				t.Errorf("%d pauses of %v, slept %v", len(*seen), sum, slept)
			}
		}
		if short < 700 || long < 700 { // of 2,000; anything up to the limit is as likely
			t.Errorf("%d pauses are short and %d long: that is no full jitter", short, long)
		}
	})
}

func TestTimeoutIsOfAllTries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		options, seen := recorder(txn.Options{Retries: 1_000_000, Timeout: time.Minute})
		err := txn.Run(t.Context(), jammed{}, options, nil)
		wantErr(t, err, txn.ErrConflict, context.DeadlineExceeded)
		wantState(t, err, "40001")
		if took := time.Since(start); took != time.Minute || len(*seen) < 60 {
			t.Errorf("%v, %d retries", took, len(*seen))
		}
	})
}
