package schema_test

import (
	"net/url"
	"sync"
	"testing"

	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

// freshCluster is a server without our roles: those of the tests' own server may be there already. It returns its
// superuser's URL and a function that makes an empty database and returns the URL for a user of it.
func freshCluster(t *testing.T) (admin string, build func(name, user string) string) {
	t.Helper()
	server, err := localpg.Start(t.Context(), localpg.Options{Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server.URL(), func(name, user string) string {
		t.Helper()
		pool := testdb.Pool(t, server.URL())
		exec(t, pool, "CREATE DATABASE "+name)
		u, err := url.Parse(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/" + name
		if user != "" {
			exec(t, pool, "GRANT CREATE ON DATABASE "+name+" TO "+user)
			u.User = url.UserPassword(user, "secret")
		}
		return u.String()
	}
}

// Roles belong to the whole cluster: databases that are migrated at the same time make them at the same time.
func TestDatabasesOfOneClusterAtOnce(t *testing.T) {
	t.Parallel()
	for name, create := range map[string]string{
		"superuser":  `SELECT 1`,
		"createrole": `CREATE ROLE deployer LOGIN CREATEROLE PASSWORD 'secret'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			admin, makeDatabase := freshCluster(t)
			exec(t, testdb.Pool(t, admin), create)
			user := ""
			if name == "createrole" {
				user = "deployer"
			}
			urls := make([]string, 0, 6)
			for _, database := range []string{"a", "b", "c", "d", "e", "f"} {
				urls = append(urls, makeDatabase(database, user))
			}
			var all sync.WaitGroup
			start := make(chan struct{})
			for _, url := range urls {
				for range 2 {
					all.Go(func() {
						<-start
						if _, err := schema.Up(t.Context(), url, false); err != nil {
							t.Errorf("up: %v", err)
						}
					})
				}
			}
			close(start)
			all.Wait()
			for _, url := range urls {
				if err := schema.Check(t.Context(), testdb.Pool(t, url)); err != nil {
					t.Error(err)
				}
			}
			may := scalar[bool](t, testdb.Pool(t, admin), `SELECT pg_has_role('lastseat_worker', 'pg_read_all_stats', 'USAGE')`)
			if name == "superuser" && !may {
				t.Error("the worker can't see what sessions do that lock its rows")
			}
		})
	}
}

func TestMigrateWithoutSuperuser(t *testing.T) {
	t.Parallel()
	admin, makeDatabase := freshCluster(t)
	pool := testdb.Pool(t, admin)
	exec(t, pool, `CREATE ROLE deployer LOGIN CREATEROLE PASSWORD 'secret'`)

	first := makeDatabase("first", "deployer")
	steps := up(t, first)
	if applied(steps) == 0 || applied(steps) != len(status(t, first)) {
		t.Errorf("up took %v", steps)
	}
	for role, login := range map[string]bool{"lastseat_owner": false, "lastseat_worker": true, "lastseat_producer": true,
		"lastseat_viewer": true, "lastseat_keeper": true} {
		ok := scalar[bool](t, pool, `SELECT rolcanlogin = $2 AND NOT rolsuper AND NOT rolcreaterole AND NOT rolcreatedb
			AND NOT rolbypassrls
			FROM pg_authid WHERE rolname = $1`, role, login)
		if !ok {
			t.Errorf("role %s has not the attributes that it should have", role)
		}
	}
	if owner := scalar[string](t, testdb.Pool(t, first), `SELECT tableowner FROM pg_tables WHERE schemaname = 'lastseat'
		AND tablename = 'accounts'`); owner != "lastseat_owner" {
		t.Errorf("accounts belongs to %s", owner)
	}

	// Where the roles exist already, membership in lastseat_owner is enough, beside CREATE on the database.
	exec(t, pool, `CREATE ROLE follower LOGIN PASSWORD 'secret'; GRANT lastseat_owner TO follower`)
	upAndDown(t, makeDatabase("second", "follower"))

	exec(t, pool, `CREATE ROLE stranger LOGIN PASSWORD 'secret'`)
	_, err := schema.Up(t.Context(), makeDatabase("third", "stranger"), false)
	wantRefusal(t, err, "42501")
}

// A member that does not inherit the owner's rights has them by SET ROLE, as the migrations themselves do it.
func TestMigrateAsNoInherit(t *testing.T) {
	t.Parallel()
	admin, makeDatabase := freshCluster(t)
	pool := testdb.Pool(t, admin)
	exec(t, pool,
		`CREATE ROLE lastseat_owner NOLOGIN; CREATE ROLE distant LOGIN NOINHERIT CREATEROLE PASSWORD 'secret'; GRANT lastseat_owner TO distant`)
	upAndDown(t, makeDatabase("distant", "distant"))
}

func upAndDown(t *testing.T, url string) {
	t.Helper()
	if steps := up(t, url); applied(steps) == 0 {
		t.Error("up took no steps")
	}
	if again := up(t, url); len(again) != 0 {
		t.Errorf("up again took %v", again)
	}
	if steps := status(t, url); applied(steps) != len(steps) {
		t.Errorf("the status is %v", steps)
	}
	for range 5 {
		down(t, url)
	}
}
