package schema

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/lastseat/lastseat/internal/pgsession"
)

// Name is the Postgres schema in which everything lives, River's tables too.
const Name = "lastseat"

const (
	owner = "lastseat_owner"

	// lockMigrations is the advisory lock that a migration holds: several processes may start at once.
	lockMigrations = 0x6c617374_73656174 // "lastseat"
)

// Step is one migration, ours or River's, or the set of functions.
type Step struct {
	Name    string // "river 006", "0001_requests" or "functions 1 (3fa9c210)"
	Applied bool
}

// Up brings the database to this binary's version: roles and schema, River's migrations, our migrations, the
// functions. It returns the steps that it took; none if there was nothing to do. Each of River's migrations is a
// transaction of its own. All that is ours is one transaction: other sessions see the old schema, or the new one
// with its functions. Several processes may call Up at once: one works, the others wait for it.
//
// The caller's role must be a superuser, or one with CREATEROLE and CREATE on the database; where the roles exist
// already, membership in lastseat_owner is enough, with CREATE on the database where there is no schema yet. With
// dryRun nothing is changed, and the steps are those that would be taken; [Script] has their SQL.
//
// Up waits for a lock for a few seconds at a time, and lets others pass before it tries again: see [Option].
//
// A database of a newer version is left alone: the error is a [VersionError].
func Up(ctx context.Context, databaseURL string, dryRun bool, options ...Option) ([]Step, error) {
	return migrate(ctx, databaseURL, dryRun, func(m *migrator) ([]Step, error) {
		return m.up(ctx)
	}, options...)
}

// Down takes back the newest step of ours and returns it: the functions, then one migration after the other; when
// none of ours is left, River's tables. A migration that made a table with rows in it refuses: no ledger is dropped.
func Down(ctx context.Context, databaseURL string, dryRun bool, options ...Option) ([]Step, error) {
	return migrate(ctx, databaseURL, dryRun, func(m *migrator) ([]Step, error) {
		return m.down(ctx)
	}, options...)
}

// Status lists all migrations that this binary knows, in their order, and its set of functions. A database that has
// another set of functions has that in the list as well.
func Status(ctx context.Context, databaseURL string, options ...Option) ([]Step, error) {
	return migrate(ctx, databaseURL, true, func(m *migrator) ([]Step, error) {
		have, err := readVersions(ctx, m.pool)
		if err == nil && have.unreleased {
			err = &VersionError{have: have, want: m.want}
		}
		if err != nil {
			return nil, err
		}
		return m.status(have), nil
	}, options...)
}

type migrator struct {
	conn    *pgx.Conn     // as the caller, holding the lock
	pool    *pgxpool.Pool // as the owner, once there is one
	river   *rivermigrate.Migrator[pgx.Tx]
	release release
	want    versions // of the release
	dryRun  bool
	wait    *waiting
	missing []Step // before the first attempt
}

func migrate(
	ctx context.Context, databaseURL string, dryRun bool, run func(*migrator) ([]Step, error), options ...Option,
) ([]Step, error) {
	release, err := current()
	if err != nil {
		return nil, err
	}
	return migrateTo(ctx, databaseURL, release, dryRun, run, options...)
}

func migrateTo(
	ctx context.Context, databaseURL string, release release, dryRun bool, run func(*migrator) ([]Step, error),
	options ...Option,
) (steps []Step, err error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("parse database URL: %w", err)
	}
	conn, err := pgsession.Connect(ctx, config.ConnConfig)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	wait := newWaiting(config.ConnConfig, options)
	defer wait.close(ctx)
	if err := wait.bound(ctx, conn); err != nil {
		return nil, err
	}
	err = wait.again(ctx, 0, func() error { // nobody waits behind it but other migrations
		_, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(lockMigrations))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for other migrations: %w", err)
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := wait.bound(ctx, conn); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `SELECT set_config('role', rolname, false) FROM pg_roles
			WHERE rolname = $1 AND pg_has_role(oid, 'MEMBER')`, owner)
		return err
	}
	config.MaxConns = 2
	pool, err := pgsession.NewPool(ctx, config)
	if err != nil {
		return nil, err
	}
	defer pool.Close()

	if err := requireUTF8(ctx, conn); err != nil {
		return nil, err
	}
	m := &migrator{conn: conn, pool: pool, release: release, dryRun: dryRun, wait: wait}
	if m.river, err = newRiver(pool); err != nil {
		return nil, err
	}
	if m.want, err = release.versions(); err != nil {
		return nil, err
	}
	err = wait.again(ctx, firstPause, func() (err error) {
		steps, err = run(m)
		return err
	})
	return steps, err
}

// requireUTF8 refuses a database that can't keep every text, before anything is done in it.
func requireUTF8(ctx context.Context, conn *pgx.Conn) error {
	var encoding, name string
	err := conn.QueryRow(ctx, "SELECT current_setting('server_encoding'), current_database()").Scan(&encoding, &name)
	if err != nil || encoding == "UTF8" {
		return err
	}
	return fmt.Errorf("the database %q has the encoding %s, and needs UTF8: "+
		"CREATE DATABASE %s TEMPLATE template0 ENCODING 'UTF8'", name, encoding, pgx.Identifier{name + "_utf8"}.Sanitize())
}

func newRiver(pool *pgxpool.Pool) (*rivermigrate.Migrator[pgx.Tx], error) {
	return rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{
		Schema: Name,
		Logger: slog.New(slog.DiscardHandler), // the steps are returned
	})
}

func (m *migrator) up(ctx context.Context) ([]Step, error) {
	have, err := m.readKnown(ctx)
	if err != nil {
		return nil, err
	}
	missing := slices.DeleteFunc(m.status(have), func(s Step) bool { return s.Applied })
	if m.missing == nil {
		m.missing = missing
	}
	if len(missing) == 0 || m.dryRun {
		return missing, nil
	}
	if _, err := m.conn.Exec(ctx, bootstrap); err != nil {
		return nil, fmt.Errorf("make roles and schema: %w", err)
	}
	m.pool.Reset() // connections from before are not the owner's
	// TargetVersion is left open: all that this River knows.
	if _, err = m.river.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		err = fmt.Errorf("river's migrations: %w", err)
	} else {
		err = m.run(ctx, m.release.parts(have))
	}
	return m.taken(ctx), err
}

// taken are the steps that are in place and were missing before the first attempt: River's may be older than the last.
func (m *migrator) taken(ctx context.Context) (steps []Step) {
	have, err := readVersions(ctx, m.pool)
	if err != nil {
		return nil
	}
	for _, step := range m.status(have) {
		if step.Applied && slices.Contains(m.missing, Step{Name: step.Name}) {
			steps = append(steps, step)
		}
	}
	return steps
}

// run runs the parts in one transaction.
func (m *migrator) run(ctx context.Context, parts []part) error {
	return pgx.BeginFunc(ctx, m.pool, func(tx pgx.Tx) error {
		for _, part := range parts {
			if _, err := tx.Exec(ctx, part.sql); err != nil {
				return fmt.Errorf("%s: %w", part.about, err)
			}
		}
		return nil
	})
}

// readKnown reads the database's versions and refuses what this binary does not know: it neither adds to that nor
// takes from it.
func (m *migrator) readKnown(ctx context.Context) (versions, error) {
	have, err := readVersions(ctx, m.pool)
	if err != nil {
		return versions{}, err
	}
	if version := (&VersionError{have: have, want: m.want}); have.unreleased || version.Newer() {
		return versions{}, version
	}
	return have, nil
}

func (m *migrator) down(ctx context.Context) ([]Step, error) {
	have, err := m.readKnown(ctx)
	if err != nil {
		return nil, err
	}
	steps := slices.DeleteFunc(m.status(have), func(s Step) bool { return !s.Applied })
	for i := range steps {
		steps[i].Applied = false
	}
	slices.Reverse(steps) // the newest first
	switch {
	case len(steps) == 0:
		return nil, nil
	case have.digest != "":
		steps = steps[:1]
		err = m.take(ctx, steps[0], dropSQL(nil)+"DELETE FROM lastseat.schema_functions;")
	case have.own > 0:
		steps = steps[:1]
		last := m.release.migrations[have.own-1]
		err = m.take(ctx, steps[0],
			last.down+fmt.Sprintf("DELETE FROM lastseat.schema_migrations WHERE version = %d;", last.number))
	default:
		err = m.riverDown(ctx)
	}
	if err != nil {
		return nil, err
	}
	return steps, nil
}

// take takes one step of ours back.
func (m *migrator) take(ctx context.Context, step Step, sql string) error {
	if m.dryRun {
		return nil
	}
	err := m.run(ctx, []part{{about: "take back " + step.Name, sql: sql}})
	return err
}

// riverDown takes River's tables away, if no job is in them.
func (m *migrator) riverDown(ctx context.Context) error {
	var jobs bool
	if err := m.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM lastseat.river_job)`).Scan(&jobs); err != nil {
		return err
	}
	if jobs {
		return errors.New("lastseat.river_job is not empty: this migration does not take jobs away")
	}
	if m.dryRun {
		return nil
	}
	_, err := m.river.Migrate(ctx, rivermigrate.DirectionDown, &rivermigrate.MigrateOpts{TargetVersion: -1})
	if err != nil {
		return fmt.Errorf("river's migrations: %w", err)
	}
	return nil
}

// status compares the database's versions with the release, step by step.
func (m *migrator) status(have versions) []Step {
	var steps []Step
	for _, migration := range m.river.AllVersions() {
		steps = append(steps, Step{Name: riverStep(migration.Version), Applied: migration.Version <= have.river})
	}
	for _, migration := range m.release.migrations {
		steps = append(steps, Step{Name: migration.name, Applied: migration.number <= have.own})
	}
	set := m.release.functions
	same := have.functions == set.version && have.digest == set.digest
	if have.digest != "" && !same {
		steps = append(steps, Step{Name: functionsStep(have.functions, have.digest), Applied: true})
	}
	return append(steps, Step{Name: set.step(), Applied: same})
}

func riverStep(version int) string { return fmt.Sprintf("river %03d", version) }
