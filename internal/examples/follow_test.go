package examples

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/testdb"
)

// followers read all outcomes and write a letter for each.
var followers = []example{
	{dir: "python", roles: "lastseat_producer", probe: []string{"python3", "-c", "import psycopg2"},
		run: []string{"python3", "follow.py"}, install: "apt-get install python3-psycopg2"},
	{dir: "node", roles: "lastseat_producer", probe: []string{"node", "--input-type=module", "-e", "import 'pg'"},
		run: []string{"node", "follow.js"}, install: "npm ci --prefix examples/node"},
}

// TestFollowers runs each of them twice, with an outcome in between that the second run has to find.
func TestFollowers(t *testing.T) {
	t.Parallel()
	for _, e := range followers {
		t.Run(e.dir, func(t *testing.T) {
			t.Parallel()
			e.usable(t)
			address := testdb.New(t)
			pool := testdb.Pool(t, address)
			work(t, pool)
			shop := e.service(t, pool, address)

			follow := func() string {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				command := e.command(ctx, e.run)
				command.Env = append(os.Environ(), "DATABASE_URL="+shop, "LC_ALL=C.UTF-8")
				out, err := command.CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				return string(out)
			}
			if got, want := follow(), "top-up: applied transferred\n"; got != want {
				t.Errorf("first it says\n%s, want\n%s", got, want)
			}
			testdb.Exec(t, pool, `SELECT lastseat.transfer('too-much', 'customer:7', 'shop', 99999, 'EUR')`)
			for testdb.Scalar[string](t, pool, `SELECT status FROM lastseat.outcome('too-much')`) == "pending" {
				time.Sleep(10 * time.Millisecond)
			}
			if got, want := follow(), "too-much: rejected insufficient_funds\ntop-up: applied transferred\n"; got != want {
				t.Errorf("then it says\n%s, want\n%s", got, want)
			}
		})
	}
}
