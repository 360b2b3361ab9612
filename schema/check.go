package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// VersionError says that a database's schema does not fit this binary, and what to do about it.
type VersionError struct {
	have, want versions
}

// versions are the numbers of our and River's newest migrations, and the set of functions. All are zero in a database
// without the schema.
type versions struct {
	own, river, functions int
	digest                string // of the set of functions
	unreleased            bool   // the schema has the migrations from before the first release
	hidden                bool   // the functions are missing, and this role may not read the tables that have the rest
}

// Newer tells whether the database is ahead of the binary: the functions that the binary calls are still there, but a
// worker must not settle.
func (e *VersionError) Newer() bool {
	return !e.have.unreleased && !e.have.hidden &&
		(e.have.own > e.want.own || e.have.river > e.want.river || e.have.functions > e.want.functions)
}

// Error is one line with both versions and what to do.
func (e *VersionError) Error() string {
	switch {
	case e.have.unreleased:
		return fmt.Sprintf(`the database's schema is of a development version from before the first release `+
			`(%d migrations of goose), which can't be migrated to %v: make a new database, or dump the data, `+
			`DROP SCHEMA lastseat CASCADE, run "worker migrate up" and restore the data`, e.have.own, e.want)
	case e.have == versions{}:
		return `the database has no schema "lastseat": run "worker migrate up"`
	case e.have.hidden:
		return `the database's schema "lastseat" has no functions: run "worker migrate up"`
	case e.Newer():
		return fmt.Sprintf("the database's schema is newer (%v) than this program (%v): run a newer release of it",
			e.have, e.want)
	default:
		return fmt.Sprintf(`the database's schema is at %v, this program needs %v: run "worker migrate up"`,
			e.have, e.want)
	}
}

func (v versions) String() string {
	if v.digest == "" {
		return fmt.Sprintf("version %d, river %d, no functions", v.own, v.river)
	}
	return fmt.Sprintf("version %d, river %d, %s", v.own, v.river, functionsStep(v.functions, v.digest))
}

// Querier is what a pgx connection, pool and transaction have in common.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Check returns nil if the database's schema is exactly the one that this binary knows, a [*VersionError] if it is
// older, newer, another set of functions, or missing. Every role of ours has the right to ask.
func Check(ctx context.Context, db Querier) error {
	release, err := current()
	if err != nil {
		return err
	}
	want, err := release.versions()
	if err != nil {
		return err
	}
	have, err := readVersions(ctx, db)
	if err != nil {
		return err
	}
	if have != want {
		return &VersionError{have: have, want: want}
	}
	return nil
}

const (
	// The version table of goose, which ran the migrations before the first release, has other columns.
	findVersionsSQL = `
	SELECT EXISTS (SELECT FROM pg_attribute
	               WHERE attrelid = to_regclass('lastseat.schema_migrations') AND attname = 'version_id'),
	       to_regprocedure('lastseat.schema_version()') IS NOT NULL,
	       to_regclass('lastseat.schema_migrations') IS NOT NULL, to_regclass('lastseat.river_migration') IS NOT NULL,
	       NOT coalesce(has_table_privilege(to_regclass('lastseat.schema_migrations'), 'SELECT'), true)`
	versionsSQL = `SELECT coalesce(own, 0), coalesce(river, 0), coalesce(functions, 0), coalesce(digest, '')
	               FROM lastseat.schema_version()`
	// Where the functions are missing, only a role that may read the tables can tell the rest.
	unreleasedSQL   = `SELECT coalesce(own, 0) FROM lastseat.schema_version()`
	ownVersionSQL   = `SELECT coalesce(max(version), 0) FROM lastseat.schema_migrations`
	riverVersionSQL = `SELECT coalesce(max(version), 0) FROM lastseat.river_migration WHERE line = 'main'`
)

func readVersions(ctx context.Context, db Querier) (versions, error) {
	var have versions
	var function, own, river, closed bool
	err := db.QueryRow(ctx, findVersionsSQL).Scan(&have.unreleased, &function, &own, &river, &closed)
	switch {
	case err != nil:
	case have.unreleased && function:
		err = db.QueryRow(ctx, unreleasedSQL).Scan(&have.own)
	case have.unreleased:
	case function:
		err = db.QueryRow(ctx, versionsSQL).Scan(&have.own, &have.river, &have.functions, &have.digest)
	case closed:
		have.hidden = true
	default:
		if own {
			err = db.QueryRow(ctx, ownVersionSQL).Scan(&have.own)
		}
		if err == nil && river {
			err = db.QueryRow(ctx, riverVersionSQL).Scan(&have.river)
		}
	}
	if err != nil {
		return versions{}, fmt.Errorf("read the schema's version: %w", err)
	}
	return have, nil
}

func (r *release) versions() (versions, error) {
	river, err := newRiver(nil)
	if err != nil {
		return versions{}, err
	}
	all := river.AllVersions()
	return versions{
		own: len(r.migrations), river: all[len(all)-1].Version,
		functions: r.functions.version, digest: r.functions.digest,
	}, nil
}
