package cli

import (
	"fmt"
	"strings"
)

// Nearest is the one of names that somebody may have meant who wrote this, or nothing. The first of equally near
// ones. One that begins with it, or with which it begins, is near.
func Nearest(written string, names []string) string {
	best, least := "", 1+max(1, len(written)/4)
	for _, name := range names {
		if len(written) > 2 && (strings.HasPrefix(name, written) || strings.HasPrefix(written, name)) && least > 1 {
			best, least = name, 1
		}
		if d := distance(strings.ToLower(written), strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	return best
}

// OneOf says what to write instead of what is none of a few names: the nearest one, or all.
func OneOf(written string, names []string) string {
	all := "it is one of " + strings.Join(names, ", ")
	if near := Nearest(written, names); near != "" {
		return fmt.Sprintf("did you mean %s? %s", near, strings.ToUpper(all[:1])+all[1:])
	}
	return all
}

// distance is how many letters have to be changed, added, left out or swapped with the next one (Damerau, Levenshtein).
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			changed := last[j]
			if a[i] != b[j] {
				changed++
			}
			row[j+1] = min(changed, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
