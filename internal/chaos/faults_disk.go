package chaos

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// errSkipped says that a fault can't be carried out here.
var errSkipped = errors.New("skipped")

var diskFaults = []Fault{
	{
		Name: "disk-data", Does: "the disk of the tables is full", Least: 1500 * time.Millisecond, Most: 3 * time.Second,
		Holds: "Nothing is lost. What needs room is refused, or waits; `worker doctor` says that the disk is full.",
		do: func(ctx context.Context, r *run, s Step) error {
			r.server.mu.Lock()
			defer r.server.mu.Unlock()
			if !r.server.small {
				return errSkipped
			}
			free, err := fill(r.server.dataDisk())
			defer free()
			if err != nil {
				return err
			}
			asked := time.Now()
			said := r.doctor(ctx, r.server.urlOf(r.server.network.side, "", ""))
			if !strings.Contains(said, "No space left") {
				r.logf("the doctor, on a full disk: %s", said)
			}
			s.For -= time.Since(asked)
			s.wait(ctx)
			return nil
		},
	},
	{
		Name: "disk-wal", Does: "the disk of the WAL is full: Postgres ends, and is started again when there is room",
		Least: 500 * time.Millisecond, Most: 1500 * time.Millisecond,
		do: func(ctx context.Context, r *run, s Step) error {
			r.server.mu.Lock()
			defer r.server.mu.Unlock()
			if !r.server.small {
				return errSkipped
			}
			free, err := fill(r.server.walDisk())
			defer func() { free() }()
			if err != nil {
				return err
			}
			for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && ctx.Err() == nil && err == nil; {
				_, err = r.admin.Exec(ctx, `SELECT pg_logical_emit_message(false, 'fill', ''), pg_switch_wal()`)
			}
			if err == nil {
				return errors.New("the disk of the WAL did not run full")
			}
			s.wait(ctx)
			free()
			return r.server.revive(ctx)
		},
	},
}

func (s *server) dataDisk() string { return filepath.Join(s.dir, "data-disk") }
func (s *server) walDisk() string  { return filepath.Join(s.dir, "wal-disk") }

// The sizes of the disks, in megabytes.
const dataDiskSize, walDiskSize = 600, 300

// miniaturize gives the server small disks, if that is possible here: one for the database of a run, a tablespace, and
// one for the WAL.
func (s *server) miniaturize(ctx context.Context) error {
	unmountData, data := mountDisk(s.dataDisk(), dataDiskSize)
	unmountWAL, wal := mountDisk(s.walDisk(), walDiskSize)
	for _, unmount := range []func(){unmountData, unmountWAL} {
		if unmount != nil {
			s.unmounts = append(s.unmounts, unmount)
		}
	}
	if !data || !wal {
		return nil
	}
	if err := s.running.Stop(); err != nil {
		return err
	}
	inside, outside := filepath.Join(s.dir, "pg", "data", "pg_wal"), filepath.Join(s.walDisk(), "pg_wal")
	tables := filepath.Join(s.dataDisk(), "tables")
	owner, err := os.Stat(inside)
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", inside, outside).CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	err = errors.Join(os.RemoveAll(inside), os.Symlink(outside, inside), os.Mkdir(tables, 0o700))
	if stat, is := owner.Sys().(*syscall.Stat_t); is && err == nil {
		err = errors.Join(os.Chown(tables, int(stat.Uid), int(stat.Gid)), os.Lchown(inside, int(stat.Uid), int(stat.Gid)))
	}
	if err == nil {
		s.running, err = s.launch(ctx)
	}
	s.small, s.tables = err == nil, tables
	return err
}
