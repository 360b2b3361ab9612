package jobs

import (
	"cmp"
	"container/heap"
	"iter"
	"time"
)

// expiries are rows in the order in which they run out. A row whose time has changed is in it once for each time:
// whoever takes it out compares.
type expiries[R any] []expiry[R]

type expiry[R any] struct {
	at  time.Time
	id  string
	row *R
}

// watch adds a row that runs out at a time.
func (e *expiries[R]) watch(at time.Time, id string, row *R) { heap.Push(e, expiry[R]{at, id, row}) }

// until takes out what has run out by a time, the oldest first, and what the caller adds meanwhile.
func (e *expiries[R]) until(to time.Time) iter.Seq2[time.Time, *R] {
	return func(yield func(time.Time, *R) bool) {
		for len(*e) > 0 && !to.Before((*e)[0].at) {
			if due := heap.Pop(e).(expiry[R]); !yield(due.at, due.row) {
				return
			}
		}
	}
}

// Len implements [heap.Interface].
func (e expiries[R]) Len() int { return len(e) }

// Less implements [heap.Interface].
func (e expiries[R]) Less(i, j int) bool {
	return cmp.Or(e[i].at.Compare(e[j].at), cmp.Compare(e[i].id, e[j].id)) < 0
}

// Swap implements [heap.Interface].
func (e expiries[R]) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push implements [heap.Interface].
func (e *expiries[R]) Push(x any) { *e = append(*e, x.(expiry[R])) }

// Pop implements [heap.Interface].
func (e *expiries[R]) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
