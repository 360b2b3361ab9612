//go:build !linux

package localpg

import "syscall"

// dieWithParent can do nothing here: only Linux tells a child of its parent's death. A server left behind by a killed
// process is reported by the next start in its directory.
func dieWithParent(*syscall.SysProcAttr) {}
