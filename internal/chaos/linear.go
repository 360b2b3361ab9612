package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// A request takes effect in the order of asking, whenever it is settled: so the history of an account is that of a
// clerk who decides each request at one moment between its asking and its answer, and its outcome tells what the clerk
// decided. Porcupine looks for such moments. What was asked for and never answered may have had its moment at any time
// after it was asked for.

// decision is a request of a closed account or of a seat, and what the clerk decided.
type decision struct {
	gives int64 // to the balance, or to the free places
	id    string
}

// clerk is what the clerk knows: a balance or a number of free places, and who has some of it.
type clerk struct {
	free int64
	has  string // the reservations that hold something, sorted, with their quantities
}

// clerkModel is for accounts and for places alike. A decision that takes something is applied exactly if it is there; a
// cancellation is applied exactly if the reservation holds something.
func clerkModel(free int64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return clerk{free: free} },
		Step: func(state, input, output any) (bool, any) {
			c, d := state.(clerk), input.(decision)
			applied := output.(bool)
			mine := "," + d.id + ";"
			switch {
			case d.id == "" || d.gives < 0:
				if fits := d.gives >= 0 || c.free+d.gives >= 0; applied != fits {
					return false, nil
				}
			case applied != strings.Contains(c.has, mine):
				return false, nil
			}
			if !applied {
				return true, c
			}
			c.free += d.gives
			switch {
			case d.id == "":
			case d.gives < 0:
				all := append(strings.SplitAfter(c.has, ";"), mine)
				slices.Sort(all)
				c.has = strings.Join(all, "")
			default:
				c.has = strings.Replace(c.has, mine, "", 1)
			}
			return true, c
		},
		Equal: func(a, b any) bool { return a == b },
		DescribeOperation: func(input, output any) string {
			return fmt.Sprintf("%+v -> %v", input, output)
		},
	}
}

// linearTimeout bounds the search for one account's moments.
const linearTimeout = 10 * time.Second

// findLinear asks Porcupine about every closed account, seat and stock. With several lanes there is no order between
// the bank's requests and an account's.
func findLinear(e *evidence) (found []string) {
	if e.lanes > 1 {
		return nil
	}
	end := time.Duration(0)
	for _, c := range e.calls {
		end = max(end, c.Answered)
	}
	operations := make(map[string][]porcupine.Operation)
	free := make(map[string]int64)
	for key, a := range e.keys {
		o, is := e.state.Requests[key]
		if !is || o.Status == "failed" || !o.settled() {
			continue
		}
		of, d := a.op.decision()
		if of == "" {
			continue
		}
		until := end + time.Hour
		if a.ok > 0 && o.Attempts == 1 { // one that was tried again has lost its place
			until = a.until
		}
		if _, known := free[of]; !known {
			free[of] = e.state.Resources[of].Capacity
		}
		operations[of] = append(operations[of], porcupine.Operation{
			Input: d, Call: int64(a.from), Output: o.Status == "applied", Return: int64(until),
		})
	}
	for _, of := range slices.Sorted(maps.Keys(operations)) {
		if porcupine.CheckOperationsTimeout(clerkModel(free[of]), operations[of], linearTimeout) == porcupine.Illegal {
			found = append(
				found,
				fmt.Sprintf("%s: no clerk could have decided its %d requests in the order in which they were asked for",
					of, len(operations[of])),
			)
		}
	}
	return found
}

// decision is what a request is to a closed account, a seat or a stock; of is empty if it is nothing to any.
func (op *Op) decision() (of string, d decision) {
	a := op.Asks
	switch {
	case op.Kind == "payment.transfer" && strings.HasPrefix(a.To, "c"):
		return a.To, decision{gives: a.Amount}
	case op.Kind == "payment.transfer" && strings.HasPrefix(a.From, "c"):
		return a.From, decision{gives: -a.Amount}
	case op.Kind == "reservation.hold" || op.Kind == "reservation.cancel":
		for resource, quantity := range a.Items {
			if strings.HasPrefix(resource, "seat") || strings.HasPrefix(resource, "stock") {
				if op.Kind == "reservation.hold" {
					quantity = -quantity
				}
				return resource, decision{gives: quantity, id: a.ID}
			}
		}
	}
	return "", decision{}
}
