//go:build race

package chaos

func init() { buildFlags = []string{"-race"} }
