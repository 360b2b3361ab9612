package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/chaos/peers"
)

// PeerFigures are what another queue does after a SIGKILL in the middle of a job.
type PeerFigures struct {
	Version string  `json:"version"`
	Seconds float64 `json:"seconds"` // until another worker had done the job
	Within  bool    `json:"within"`  // it had, while the bench looked
	Default string  `json:"default"` // what its documents say
}

type peer struct{ name, version, says string }

// peersKnown are the queues that are tried, with the defaults that they come with.
var peersKnown = []peer{
	{"River", "0.51.1", "`RescueStuckJobsAfter` is an hour"},
	{peers.GraphileWorker, peers.GraphileWorkerVersion, "a job stays locked for four hours"},
	{peers.PgBoss, peers.PgBossVersion, "`expireInSeconds` is 15 minutes"},
}

// Peers tries each of the other queues. Those in JavaScript are installed with npm, into a directory that is gone
// later.
func (b *Bench) Peers(ctx context.Context, watch time.Duration) (map[string]PeerFigures, error) {
	dir, err := os.MkdirTemp("", "lastseat-peers-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := peers.Install(ctx, dir, peers.Scripts); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "river"),
		"github.com/lastseat/lastseat/internal/chaos/peers/river").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	figures := make(map[string]PeerFigures)
	for _, p := range peersKnown {
		took, within, err := b.tryPeer(ctx, dir, p, watch)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		b.logf("%s %s: done again: %v, after %v", p.name, p.version, within, took)
		figures[p.name] = PeerFigures{p.version, took.Round(100 * time.Millisecond).Seconds(), within, p.says}
	}
	return figures, nil
}

func (b *Bench) tryPeer(ctx context.Context, dir string, p peer, watch time.Duration) (time.Duration, bool, error) {
	if err := b.server.empty(ctx); err != nil {
		return 0, false, err
	}
	url := b.server.urlOf(b.server.network.side, "", "")
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = conn.Close(background) }()
	if _, err := conn.Exec(ctx, `CREATE TABLE peer (what text)`); err != nil {
		return 0, false, err
	}
	first, err := startPeer(dir, p, url, "ask")
	if err != nil {
		return 0, false, err
	}
	_, begun, err := await(ctx, conn, "begun", time.Minute)
	_ = first.Process.Kill()
	_ = first.Wait()
	if err != nil || !begun {
		return 0, false, errors.Join(err, errors.New("its job does not begin"))
	}
	second, err := startPeer(dir, p, url)
	if err != nil {
		return 0, false, err
	}
	took, done, err := await(ctx, conn, "done", watch)
	_ = second.Process.Kill()
	_ = second.Wait()
	return took, done, err
}

func startPeer(dir string, p peer, url string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(filepath.Join(dir, "river"), args...)
	if p.name != "River" {
		cmd = exec.Command("node", append([]string{p.name + ".mjs"}, args...)...)
	}
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), "DATABASE_URL="+url), os.Stderr
	return cmd, cmd.Start()
}

// await waits until the peer's table has a row.
func await(
	ctx context.Context,
	conn *pgx.Conn,
	what string,
	watch time.Duration,
) (took time.Duration, is bool, err error) {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM peer p WHERE p.what = $1)`, what).Scan(&is)
		if took = time.Since(began); err != nil || is || took > watch {
			return took, is, err
		}
	}
}
