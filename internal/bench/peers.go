package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/chaos/peers"
)

//go:embed peers/*.mjs
var peerScripts embed.FS

// peer is a queue in JavaScript whose jobs do nothing, in a database of its own.
type peer struct {
	name   string
	undone string // n minus how many jobs of $1, which is n, are done
}

var peersKnown = []peer{
	// It deletes what is done, and its script goes on until it has done all.
	{peers.GraphileWorker, `SELECT count(*) FROM graphile_worker._private_jobs WHERE $1 > 0`},
	{peers.PgBoss, `SELECT $1 - count(*) FROM pgboss.job WHERE name = 'nothing' AND state = 'completed'`},
}

// onPeer is the ground of a queue that makes its own schema.
func onPeer(name string) ground { return ground("js-" + name) }

// installPeers has npm put the queues and our scripts into a directory that remove removes.
func installPeers(ctx context.Context) (dir string, remove func(), err error) {
	scripts, err := fs.Sub(peerScripts, "peers")
	if err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp("", "lastseat-bench-peers-"); err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	if err := peers.Install(ctx, dir, scripts); err != nil {
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}

// runPeer has a script fill the database, or work until n jobs are done, and returns what it prints.
func runPeer(ctx context.Context, dir, name, databaseURL, what string, n int) (string, error) {
	cmd := exec.CommandContext(ctx, "node", name+".mjs", what, strconv.Itoa(n))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "DATABASE_URL="+databaseURL, "NO_LOG_SUCCESS=1")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", name, err, complaints.String())
	}
	return string(out), nil
}

func (p peer) contestant(o options) contestant {
	return contestant{
		name: p.name + " no-op", workload: spread, jobs: o.jobs, on: onPeer(p.name),
		work: func(ctx context.Context, pool *pgxpool.Pool, n int) (tally, error) {
			out, err := runPeer(ctx, o.peersDir, p.name, pool.Config().ConnString(), "work", n)
			if err != nil {
				return tally{}, err
			}
			lines := strings.Fields(out)
			took, err := strconv.ParseFloat(lines[max(0, len(lines)-1)], 64)
			return tally{elapsed: time.Duration(took * float64(time.Millisecond))}, err
		},
		verify: func(f filling) []check {
			return []check{{what: "jobs that are not done", sql: p.undone, args: []any{f.jobs}}}
		},
	}
}
