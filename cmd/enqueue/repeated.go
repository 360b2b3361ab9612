package main

import (
	"fmt"
	"hash/maphash"
)

const (
	mostRepeated = 20      // lines that are named
	mostKeys     = 1 << 20 // of a generation
)

// repeated is a line that asks for what an earlier one of the same file has asked for. It may be the double that the
// file's author did not mean, or two payments that were given one key.
type repeated struct {
	Line int    `json:"line"`
	Of   int    `json:"repeats_line"`
	Key  string `json:"key"`
}

func (r repeated) String() string {
	return fmt.Sprintf("line %d repeats line %d (key %q): it was asked for once", r.Line, r.Of, r.Key)
}

func (c *counts) repeat(line, of int, key string) {
	c.RepeatedLines++
	if len(c.Repeated) < mostRepeated {
		c.Repeated = append(c.Repeated, repeated{line, of, key})
	}
}

// seenKeys knows on which line a key stood. It keeps hashes of the last one or two million keys, not the keys of a
// whole file. A line that repeats one from further up is a duplicate without a line to name.
type seenKeys struct {
	seed       maphash.Seed
	young, old map[uint64]int
}

// add notes the line of a key, and returns the line on which the key stood before; 0: on none.
func (s *seenKeys) add(key string, line int) (before int) {
	if s.young == nil {
		s.seed, s.young = maphash.MakeSeed(), make(map[uint64]int)
	}
	hash := maphash.String(s.seed, key)
	for _, generation := range []map[uint64]int{s.old, s.young} {
		if before, known := generation[hash]; known {
			return before
		}
	}
	if len(s.young) == mostKeys {
		s.young, s.old = make(map[uint64]int), s.young
	}
	s.young[hash] = line
	return 0
}
