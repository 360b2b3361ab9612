package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// ownMountsVariable tells a program that its mounts are its own.
const ownMountsVariable = "CHAOS_OWN_MOUNTS"

// OwnMounts starts this program anew in a mount namespace of its own, so that the bench can give Postgres disks that
// are small, and nothing of them is left whatever happens. It returns if that is done already, or is not possible: only
// root may do it. Then there are no small disks, and the faults that need them are not carried out.
func OwnMounts() {
	if os.Getenv(ownMountsVariable) != "" || os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread() // the namespace is the thread's
	defer runtime.UnlockOSThread()
	if syscall.Unshare(syscall.CLONE_NEWNS) != nil {
		return
	}
	if syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") != nil {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	_ = syscall.Exec(self, os.Args, append(os.Environ(), ownMountsVariable+"=yes"))
}

// mountDisk makes a small disk, in memory. ok is false where that is not possible.
func mountDisk(dir string, megabytes int) (unmount func(), ok bool) {
	if os.Getenv(ownMountsVariable) == "" || os.MkdirAll(dir, 0o711) != nil {
		return nil, false
	}
	if syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=711", megabytes)) != nil {
		return nil, false
	}
	return func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }, true
}

// fill takes what is left of a disk.
func fill(dir string) (free func(), err error) {
	name := filepath.Join(dir, "filler")
	free = func() { _ = os.Remove(name) }
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return free, err
	}
	defer func() { _ = file.Close() }()
	for block := make([]byte, 1<<20); len(block) > 0; {
		n, err := file.Write(block)
		if errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			return free, err
		}
		_ = n
	}
	return free, nil
}
