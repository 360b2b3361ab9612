//go:build !linux

package chaos

import "errors"

// OwnMounts does nothing here.
func OwnMounts() {}

func mountDisk(string, int) (unmount func(), ok bool) { return nil, false }

func fill(string) (free func(), err error) { return nil, errors.New("there are no small disks here") }
