package chaos

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/audit"
)

var restoreFaults = []Fault{
	{
		Name: "restore", Does: "pg_dump under load, restored into another database, where a worker settles what is left",
		Asked: true, Holds: "The restored database audits clean before and after, and its feed is complete.", do: restore,
	},
}

// restored is the database that a dump is restored into.
const restored = "bench_restored"

// restore takes a dump and has a worker settle what it left due.
func restore(ctx context.Context, r *run, _ Step) error {
	dump, err := serverProgram("pg_dump")
	if err != nil {
		return err
	}
	load, err := serverProgram("pg_restore")
	if err != nil {
		return err
	}
	file := filepath.Join(r.server.dir, "dump")
	if out, err := exec.CommandContext(ctx, dump, "-Fc", "-f", file, "-d",
		r.server.urlOf(r.server.network.side, "", "")).CombinedOutput(); err != nil {
		return fmt.Errorf("pg_dump: %w: %s", err, out)
	}
	if _, err := r.admin.Exec(ctx, `CREATE DATABASE `+restored); err != nil {
		return err
	}
	defer func() { _, _ = r.admin.Exec(background, `DROP DATABASE `+restored+` WITH (FORCE)`) }()
	to := databaseOf(r.server.urlOf(r.server.network.side, "", ""), restored)
	if out, err := exec.CommandContext(ctx, load, "-d", to, file).CombinedOutput(); err != nil {
		return fmt.Errorf("pg_restore: %w: %s", err, out)
	}
	db, err := pgxpool.New(ctx, to)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := r.auditRestored(ctx, db, "restored", ".overdue"); err != nil { // no worker has been there yet
		return err
	}
	worker := exec.CommandContext(ctx, filepath.Join(r.programs, "worker"), "run", "--drain")
	worker.Env = append(r.environ(), "DATABASE_URL="+databaseOf(r.server.urlOf(r.server.network.side, "bench_worker",
		"secret"), restored))
	if out, err := worker.CombinedOutput(); err != nil {
		r.violate("restore", "worker run --drain on the restored database: %v: %s", err, out)
		return nil
	}
	if err := r.auditRestored(ctx, db, "restored and drained", "none"); err != nil {
		return err
	}
	var settled, told, due int
	err = db.QueryRow(ctx, `SELECT (SELECT count(*) FROM lastseat.requests WHERE status <> 'pending'),
		(SELECT count(*) FROM lastseat.outcomes_since('', 1000000000)), (SELECT count(*) FROM lastseat.river_job
		WHERE state = 'available' AND queue = 'lastseat' AND kind <> 'payment.unheard_of' AND scheduled_at <= now() -
		interval '5 s')`).Scan(&settled, &told, &due)
	if err == nil && (settled != told || due > 0) {
		r.violate("restore", "in the restored database %d requests are settled, the feed has %d, %d jobs are due", settled,
			told, due)
	}
	return err
}

func (r *run) auditRestored(ctx context.Context, db *pgxpool.Pool, when, but string) error {
	_, err := audit.Run(ctx, db, func(f audit.Finding) {
		if !f.OK && !strings.HasSuffix(f.Check, but) {
			r.violate("restore", "%s: the audit finds %s: %v", when, f.Check, f.Violations[:min(len(f.Violations), 3)])
		}
	})
	return err
}

// databaseOf is an address with another database.
func databaseOf(address, name string) string {
	at, err := url.Parse(address)
	if err != nil {
		panic(err) // server made it
	}
	at.Path = "/" + name
	return at.String()
}
