package schema

import (
	"context"
	"io/fs"
)

// FunctionsStep is the name of the step that puts this binary's functions in place.
func FunctionsStep() string {
	release, err := current()
	if err != nil {
		panic(err)
	}
	return release.functions.step()
}

// FunctionsVersion returns the number and the digest that are noted, and the digest that the files have.
func FunctionsVersion() (version int, noted, digest string) {
	release, err := current()
	if err != nil {
		panic(err)
	}
	return functionsVersion, functionsDigest, release.functions.digest
}

// Files are this binary's migrations and functions.
func Files() fs.FS { return files }

// UpTo is [Up] of another release, that has these files and a set of functions with this number.
func UpTo(ctx context.Context, databaseURL string, from fs.FS, version int, options ...Option) ([]Step, error) {
	migrations, err := readMigrations(from)
	if err != nil {
		return nil, err
	}
	functions, err := readFunctions(from, version)
	if err != nil {
		return nil, err
	}
	release := release{migrations: migrations, functions: functions}
	return migrateTo(ctx, databaseURL, release, false, func(m *migrator) ([]Step, error) { return m.up(ctx) },
		options...)
}

// LockMigrations is the advisory lock that a migration holds.
const LockMigrations int64 = lockMigrations

// Part is a piece of the SQL that brings an empty database to this release.
type Part struct{ About, SQL string }

// Parts are that SQL, after River's migrations.
func Parts() (all []Part) {
	release, err := current()
	if err != nil {
		panic(err)
	}
	for _, part := range release.parts(versions{}) {
		all = append(all, Part{About: part.about, SQL: part.sql})
	}
	return all
}
