package localpg

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user the server runs as where that is not the caller: Postgres refuses to run as root. A nil account
// is the caller's own, and its methods then have nothing to do.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount returns nil unless the caller is root.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil || uid == 0 {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("localpg: Postgres refuses to run as root, and there is no user postgres or nobody to run " +
		"it as")
}

// credential is what makes a child run as the account.
func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// own gives a file or directory to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// admit makes sure that the account can pass through dir. The directory itself stays the caller's, and is opened only
// if it is one that we just made; the ones above are not ours to change, so a closed one is an error. Without this
// check Postgres reports a missing file, which sends people looking in the wrong place.
func (a *account) admit(dir string, open bool) error {
	if a == nil {
		return nil
	}
	if open {
		if err := os.Chmod(dir, 0o711); err != nil {
			return fmt.Errorf("open the server's directory to its user: %w", err)
		}
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return fmt.Errorf("check the way to the server's directory: %w", err)
		}
		if !a.canEnter(info) {
			return fmt.Errorf("the server runs as user %s, who may not enter %s; choose a directory elsewhere, or chmod a+x it",
				a.name, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

func (a *account) canEnter(dir os.FileInfo) bool {
	mode := dir.Mode().Perm()
	if stat, ok := dir.Sys().(*syscall.Stat_t); ok {
		switch {
		case stat.Uid == a.uid:
			return mode&0o100 != 0
		case stat.Gid == a.gid:
			return mode&0o010 != 0
		}
	}
	return mode&0o001 != 0
}
