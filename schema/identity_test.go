package schema_test

import (
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
)

// What a key stands for stays, also while the request is pending: else the key would be free for a second use.
func TestRequestKeepsItsIdentity(t *testing.T) {
	t.Parallel()
	pool := testdb.Pool(t, testdb.New(t))
	if _, err := pool.Exec(t.Context(), `SELECT lastseat.enqueue('toy', 'a', '{}')`); err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{"key = 'b'", "kind = 'other'", "fingerprint = 'x'", "spelled = 'x'"} {
		_, err := pool.Exec(t.Context(), `UPDATE lastseat.requests SET `+change)
		if err == nil || !strings.Contains(err.Error(), "23000") {
			t.Errorf("%s: %v", change, err)
		}
	}
	for _, sql := range []string{
		`UPDATE lastseat.requests SET status = 'failed', code = 'retries_exhausted', settled_at = now()`,
		`UPDATE lastseat.requests SET status = 'pending', code = NULL, settled_at = NULL`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	_, err := pool.Exec(t.Context(), `SELECT lastseat.enqueue('toy', 'never', '{}', 'infinity')`)
	if err == nil || !strings.Contains(err.Error(), "LS002") {
		t.Errorf("scheduled for infinity: %v", err)
	}
}
