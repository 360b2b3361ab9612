//go:build chaos

package faultpoint

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The environment of a program in a bench.
const (
	dirVariable      = "CHAOS_DIR"      // what is to happen at a point: a file of the point's name with a signal's name in it
	sabotageVariable = "CHAOS_SABOTAGE" // sabotages, with commas between them
)

var (
	dir      = os.Getenv(dirVariable)
	sabotage = "," + os.Getenv(sabotageVariable) + ","
)

// Reached sends this process the signal that the point's file asks for. Of several processes one gets it: the one that
// takes the file away.
func Reached(point Point) {
	if dir == "" {
		return
	}
	file := filepath.Join(dir, string(point))
	asked, err := os.ReadFile(file)
	if err != nil || os.Remove(file) != nil {
		return
	}
	signal := syscall.SIGKILL
	if strings.TrimSpace(string(asked)) == "stop" {
		signal = syscall.SIGSTOP
	}
	_ = syscall.Kill(os.Getpid(), signal)
	time.Sleep(100 * time.Millisecond) // the signal is on its way: nothing of what follows may happen before it arrives
}

// Sabotaged tells whether the environment asks for a sabotage.
func Sabotaged(s Sabotage) bool { return strings.Contains(sabotage, ","+string(s)+",") }
