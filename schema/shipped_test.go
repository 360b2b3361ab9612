package schema_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lastseat/lastseat/schema"
)

// What worker audit compares with is what a migration makes. UPDATE_GOLDEN=1 go test ./schema -run TestShipped writes
// the file anew.
func TestShipped(t *testing.T) {
	t.Parallel()
	got := column[string](t, migrated(t), schema.ShippedSQL)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile("shipped.txt", []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(schema.Shipped(), got); diff != "" {
		t.Errorf("the schema has changed (-was +is): UPDATE_GOLDEN=1 go test ./schema -run TestShipped\n%s", diff)
	}
}
