package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Go reads the clock by itself, so libfaketime can't deceive a program of Go's. The bench builds its programs with a
// time.Now of its own instead: it is off by CHAOS_CLOCK seconds, from CHAOS_CLOCK_AFTER on. Durations and timers stay
// right, as they do on a machine whose clock somebody sets.
const (
	nowReads = "	sec, nsec, mono := runtimeNow()\n"
	nowIsOff = nowReads + "	sec += chaosClock(mono)\n"

	clockSource = `package time

import "syscall"

var chaosBy, chaosFrom int64

func chaosClock(mono int64) int64 {
	if mono-startNano < chaosFrom {
		return 0
	}
	return chaosBy
}

func init() {
	if text, is := syscall.Getenv("CHAOS_CLOCK"); is {
		by, err := ParseDuration(text + "s")
		if err != nil {
			panic(err)
		}
		text, _ := syscall.Getenv("CHAOS_CLOCK_AFTER")
		after, _ := ParseDuration(text)
		chaosBy, chaosFrom = int64(by/Second), int64(after)
	}
}
`
)

// overlayFile is where programs are that have such a clock.
const overlayFile = "overlay.json"

// clockOverlay writes the files that take the place of the standard library's, and the file that tells go build so.
func clockOverlay(dir string) (overlay string, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	library := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(library, "time.go"))
	if err != nil {
		return "", err
	}
	changed := strings.Replace(string(source), nowReads, nowIsOff, 1)
	if changed == string(source) {
		return "", errors.New("time.Now is not as the bench knows it: see clock.go")
	}
	replaced := make(map[string]string)
	for name, text := range map[string]string{"time.go": changed, "chaos.go": clockSource} {
		replaced[filepath.Join(library, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, overlayFile)
	return overlay, os.WriteFile(overlay, text, 0o600)
}
