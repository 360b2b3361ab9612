// Package peers has a small worker for each of three other queues on Postgres, with the defaults that they come with.
// The fault bench kills each in the middle of a job and measures how long it takes until another worker has done that
// job.
package peers

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
)

// The other queues on Postgres, as npm knows them, and their versions.
const (
	GraphileWorker        = "graphile-worker"
	GraphileWorkerVersion = "0.18.0"
	PgBoss                = "pg-boss"
	PgBossVersion         = "12.38.0"
)

// Scripts are the workers in JavaScript: graphile-worker and pg-boss.
//
//go:embed graphile-worker.mjs pg-boss.mjs
var Scripts embed.FS

// Install has npm put graphile-worker and pg-boss into dir, and puts the scripts beside them.
func Install(ctx context.Context, dir string, scripts fs.FS) error {
	out, err := exec.CommandContext(ctx, "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", dir,
		GraphileWorker+"@"+GraphileWorkerVersion, PgBoss+"@"+PgBossVersion).CombinedOutput()
	if err != nil {
		return fmt.Errorf("npm install: %w\n%s", err, out)
	}
	return os.CopyFS(dir, scripts)
}
