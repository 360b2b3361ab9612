package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// VersionError says that a database's schema is not the one that this binary knows, and what to do about it.
type VersionError struct {
	have, want versionPair
}

// versionPair counts our migrations and River's; 0, 0 is a database without the schema.
type versionPair struct{ own, river int }

// Newer tells whether the database is ahead: what this program asks for is still there, but it must not write.
func (e *VersionError) Newer() bool { return e.have.own > e.want.own || e.have.river > e.want.river }

// Error is one line with both versions and the command that mends it.
func (e *VersionError) Error() string {
	switch {
	case e.have == versionPair{}:
		return `the database has no schema "lastseat": run "worker migrate up"`
	case e.Newer():
		return fmt.Sprintf("the database's schema is newer (%v) than this program (%v): run a newer release of it", e.have, e.want)
	default:
		return fmt.Sprintf(`the database's schema is at %v, this program needs %v: run "worker migrate up"`, e.have, e.want)
	}
}

func (v versionPair) String() string { return fmt.Sprintf("version %d, river %d", v.own, v.river) }

// Querier is what a pgx connection, pool and transaction have in common.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Check returns nil if the database's schema is exactly the one that this binary knows, an [*VersionError] if it is
// older, newer or missing. Every role of ours has the right to ask.
func Check(ctx context.Context, db Querier) error {
	have, err := readVersions(ctx, db)
	if err != nil {
		return err
	}
	want, err := knownVersions()
	if err != nil {
		return err
	}
	if have != want {
		return &VersionError{have: have, want: want}
	}
	return nil
}

const (
	// Null where there is no schema.
	findVersionsSQL = `
	SELECT to_regprocedure('lastseat.schema_version()') IS NOT NULL, to_regclass('lastseat.schema_migrations') IS NOT NULL,
	       to_regclass('lastseat.river_migration') IS NOT NULL`
	versionsSQL = `SELECT own, river FROM lastseat.schema_version()`
	// Of a schema that is older than the function; only the owner and who may read the tables can tell.
	ownVersionSQL   = `SELECT coalesce(max(version_id), 0) FROM lastseat.schema_migrations`
	riverVersionSQL = `SELECT coalesce(max(version), 0) FROM lastseat.river_migration WHERE line = 'main'`
)

func readVersions(ctx context.Context, db Querier) (versionPair, error) {
	var have versionPair
	var function, own, river bool
	err := db.QueryRow(ctx, findVersionsSQL).Scan(&function, &own, &river)
	switch {
	case err == nil && function:
		err = db.QueryRow(ctx, versionsSQL).Scan(&have.own, &have.river)
	case err == nil:
		if own {
			err = db.QueryRow(ctx, ownVersionSQL).Scan(&have.own)
		}
		if err == nil && river {
			err = db.QueryRow(ctx, riverVersionSQL).Scan(&have.river)
		}
	}
	if err != nil {
		return versionPair{}, fmt.Errorf("read the schema's version: %w", err)
	}
	return have, nil
}

func knownVersions() (versionPair, error) {
	river, err := newRiver(nil)
	if err != nil {
		return versionPair{}, err
	}
	files, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		return versionPair{}, err
	}
	all := river.AllVersions()
	return versionPair{own: len(files), river: all[len(all)-1].Version}, nil
}
