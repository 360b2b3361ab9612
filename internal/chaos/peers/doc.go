// Package peers has a small worker for each of three other queues on Postgres, with the defaults that they come with.
// The fault bench kills each in the middle of a job and measures how long it takes until another worker has done that
// job.
package peers

import "embed"

// Scripts are the workers in JavaScript: graphile-worker and pg-boss.
//
//go:embed graphile-worker.mjs pg-boss.mjs
var Scripts embed.FS
