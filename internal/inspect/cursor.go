package inspect

import (
	"errors"
	"fmt"
	"math"
)

// cursor is where a page of a list has ended.
type cursor struct {
	job     int64 // of what is pending: only older jobs follow
	settled bool  // what is pending is behind it
	place   place // of the log: only what stands before it follows,
	skip    int   // and of the row itself what is before its last keys, if skip is not 0
}

// ErrCursor says that a cursor is none of ours.
var ErrCursor = errors.New("no such page")

// String is what parseCursor reads.
func (c cursor) String() string {
	if !c.settled {
		return fmt.Sprintf("pending.%d", c.job)
	}
	return fmt.Sprintf("settled.%d.%s.%d.%d", c.place.timeline, c.place.xid, c.place.number, c.skip)
}

func parseCursor(text string) (c cursor, err error) {
	c = cursor{job: math.MaxInt64, place: place{math.MaxInt32, "18446744073709551615", math.MaxInt64}}
	if text == "" {
		return c, nil
	}
	if _, err := fmt.Sscanf(text, "pending.%d", &c.job); err == nil {
		return c, nil
	}
	var xid uint64
	c.settled = true
	_, err = fmt.Sscanf(text, "settled.%d.%d.%d.%d", &c.place.timeline, &xid, &c.place.number, &c.skip)
	if err != nil || c.place.timeline > math.MaxInt32 || c.skip > 0 && c.place.number == math.MaxInt64 {
		return c, ErrCursor
	}
	c.place.xid = fmt.Sprint(xid)
	return c, nil
}
