package jobs

import (
	"cmp"
	"container/heap"
	"time"
)

// expiries is a heap of what runs out, by its time. What was extended is in it twice.
type expiries []expiry

// expiry is the end of an authorization, or of a reservation.
type expiry struct {
	at          time.Time
	payment     *payment
	reservation *reservation
}

func (e expiry) id() string {
	if e.payment != nil {
		return e.payment.id
	}
	return e.reservation.id
}

func (e expiries) Len() int { return len(e) }
func (e expiries) Less(i, j int) bool {
	return cmp.Or(e[i].at.Compare(e[j].at), cmp.Compare(e[i].id(), e[j].id())) < 0
}
func (e expiries) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push implements [heap.Interface].
func (e *expiries) Push(x any) { *e = append(*e, x.(expiry)) }

// Pop implements [heap.Interface].
func (e *expiries) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (e *expiries) watchPayment(p *payment) { heap.Push(e, expiry{at: p.expiresAt, payment: p}) }

func (e *expiries) watch(r *reservation) { heap.Push(e, expiry{at: r.expiresAt, reservation: r}) }

// advance takes the state on in time: what has run out by then is given back, the oldest first. Rows that contradict one
// another are left alone, for worker audit to show: they must not keep the others from expiring.
func (s *state) advance(to time.Time) {
	for len(s.expiries) > 0 && !to.Before(s.expiries[0].at) {
		due := heap.Pop(&s.expiries).(expiry)
		s.reach(due.at)
		switch p, r := due.payment, due.reservation; {
		case p != nil && p.status == paymentAuthorized:
			_ = s.expire(p)
		case r != nil && (r.status == reservationHeld || r.status == reservationWaiting) && r.expiresAt.Equal(due.at):
			if err := s.end(r, reservationExpired); err == nil {
				s.ranOut = append(s.ranOut, r.id)
			}
		}
	}
	s.reach(to)
}

func (s *state) reach(at time.Time) {
	if at.After(s.reached) {
		s.reached = at
	}
}
