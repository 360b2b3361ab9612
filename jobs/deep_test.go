package jobs_test

import (
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// Postgres takes JSON that is nested more deeply than Go's decoder does. It is settled or refused like any other, and
// stops nobody.
func TestDeeplyNestedMetadata(t *testing.T) {
	t.Parallel()
	pool := testdb.Pool(t, testdb.New(t))
	for _, id := range []string{"a", "b"} {
		testdb.Exec(t, pool, `SELECT lastseat.open_account($1, 'EUR', 100000)`, id)
	}
	const ask = `SELECT lastseat.transfer($1, 'a', 'b', 1, 'EUR', metadata => $2::text::jsonb)`
	deep := `{"a":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + `}`
	testdb.Exec(t, pool, ask, "before", `{}`)
	testdb.Exec(t, pool, ask, "deep", deep)
	testdb.Exec(t, pool, ask, "after", `{}`)
	drain(t, pool, outbox.Settings{})
	if n := testdb.Scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests WHERE key IN ('before', 'after')
		AND status = 'applied'`); n != 2 {
		t.Errorf("%d of the 2 others are applied", n)
	}
	if status := testdb.Scalar[string](t, pool, `SELECT status FROM lastseat.requests WHERE key = 'deep'`); status !=
		"applied" && status != "rejected" {
		t.Errorf("the deep one is %s", status)
	}
}
