package localpg

import "syscall"

// dieWithParent has the kernel send SIGINT, Postgres's fast shutdown, when the thread which started the child is gone:
// even a SIGKILL to us leaves no server behind.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }
