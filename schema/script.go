package schema

import (
	"context"
	"fmt"
	"strings"

	"github.com/riverqueue/river/rivermigrate"

	"github.com/lastseat/lastseat/internal/pgsession"
)

// Script returns the SQL that [Up] would run, for a reviewer, or for a DBA who runs it by hand in psql. It is empty if
// there is nothing to do. Nothing is changed.
func Script(ctx context.Context, databaseURL string, options ...Option) (string, error) {
	var script string
	_, err := migrate(ctx, databaseURL, true, func(m *migrator) ([]Step, error) {
		have, err := m.readKnown(ctx)
		if err == nil {
			script, err = m.script(ctx, have)
		}
		return nil, err
	}, options...)
	return script, err
}

func (m *migrator) script(ctx context.Context, have versions) (string, error) {
	river, err := m.river.Migrate(ctx, rivermigrate.DirectionUp, &rivermigrate.MigrateOpts{DryRun: true})
	if err != nil {
		return "", fmt.Errorf("river's migrations: %w", err)
	}
	ours := m.release.parts(have)
	if len(river.Versions) == 0 && len(ours) == 0 {
		return "", nil
	}
	var out strings.Builder
	fmt.Fprintf(&out, `-- Brings a Lastseat database from %v to %v. What worker migrate up would run.
-- By hand: psql -v ON_ERROR_STOP=1 -f FILE, as a role that may run worker migrate up.

-- objects of somebody else in a schema of the search_path could take the place of Postgres's own
%s;

-- Whoever needs the same table waits behind this session, so it gives up soon. Then run the whole script again, once
-- SELECT pg_blocking_pids(pid) ... has told who is in the way.
%s;

-- one migration at a time
SELECT pg_advisory_lock(%d);

-- roles and schema
%s
SET ROLE %s;
`, have, m.want, pgsession.PinSQL, m.wait.timeoutSQL(), int64(lockMigrations), bootstrap, owner)
	for _, version := range river.Versions {
		fmt.Fprintf(&out, "\n-- %s\nBEGIN;\n%s\n%s\nCOMMIT;\n",
			riverStep(version.Version), version.SQL, riverNote(version.Version))
	}
	if len(ours) > 0 {
		out.WriteString("\nBEGIN;\n")
		for _, part := range ours {
			fmt.Fprintf(&out, "\n-- %s\n%s", part.about, part.sql)
		}
		out.WriteString("\nCOMMIT;\n")
	}
	fmt.Fprintf(
		&out,
		"\nRESET ROLE;\nSELECT pg_advisory_unlock(%d);\nRESET lock_timeout;\nRESET search_path;\n",
		int64(lockMigrations),
	)
	return out.String(), nil
}

// riverNote notes one of River's migrations as River does; its table got the column line with version 5.
func riverNote(version int) string {
	if version < 5 {
		return fmt.Sprintf("INSERT INTO lastseat.river_migration (version) VALUES (%d);", version)
	}
	return fmt.Sprintf("INSERT INTO lastseat.river_migration (line, version) VALUES ('main', %d);", version)
}
