package localpg

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// install makes what looks like an installation, of the programs named.
func install(t *testing.T, dir string, programs ...string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if err := os.WriteFile(filepath.Join(dir, p), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindBinaries(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	client := install(t, filepath.Join(root, "client"), "psql", "initdb")
	chosen := install(t, filepath.Join(root, "chosen"), "initdb", "postgres")
	install(t, filepath.Join(root, "lib", "9.6", "bin"), "initdb", "postgres")
	newest := install(t, filepath.Join(root, "lib", "17", "bin"), "initdb", "postgres")
	install(t, filepath.Join(root, "lib", "18", "bin"), "psql")
	install(t, filepath.Join(root, "brew", "postgresql", "bin"), "initdb", "postgres")
	brew := install(t, filepath.Join(root, "brew", "postgresql@16", "bin"), "initdb", "postgres")
	lib, opt := filepath.Join(root, "lib", "*", "bin"), filepath.Join(root, "brew", "postgresql*", "bin")

	for name, tt := range map[string]struct {
		path   []string
		places []string
		want   string
	}{
		"the PATH goes first":        {[]string{client, chosen}, []string{lib}, chosen},
		"newest by number":           {[]string{client}, []string{lib}, newest},
		"newest over all the places": {nil, []string{opt, lib}, newest},
		"a version beats none":       {nil, []string{opt}, brew},
		"a relative PATH is skipped": {[]string{"."}, []string{opt}, brew},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := findBinaries(strings.Join(tt.path, string(filepath.ListSeparator)), tt.places)
			if err != nil || got != tt.want {
				t.Errorf("found %s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func TestNotInstalled(t *testing.T) {
	t.Parallel()
	_, err := findBinaries("", []string{filepath.Join(t.TempDir(), "*", "bin")})
	if !errors.Is(err, ErrNotInstalled) {
		t.Fatalf("got %v, want ErrNotInstalled", err)
	}
	if !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("%q does not say what to run", err)
	}
}

func TestAccountNeedsAWay(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as somebody else")
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: filepath.Join(closed, "pg")})
	if err == nil || !strings.Contains(err.Error(), "may not enter") {
		t.Errorf("Start below a closed directory: %v, want which one is closed", err)
	}
}
