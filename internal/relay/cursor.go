package relay

import (
	"cmp"
	"strconv"
	"strings"
)

// position is a cursor of outcomes_since, taken apart: the timeline's token, and transaction, number and place.
type position struct {
	token string
	at    [3]uint64
}

func parsePosition(cursor string) (p position, ok bool) {
	parts := strings.Split(cursor, ".")
	if len(parts) != 4 {
		return p, false
	}
	p.token = parts[0]
	for i, part := range parts[1:] {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			return p, false
		}
		p.at[i] = n
	}
	return p, true
}

// Acknowledged tells whether a cursor is that of an outcome. One at which a relay begins, or was set to begin by its
// operator, is not: the target need not have what comes before.
func Acknowledged(cursor string) bool {
	p, ok := parsePosition(cursor)
	return ok && p.at[2] > 0
}

// Before tells whether an outcome's cursor comes before another one's. Of two timelines it can't be told; then it is
// false.
func Before(cursor, other string) bool {
	p, ok := parsePosition(cursor)
	q, known := parsePosition(other)
	if !ok || !known || p.token != q.token {
		return false
	}
	for i := range p.at {
		if order := cmp.Compare(p.at[i], q.at[i]); order != 0 {
			return order < 0
		}
	}
	return false
}

// CursorOf is the cursor in an event's id; empty: it is no id of ours.
func CursorOf(id string) string {
	if !strings.HasPrefix(id, "lastseat:") {
		return ""
	}
	cursor := id[strings.LastIndexByte(id, ':')+1:]
	if _, ok := parsePosition(cursor); !ok {
		return ""
	}
	return cursor
}
