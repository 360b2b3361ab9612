package schema

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Name is the Postgres schema in which everything lives, River's tables too.
const Name = "lastseat"

const (
	owner    = "lastseat_owner"
	versions = Name + ".schema_migrations" // goose's

	// lockMigrations is the advisory lock that a migration holds: several processes may start at once.
	lockMigrations = 0x6c617374_73656174 // "lastseat"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

//go:embed bootstrap.sql
var bootstrap string

// Step is one migration, ours or River's.
type Step struct {
	Name    string // "0001_ledger" or "river 006"
	Applied bool
}

// Up brings the database to this binary's version: roles and schema, River's migrations, then ours. It returns the steps
// that it took; none if there was nothing to do. Each migration is a transaction of its own, so a failing one leaves
// those before it. Several processes may call it at once: one works, the others wait for it.
//
// The caller's role must be a superuser, or one with CREATEROLE and CREATE on the database; where the roles exist
// already, membership in lastseat_owner is enough, with CREATE on the database where there is no schema yet. With dryRun nothing is changed, and the steps are those that would
// be taken.
//
// A database of a newer version is left alone: the error is an [VersionError].
func Up(ctx context.Context, databaseURL string, dryRun bool) ([]Step, error) {
	return migrate(ctx, databaseURL, dryRun, func(m *migrator) ([]Step, error) {
		return m.up(ctx)
	})
}

// Down takes back the newest of our migrations and returns it; when none of ours is left, River's tables. A migration
// that made a table with rows in it refuses: no ledger is dropped.
func Down(ctx context.Context, databaseURL string, dryRun bool) ([]Step, error) {
	return migrate(ctx, databaseURL, dryRun, func(m *migrator) ([]Step, error) {
		return m.down(ctx)
	})
}

// Status lists all migrations that this binary knows, in their order.
func Status(ctx context.Context, databaseURL string) ([]Step, error) {
	return migrate(ctx, databaseURL, true, func(m *migrator) ([]Step, error) {
		return m.status(ctx)
	})
}

type migrator struct {
	conn   *pgx.Conn     // as the caller, holding the lock
	pool   *pgxpool.Pool // as the owner, once there is one
	goose  *goose.Provider
	river  *rivermigrate.Migrator[pgx.Tx]
	dryRun bool
}

func migrate(ctx context.Context, databaseURL string, dryRun bool, run func(*migrator) ([]Step, error)) ([]Step, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("parse database URL: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig.Copy())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(lockMigrations)); err != nil {
		return nil, fmt.Errorf("wait for other migrations: %w", err)
	}

	asOwner := func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT set_config('role', rolname, false) FROM pg_roles WHERE rolname = $1 AND pg_has_role(oid, 'MEMBER')", owner)
		return err
	}
	config.AfterConnect = asOwner
	config.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	db := stdlib.OpenDB(*config.ConnConfig, stdlib.OptionAfterConnect(asOwner))
	defer func() { _ = db.Close() }()

	m := &migrator{conn: conn, pool: pool, dryRun: dryRun}
	if m.goose, err = newGoose(db); err != nil {
		return nil, err
	}
	m.river, err = newRiver(pool)
	if err != nil {
		return nil, err
	}
	return run(m)
}

func newGoose(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(versions))
}

func newRiver(pool *pgxpool.Pool) (*rivermigrate.Migrator[pgx.Tx], error) {
	return rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{
		Schema: Name,
		Logger: slog.New(slog.DiscardHandler), // the steps are returned
	})
}

func (m *migrator) up(ctx context.Context) ([]Step, error) {
	if err := m.refuseNewer(ctx); err != nil {
		return nil, err
	}
	missing, err := m.missing(ctx)
	if err != nil || len(missing) == 0 || m.dryRun {
		return missing, err
	}
	if _, err := m.conn.Exec(ctx, bootstrap); err != nil {
		return nil, fmt.Errorf("make roles and schema: %w", err)
	}
	m.pool.Reset() // connections from before are not the owner's
	var steps []Step
	// TargetVersion is left open: all that this River knows.
	result, err := m.river.Migrate(ctx, rivermigrate.DirectionUp, nil)
	if err != nil {
		return nil, fmt.Errorf("river's migrations: %w", err)
	}
	for _, version := range result.Versions {
		steps = append(steps, Step{Name: riverStep(version.Version), Applied: true})
	}
	ours, err := m.goose.Up(ctx)
	for _, migration := range ours {
		steps = append(steps, Step{Name: stepName(migration.Source), Applied: true})
	}
	return steps, err
}

// refuseNewer: what this binary does not know it neither adds to nor takes from.
func (m *migrator) refuseNewer(ctx context.Context) error {
	err := Check(ctx, m.pool)
	if version := (*VersionError)(nil); errors.As(err, &version) && !version.Newer() {
		return nil
	}
	return err
}

func (m *migrator) down(ctx context.Context) ([]Step, error) {
	if err := m.refuseNewer(ctx); err != nil {
		return nil, err
	}
	steps, err := m.status(ctx)
	if err != nil {
		return nil, err
	}
	steps = slices.DeleteFunc(steps, func(s Step) bool { return !s.Applied })
	for i := range steps {
		steps[i].Applied = false
	}
	slices.Reverse(steps) // the newest first
	switch {
	case len(steps) == 0:
		return nil, nil
	case !strings.HasPrefix(steps[0].Name, "river"):
		steps = steps[:1]
		if !m.dryRun {
			_, err = m.goose.Down(ctx)
		}
	default:
		err = m.riverDown(ctx)
	}
	if err != nil {
		return nil, err
	}
	return steps, nil
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

func (m *migrator) missing(ctx context.Context) ([]Step, error) {
	all, err := m.status(ctx)
	var missing []Step
	for _, step := range all {
		if !step.Applied {
			missing = append(missing, step)
		}
	}
	return missing, err
}

// status reads the two version tables itself: goose and River would make theirs if they are not there.
func (m *migrator) status(ctx context.Context) ([]Step, error) {
	have, err := readVersions(ctx, m.pool)
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, migration := range m.river.AllVersions() {
		steps = append(steps, Step{Name: riverStep(migration.Version), Applied: migration.Version <= have.river})
	}
	for _, source := range m.goose.ListSources() {
		steps = append(steps, Step{Name: stepName(source), Applied: int(source.Version) <= have.own})
	}
	return steps, nil
}

func riverStep(version int) string { return fmt.Sprintf("river %03d", version) }

func stepName(source *goose.Source) string { return strings.TrimSuffix(path.Base(source.Path), ".sql") }
