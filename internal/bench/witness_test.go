package main

import (
	"testing"
)

// TestNoRateForALoss: a way to settle that loses an outcome has no rate, and one that tells of it before the commit
// has no negative latency.
func TestNoRateForALoss(t *testing.T) {
	t.Parallel()
	w := &witness{}
	tickets := filling{accounts: 10}.transfers(0, 2)
	all := w.expect(tickets)
	w.see(tickets[0].key)
	w.commit(tickets)
	select {
	case <-all:
		t.Fatal("all are settled, though one is not")
	default:
	}
	w.see(tickets[1].key)
	<-all
	if waits := w.waits(tickets); waits[0] != 0 || waits[1] < 0 {
		t.Errorf("latencies %v", waits)
	}
}
