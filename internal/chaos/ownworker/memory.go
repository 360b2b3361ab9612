//go:build linux && !race

package main

import "syscall"

// limitMemory has the process die like one that the machine has no memory left for.
func limitMemory() error {
	const most = 512 << 20
	return syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: most, Max: most})
}

// grow takes memory until there is none left.
func grow() {
	var all [][]byte
	for {
		more := make([]byte, 16<<20)
		for i := range more {
			more[i] = 1
		}
		all = append(all, more)
		if len(all) > 1<<10 {
			all = nil // never: the limit comes first
		}
	}
}
