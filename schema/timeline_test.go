package schema_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/schema"
)

// history is a server of its own that the test stops, copies and starts again.
type history struct {
	t      *testing.T
	dir    string
	server *localpg.Server
	conn   *pgx.Conn
}

func startHistory(t *testing.T, dir string, settings map[string]string) *history {
	t.Helper()
	h := &history{t: t, dir: dir}
	all := map[string]string{"fsync": "off", "wal_level": "replica", "shared_buffers": "16MB", "autovacuum": "off"}
	maps.Copy(all, settings)
	var err error
	if h.server, err = localpg.Start(t.Context(), localpg.Options{Dir: dir, Settings: all}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	if h.conn, err = pgx.Connect(t.Context(), h.server.URL()); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *history) stop() {
	ctx := context.WithoutCancel(h.t.Context())
	_ = h.conn.Close(ctx)
	if err := h.server.Stop(); err != nil {
		h.t.Error(err)
	}
}

// settle asks for toys and settles them, a transaction each.
func (h *history) settle(keys ...string) {
	h.t.Helper()
	for _, key := range keys {
		enqueueToys(h.t, h.conn, key)
		settleKeys(h.t, h.conn, key)
	}
}

// burn uses up transaction ids.
func (h *history) burn(n int) {
	h.t.Helper()
	for range n {
		exec(h.t, h.conn, `SELECT pg_current_xact_id()`)
	}
}

// read reads all that comes after the cursor.
func (h *history) read(cursor *string) []string {
	h.t.Helper()
	var keys []string
	for _, row := range feed(h.t, h.conn, cursor, 3) {
		keys = append(keys, strings.Fields(row)[0])
	}
	return keys
}

func (h *history) wantRead(cursor *string, want ...string) {
	h.t.Helper()
	if got := h.read(cursor); !slices.Equal(got, want) {
		h.t.Errorf("the feed has %v, want %v", got, want)
	}
}

// wantLost expects the cursor to be refused, and returns the cursor that the hint offers.
func (h *history) wantLost(cursor string) (offered string) {
	h.t.Helper()
	_, err := h.conn.Exec(h.t.Context(), `SELECT * FROM lastseat.outcomes_since($1)`, cursor)
	wantContract(h.t, err, "LS002", "that this database does not have")
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		h.t.Fatal(err)
	}
	if _, rest, found := strings.Cut(refusal.Hint, "outcomes_since('"); found {
		offered, _, _ = strings.Cut(rest, "'")
	}
	return offered
}

func (h *history) promote() {
	h.t.Helper()
	exec(h.t, h.conn, `SELECT pg_promote()`)
}

// copied is a copy of a server's directory while the server is down.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(filepath.Dir(dir), fmt.Sprintf("copy-%d", time.Now().UnixNano()))
	if out, err := osexec.CommandContext(t.Context(), "cp", "-a", dir, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return to
}

// touch makes an empty file that belongs to whom the directory belongs to.
func touch(t *testing.T, dir, name string) {
	t.Helper()
	version, path := filepath.Join(dir, "data", "PG_VERSION"), filepath.Join(dir, "data", name)
	if out, err := osexec.CommandContext(t.Context(), "cp", "-a", version, path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
}

func historyDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lastseat-history-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func migrate(t *testing.T, h *history) {
	t.Helper()
	if _, err := schema.Up(t.Context(), h.server.URL(), false); err != nil {
		t.Fatal(err)
	}
}

// A standby takes over without the last transactions. Its transaction ids are given out a second time.
func TestFeedAfterFailover(t *testing.T) {
	t.Parallel()
	base := historyDir(t)
	old := startHistory(t, filepath.Join(base, "old"), nil)
	migrate(t, old)
	old.settle("a", "b", "c")
	behind := ""
	old.wantRead(&behind, "a", "b", "c")
	level := behind
	fromNow := scalar[string](t, old.conn, `SELECT lastseat.outcomes_cursor()`)
	old.stop()
	standby := copied(t, old.dir)
	old = startHistory(t, old.dir, nil)
	old.burn(20)
	old.settle("lost-1", "lost-2")
	ahead := level
	old.wantRead(&ahead, "lost-1", "lost-2")
	old.stop()

	touch(t, standby, "standby.signal")
	promoted := startHistory(t, standby, nil)
	promoted.wantRead(&behind) // while it is a standby
	promoted.promote()
	now := scalar[string](t, promoted.conn, `SELECT lastseat.outcomes_cursor()`)
	whole := ""
	promoted.wantRead(&whole, "a", "b", "c")
	promoted.settle("d", "e")
	promoted.burn(40)
	promoted.settle("f")
	promoted.wantRead(&behind, "d", "e", "f")
	promoted.wantRead(&fromNow, "d", "e", "f")
	promoted.wantRead(&now, "d", "e", "f")
	promoted.wantRead(&whole, "d", "e", "f")
	offered := promoted.wantLost(ahead)
	promoted.wantRead(&offered, "d", "e", "f")
}

// A server's files are set back to a copy: the timeline is the same, the transaction ids are given out a second time.
func TestFeedAfterFilesSetBack(t *testing.T) {
	t.Parallel()
	base := historyDir(t)
	h := startHistory(t, filepath.Join(base, "now"), nil)
	migrate(t, h)
	h.settle("a", "b")
	behind := ""
	h.wantRead(&behind, "a", "b")
	h.stop()
	back := copied(t, h.dir)
	h = startHistory(t, h.dir, nil)
	h.burn(10)
	h.settle("lost")
	ahead := behind
	h.wantRead(&ahead, "lost")
	h.stop()
	h = startHistory(t, back, nil)
	h.settle("c")
	h.wantRead(&behind, "c")
	h.burn(30)
	h.wantLost(ahead)
}

// Recovery to a point in time: the log is rolled forward to a restore point, and a new timeline begins there.
func TestFeedAfterPointInTimeRecovery(t *testing.T) {
	t.Parallel()
	base := historyDir(t)
	h := startHistory(t, filepath.Join(base, "now"), nil)
	migrate(t, h)
	h.settle("a")
	h.stop()
	backup := copied(t, h.dir)
	h = startHistory(t, h.dir, nil)
	h.settle("b", "c")
	behind := ""
	h.wantRead(&behind, "a", "b", "c")
	exec(t, h.conn, `SELECT pg_create_restore_point('here')`)
	h.burn(20)
	h.settle("lost")
	ahead := behind
	h.wantRead(&ahead, "lost")
	h.stop()
	archive := filepath.Join(h.dir, "data", "pg_wal")

	touch(t, backup, "recovery.signal")
	h = startHistory(t, backup, map[string]string{
		"restore_command": "cp " + archive + "/%f %p", "recovery_target_name": "here", "recovery_target_action": "promote",
	})
	for end := time.Now().Add(time.Minute); scalar[bool](t, h.conn, `SELECT pg_is_in_recovery()`); {
		if time.Now().After(end) {
			t.Fatal("it stays in recovery")
		}
		time.Sleep(20 * time.Millisecond)
	}
	h.settle("d")
	h.burn(40)
	h.wantRead(&behind, "d")
	offered := h.wantLost(ahead)
	h.wantRead(&offered, "d")
}

// A dump is restored on another server whose transaction ids are far behind, and on one where they are far ahead.
func TestFeedAfterDumpAndRestore(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pg_dump", "pg_restore"} {
		if _, err := osexec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	for _, test := range []struct {
		name     string
		old, new int // transaction ids used up
	}{{"behind", 300, 0}, {"ahead", 0, 300}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			base := historyDir(t)
			old := startHistory(t, filepath.Join(base, "old"), nil)
			migrate(t, old)
			old.burn(test.old)
			old.settle("a", "b", "c", "d")
			behind := ""
			old.wantRead(&behind, "a", "b", "c", "d")
			dump := filepath.Join(base, "dump")
			runClient(t, "pg_dump", "--format=custom", "--file="+dump, old.server.URL())
			old.settle("lost")
			ahead := behind
			old.wantRead(&ahead, "lost")
			old.stop()

			h := startHistory(t, filepath.Join(base, "new"), nil)
			exec(t, h.conn, `CREATE DATABASE roles`)
			url := strings.Replace(h.server.URL(), "/postgres?", "/roles?", 1)
			if _, err := schema.Up(t.Context(), url, false); err != nil { // for the roles
				t.Fatal(err)
			}
			runClient(t, "pg_restore", "--exit-on-error", "--dbname="+h.server.URL(), dump)
			h.burn(test.new)
			whole := ""
			h.wantRead(&whole, "a", "b", "c", "d")
			now := scalar[string](t, h.conn, `SELECT lastseat.outcomes_cursor()`)
			var want []string
			for i := range 50 {
				want = append(want, fmt.Sprint("new-", i))
			}
			h.settle(want...)
			h.wantRead(&behind, want...)
			h.wantRead(&whole, want...)
			h.wantRead(&now, want...)
			h.burn(600)
			offered := h.wantLost(ahead)
			h.wantRead(&offered, want...)
		})
	}
}

func runClient(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := osexec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "server version mismatch") {
			t.Skipf("%s is older than the server", name)
		}
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}
