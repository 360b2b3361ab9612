//go:build race

package chaos

func init() { buildFlags = append(buildFlags, "-race") }
