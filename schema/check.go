package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrVersion says that a database's schema is not the one that this binary knows, and what to do about it.
type ErrVersion struct {
	have, want versionPair
}

// versionPair counts our migrations and River's; 0, 0 is a database without the schema.
type versionPair struct{ own, river int }

func (e *ErrVersion) newer() bool { return e.have.own > e.want.own || e.have.river > e.want.river }

// Error is one line with both versions and the command that mends it.
func (e *ErrVersion) Error() string {
	switch {
	case e.have == versionPair{}:
		return `the database has no schema "lastseat": run "worker migrate up"`
	case e.newer():
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

// Check returns nil if the database's schema is exactly the one that this binary knows, an [*ErrVersion] if it is
// older, newer or missing. Every role of ours that may log in, but lastseat_producer, has the right to ask.
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
		return &ErrVersion{have: have, want: want}
	}
	return nil
}

func readVersions(ctx context.Context, db Querier) (versionPair, error) {
	var have versionPair
	var own, river bool
	// to_regclass needs no right on the schema, and is null where there is none
	err := db.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL, to_regclass($2) IS NOT NULL`,
		versions, Name+".river_migration").Scan(&own, &river)
	if err == nil && own {
		err = db.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM lastseat.schema_migrations`).Scan(&have.own)
	}
	if err == nil && river {
		err = db.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM lastseat.river_migration WHERE line = 'main'`).Scan(&have.river)
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
