package chaos

import (
	"fmt"
	"strings"
)

// findBalances sums up what the outcomes say for the closed accounts, which neither payments nor poison touch.
func findBalances(e *evidence) (found []string) {
	want := make(map[string]int64)
	for _, o := range e.state.Requests {
		a := e.keys[o.Key]
		if a != nil && a.op.Kind == "payment.transfer" && o.Status == "applied" {
			want[a.op.Asks.From] -= a.op.Asks.Amount
			want[a.op.Asks.To] += a.op.Asks.Amount
		}
	}
	for account, balance := range sorted(e.state.Balances) {
		if strings.HasPrefix(account, "c") && balance != want[account] {
			found = append(found, fmt.Sprintf("%s has %d, its outcomes sum to %d", account, balance, want[account]))
		}
	}
	return found
}

func findMoney(e *evidence) (found []string) {
	var sum int64
	for account, balance := range sorted(e.state.Balances) {
		sum += balance
		if account != "bank" && balance-e.state.Held[account] < 0 {
			found = append(found, fmt.Sprintf("%s has %d, of which %d are held", account, balance, e.state.Held[account]))
		}
	}
	if sum != 0 {
		found = append(found, fmt.Sprintf("the balances sum to %d", sum))
	}
	return found
}

func findPoints(e *evidence) (found []string) {
	want := make(map[string]int64)
	for _, o := range e.state.Requests {
		if a := e.keys[o.Key]; a != nil && a.op.Kind == "points.add" && o.Status == "applied" {
			want[a.op.Asks.ID] += a.op.Asks.Amount
		}
	}
	for member, points := range sorted(e.state.Points) {
		if points != want[member] {
			found = append(found, fmt.Sprintf("%s has %d points, its outcomes sum to %d", member, points, want[member]))
		}
	}
	return found
}

// findPlaces counts what is taken by the reservations' own rows, and by the outcomes.
func findPlaces(e *evidence) (found []string) {
	for id, r := range sorted(e.state.Resources) {
		if r.Taken > r.Capacity || r.Overlaps > 0 {
			found = append(
				found,
				fmt.Sprintf("%s has %d places; %d are taken, %d pairs of times overlap", id, r.Capacity, r.Taken,
					r.Overlaps),
			)
		}
	}
	taken := make(map[string]int64)
	for _, o := range e.state.Requests {
		a := e.keys[o.Key]
		if a == nil || o.Status != "applied" {
			continue
		}
		sign := int64(0)
		switch o.Code {
		case "held":
			sign = 1
		case "cancelled":
			sign = -1
		}
		for resource, quantity := range a.op.Asks.Items {
			if strings.HasPrefix(resource, "seat") || strings.HasPrefix(resource, "stock") {
				taken[resource] += sign * quantity
			}
		}
	}
	for resource, n := range sorted(taken) {
		if r := e.state.Resources[resource]; n != r.Taken {
			found = append(found, fmt.Sprintf("%s: by the outcomes %d are taken, by the reservations %d", resource, n, r.Taken))
		}
	}
	return found
}

// findExpiry compares the time of asking, by the database's clock, with the time at which a hold or an authorization
// was to run out. In time is what had been committed by then as well (docs/decisions/008), which the client
// knows only by the answer.
func findExpiry(e *evidence) (found []string) {
	for key, o := range sorted(e.state.Requests) {
		a := e.keys[key]
		if a == nil || a.op.Asks.Expires.IsZero() || o.Attempts > 1 { // what is tried again is as late as it is then
			continue
		}
		expired := o.Code == "hold_expired" || o.Code == "authorization_expired"
		late := !o.RequestedAt.Before(a.op.Asks.Expires)
		inTime := a.ok > 0 && o.RequestedAt.Add(a.until-a.from).Before(a.op.Asks.Expires)
		// what was confirmed or captured in time runs out no more, and may be cancelled or refunded later
		lasting := a.op.Kind == "reservation.cancel" || a.op.Kind == "payment.refund"
		if expired && inTime || late && o.Status == "applied" && !lasting {
			found = append(
				found,
				fmt.Sprintf("%s %s was asked for at %v, answered within %v, what it is about ran out at %v, and it is %s (%s):\n%s",
					a.op.Kind, key, o.RequestedAt, a.until-a.from, a.op.Asks.Expires, o.Status, o.Code, e.story(a.op.Asks.ID)),
			)
		}
	}
	return found
}

// story is what the feed tells of a payment or a reservation, in its order.
func (e *evidence) story(id string) string {
	var told strings.Builder
	for _, o := range e.state.Feed {
		if a := e.keys[o.Key]; a != nil && a.op.Asks.ID == id || strings.HasSuffix(o.Key, ":"+id) {
			detail := ""
			if o.Detail != nil {
				detail = *o.Detail
			}
			fmt.Fprintf(&told, "    %s %s: %s (%s %s), asked for at %v, settled at %v, attempt %d\n", o.Kind, o.Key, o.Status,
				o.Code, detail, o.RequestedAt, o.SettledAt, o.Attempts)
		}
	}
	return told.String()
}

// ledger follows the money through the feed, by the rules of the guide and none of the product's code.
type ledger struct {
	balance, held map[string]int64
	payments      map[string]*payment
	reversed      map[string]bool
}

type payment struct {
	from, to                   string
	amount, captured, refunded int64
	status                     string
	expires                    bool
}

// findAccounts goes through the outcomes in the order of the feed and predicts each. With several lanes the feed is no
// order of effects.
func findAccounts(e *evidence) (found []string) {
	if e.lanes > 1 {
		return nil
	}
	l := &ledger{balance: make(map[string]int64), held: make(map[string]int64), payments: make(map[string]*payment),
		reversed: make(map[string]bool)}
	for _, o := range e.state.Feed {
		a := e.keys[o.Key]
		switch {
		case strings.HasPrefix(o.Key, "poison/") && o.Kind == "payment.transfer" && o.Status == "applied":
			l.move("bank", "e0", 1)
		case a == nil:
		default:
			if want := l.predict(e, a.op, o); want != "" && want != o.Code {
				found = append(
					found,
					fmt.Sprintf("%s %s: %s (%s), and its place in the order gives %s", o.Kind, o.Key, o.Status, o.Code,
						want),
				)
				return found // what follows from a wrong one is wrong, too
			}
		}
	}
	return found
}

func (l *ledger) move(from, to string, amount int64) {
	l.balance[from] -= amount
	l.balance[to] += amount
}

func (l *ledger) lacks(account string, amount int64) bool {
	return account != "bank" && l.balance[account]-l.held[account] < amount
}

// predict says which code an outcome has to have, and does what it does; empty: it depends on more than the money.
// Payments that expire are left out, and so are their accounts: the feed has an expiry after the batch in which it was.
func (l *ledger) predict(e *evidence, op *Op, o Outcome) (code string) {
	a := op.Asks
	switch op.Kind {
	case "payment.transfer":
		if strings.HasPrefix(a.From, "e") {
			return ""
		}
		if l.lacks(a.From, a.Amount) {
			return "insufficient_funds"
		}
		l.move(a.From, a.To, a.Amount)
		return "transferred"
	case "payment.reverse":
		return l.reverse(e, a)
	case "booking.book":
		switch {
		case o.Code == "insufficient_funds" && !l.lacks(a.From, a.Amount):
			return "booked"
		case o.Code != "booked":
			return ""
		case l.lacks(a.From, a.Amount):
			return "insufficient_funds"
		}
		l.move(a.From, a.To, a.Amount)
		return "booked"
	case "payment.authorize":
		p := &payment{from: a.From, to: a.To, amount: a.Amount, status: "declined", expires: !a.Expires.IsZero()}
		l.payments[a.ID] = p
		switch {
		case p.expires:
			return ""
		case l.lacks(a.From, a.Amount):
			return "insufficient_funds"
		}
		l.held[a.From] += a.Amount
		p.status = "authorized"
		return "authorized"
	case "payment.capture", "payment.void", "payment.refund":
		return l.ofPayment(op, o)
	}
	return ""
}

func (l *ledger) reverse(e *evidence, a Asks) string {
	other, is := e.state.Requests[a.Other]
	switch {
	case !is || other.Status != "applied":
		return ""
	case l.reversed[a.Other]:
		return "already_reversed"
	case l.lacks(a.From, a.Amount):
		return "insufficient_funds"
	}
	l.reversed[a.Other] = true
	l.move(a.From, a.To, a.Amount)
	return "reversed"
}

func (l *ledger) ofPayment(op *Op, o Outcome) string {
	p, a := l.payments[op.Asks.ID], op.Asks
	if p == nil {
		return ""
	}
	if p.expires { // only what it does to the shop is followed
		if o.Status == "applied" && op.Kind != "payment.void" {
			l.followExpiring(op, p)
		}
		return ""
	}
	if op.Kind == "payment.refund" {
		return l.refund(p, a)
	}
	switch p.status {
	case "captured":
		return "already_captured"
	case "voided":
		return "already_voided"
	case "declined":
		return "not_authorized"
	}
	amount := a.Amount
	if op.Kind == "payment.void" {
		p.status = "voided"
		l.held[p.from] -= p.amount
		return "voided"
	}
	if amount == 0 {
		amount = p.amount
	}
	if amount > p.amount {
		return "amount_exceeds_authorized"
	}
	p.status, p.captured = "captured", amount
	l.held[p.from] -= p.amount
	l.move(p.from, p.to, amount)
	return "captured"
}

func (l *ledger) followExpiring(op *Op, p *payment) {
	amount := op.Asks.Amount
	if op.Kind == "payment.capture" {
		if amount == 0 {
			amount = p.amount
		}
		p.captured = amount
		l.move(p.from, p.to, amount)
		return
	}
	if amount == 0 {
		amount = p.captured - p.refunded
	}
	p.refunded += amount
	l.move(p.to, p.from, amount)
}

func (l *ledger) refund(p *payment, a Asks) string {
	switch p.status {
	case "voided":
		return "already_voided"
	case "authorized", "declined":
		return "" // docs/payments.md has no one code for it
	}
	amount := a.Amount
	if amount == 0 {
		amount = p.captured - p.refunded
	}
	switch {
	case amount > p.captured-p.refunded || amount == 0:
		return "amount_exceeds_captured"
	case l.lacks(p.to, amount):
		return "insufficient_funds"
	}
	p.refunded += amount
	l.move(p.to, p.from, amount)
	return "refunded"
}
