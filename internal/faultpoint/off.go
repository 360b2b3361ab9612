//go:build !chaos

package faultpoint

// Reached does nothing in this build.
func Reached(Point) {}

// Sabotaged is false in this build.
func Sabotaged(Sabotage) bool { return false }
