package chaos

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the process when the bench dies, however that happens.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
