package localpg

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// ErrNotInstalled says that no Postgres was found on this machine, and how to get one.
var ErrNotInstalled = errors.New("localpg: no Postgres server on this machine; install one with " +
	"`apt-get install postgresql` (Debian, Ubuntu), `brew install postgresql@17` (macOS) or " +
	"`dnf install postgresql-server` (Fedora), or set DATABASE_URL to a server you have")

// installPlaces are where packages put the server's binaries without putting them on the PATH.
var installPlaces = []string{
	"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu, apt.postgresql.org
	"/opt/homebrew/opt/postgresql*/bin", // Homebrew on Apple silicon
	"/usr/local/opt/postgresql*/bin",    // Homebrew on Intel
	"/usr/pgsql-*/bin",                  // yum.postgresql.org
}

// findBinaries returns the directory of initdb and postgres: the first of the PATH which has both, since that is the
// user's choice, and otherwise the newest version among the places. The two must come from one directory, because an
// initdb of one version and a server of another do not work together.
func findBinaries(path string, places []string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		// A relative entry would be looked up somewhere else by the child, which runs in another directory.
		if filepath.IsAbs(dir) && hasServer(dir) {
			return dir, nil
		}
	}
	var found []string
	for _, place := range places {
		dirs, err := filepath.Glob(place)
		if err != nil {
			return "", err
		}
		found = append(found, slices.DeleteFunc(dirs, func(dir string) bool { return !hasServer(dir) })...)
	}
	if len(found) == 0 {
		return "", ErrNotInstalled
	}
	return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) }), nil
}

func hasServer(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+)?`)

// version reads the version out of the directory above bin. A name without one counts as the oldest: nothing is known
// about it.
func version(bin string) float64 {
	v, err := strconv.ParseFloat(versionPattern.FindString(filepath.Base(filepath.Dir(bin))), 64)
	if err != nil {
		return 0
	}
	return v
}
