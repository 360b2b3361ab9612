package chaos

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// The names of the domain. Each group of accounts and resources is there for a check:
//
//	bank, shop   the world: one has no limit, the other is paid
//	c0 ...       get money from the bank and pay the shop: the history of each is checked by itself (linear.go)
//	p0 ...       pay one another, authorize payments and book places
//	e0 ...       authorize payments that expire
//	seat, stock  are held and given up: the history of each is checked by itself
//	line         has more takers than places: holds that wait, expire, are confirmed
//	gig          is booked
//	room         is taken for times
const (
	closedAccounts, openAccounts, expiringAccounts = 10, 8, 4
	seats, stocks, lines, gigs, rooms, members     = 8, 2, 3, 2, 2, 4
	stockCapacity, lineCapacity, gigCapacity       = 7, 2, 60
	currency                                       = "EUR"
)

func name(group string, n int) string { return fmt.Sprintf("%s%d", group, n) }

// domainSQL opens the accounts and defines the resources.
func domainSQL() (statements []string) {
	account := func(id, overdraft string) {
		statements = append(statements, fmt.Sprintf(`SELECT lastseat.open_account('%s', '%s', %s)`, id, currency, overdraft))
	}
	resource := func(id string, capacity int) {
		statements = append(statements, fmt.Sprintf(`SELECT lastseat.define_resource('%s', %d)`, id, capacity))
	}
	account("bank", "NULL")
	account("shop", "0")
	for group, n := range map[string]int{"c": closedAccounts, "p": openAccounts, "e": expiringAccounts} {
		for i := range n {
			account(name(group, i), "0")
		}
	}
	for _, group := range []struct {
		name        string
		n, capacity int
	}{
		{"seat", seats, 1}, {"stock", stocks, stockCapacity}, {"line", lines, lineCapacity}, {"gig", gigs, gigCapacity},
		{"room", rooms, 1},
	} {
		for i := range group.n {
			resource(name(group.name, i), group.capacity)
		}
	}
	for i := range members {
		statements = append(statements, fmt.Sprintf(`INSERT INTO bench.members VALUES ('m%d')`, i))
	}
	return statements
}

// asker thinks up what a client asks for.
type asker struct {
	random   *rand.Rand
	client   int
	prefix   string
	n        int
	payments []Asks            // of its own
	places   map[string][]Asks // reservations of its own, by group
	plain    []*Op             // transfers of its own that can be reversed
}

func newAsker(seed uint64, client int, prefix string) *asker {
	return &asker{
		random: rand.New(rand.NewPCG(seed, uint64(client)+1000)), client: client, prefix: prefix,
		places: make(map[string][]Asks),
	}
}

// mix says how often each thing is asked for.
var mix = []struct {
	weight int
	ask    func(*asker) *Op
}{
	{22, func(a *asker) *Op { return a.transfer("bank", name("c", a.random.IntN(closedAccounts)), 50) }},
	{24, func(a *asker) *Op { return a.transfer(name("c", a.random.IntN(closedAccounts)), "shop", 60) }},
	{4, func(a *asker) *Op { return a.transfer("bank", name("p", a.random.IntN(openAccounts)), 200) }},
	{2, func(a *asker) *Op { return a.transfer("bank", name("e", a.random.IntN(expiringAccounts)), 200) }},
	{8, (*asker).between},
	{2, (*asker).later},
	{1, (*asker).reverse},
	{7, func(a *asker) *Op { return a.authorize("p", 0) }},
	{3, func(a *asker) *Op { return a.authorize("e", 500*time.Millisecond) }},
	{8, (*asker).ofPayment},
	{7, func(a *asker) *Op { return a.hold("seat", seats, 1) }},
	{4, func(a *asker) *Op { return a.hold("stock", stocks, 3) }},
	{9, func(a *asker) *Op { return a.ofPlace("reservation.cancel", "seat", "stock") }},
	{6, func(a *asker) *Op { return a.hold("line", lines, 2) }},
	{4, func(a *asker) *Op { return a.ofPlace("reservation.confirm", "line") }},
	{2, func(a *asker) *Op { return a.ofPlace("reservation.cancel", "line", "room") }},
	{3, (*asker).book},
	{2, (*asker).room},
	{6, (*asker).points},
}

// next thinks of something. Nothing of a plan depends on it.
func (a *asker) next() *Op {
	total := 0
	for _, m := range mix {
		total += m.weight
	}
	for {
		n := a.random.IntN(total)
		for _, m := range mix {
			if n -= m.weight; n < 0 {
				if op := m.ask(a); op != nil {
					return op
				}
				break
			}
		}
	}
}

func (a *asker) op(kind string, asks Asks, args map[string]any, rows ...string) *Op {
	a.n++
	text, err := json.Marshal(args)
	if err != nil {
		panic(err) // nothing in them can't be encoded
	}
	return &Op{Key: fmt.Sprintf("%s%d-%d", a.prefix, a.client, a.n), Kind: kind, Queue: "lastseat", Args: text, Asks: asks,
		Rows: rows}
}

func (a *asker) transfer(from, to string, most int64) *Op {
	amount := 1 + a.random.Int64N(most)
	return a.op("payment.transfer", Asks{From: from, To: to, Amount: amount},
		map[string]any{"from": from, "to": to, "amount": amount, "currency": currency}, from, to)
}

func (a *asker) between() *Op {
	from := a.random.IntN(openAccounts)
	op := a.transfer(name("p", from), name("p", (from+1+a.random.IntN(openAccounts-1))%openAccounts), 60)
	a.plain = append(a.plain, op)
	return op
}

func (a *asker) later() *Op {
	op := a.transfer("bank", name("p", a.random.IntN(openAccounts)), 20)
	op.Later = true
	return op
}

func (a *asker) reverse() *Op {
	if len(a.plain) == 0 {
		return nil
	}
	other := a.plain[a.random.IntN(len(a.plain))]
	return a.op("payment.reverse", Asks{Other: other.Key, From: other.Asks.To, To: other.Asks.From,
		Amount: other.Asks.Amount}, map[string]any{"transfer": other.Key}, other.Asks.From, other.Asks.To)
}

func (a *asker) authorize(group string, least time.Duration) *Op {
	asks := Asks{From: name(group, a.random.IntN(openAccounts)), To: "shop", Amount: 1 + a.random.Int64N(40)}
	args := map[string]any{"to": asks.To, "amount": asks.Amount, "currency": currency}
	if least > 0 {
		asks.From = name(group, a.random.IntN(expiringAccounts))
		asks.Expires = a.soon(least)
		args["expires_at"] = asks.Expires
	}
	asks.ID = fmt.Sprintf("pay/%s%d-%d", a.prefix, a.client, a.n)
	args["payment"], args["from"] = asks.ID, asks.From
	a.payments = append(a.payments, asks)
	return a.op("payment.authorize", asks, args, asks.From, asks.To, asks.ID)
}

// soon is a time shortly ahead, in whole microseconds as Postgres has it.
func (a *asker) soon(least time.Duration) time.Time {
	return time.Now().Add(least + time.Duration(a.random.Int64N(int64(2*time.Second)))).UTC().Truncate(time.Microsecond)
}

func (a *asker) ofPayment() *Op {
	if len(a.payments) == 0 {
		return nil
	}
	p := a.payments[len(a.payments)-1-a.random.IntN(min(8, len(a.payments)))]
	kind := []string{"payment.capture", "payment.capture", "payment.void", "payment.refund"}[a.random.IntN(4)]
	args := map[string]any{"payment": p.ID}
	asks := Asks{ID: p.ID, From: p.From, To: p.To, Expires: p.Expires}
	if kind != "payment.void" && a.random.IntN(2) == 0 {
		asks.Amount = 1 + a.random.Int64N(45)
		args["amount"] = asks.Amount
	}
	return a.op(kind, asks, args, p.ID, p.From, p.To)
}

func (a *asker) hold(group string, n, most int) *Op {
	resource := name(group, a.random.IntN(n))
	quantity := 1 + a.random.Int64N(int64(most))
	asks := Asks{ID: fmt.Sprintf("res/%s%d-%d", a.prefix, a.client, a.n), Items: map[string]int64{resource: quantity}}
	args := map[string]any{
		"reservation": asks.ID, "items": []map[string]any{{"resource": resource, "quantity": quantity}},
		"expires_at": time.Now().Add(24 * time.Hour).UTC(),
	}
	if group == "line" {
		asks.Expires, asks.Wait = a.soon(400*time.Millisecond), a.random.IntN(2) == 0
		args["expires_at"], args["wait"] = asks.Expires, asks.Wait
	}
	a.places[group] = append(a.places[group], asks)
	return a.op("reservation.hold", asks, args, asks.ID, resource)
}

func (a *asker) ofPlace(kind string, groups ...string) *Op {
	group := groups[a.random.IntN(len(groups))]
	own := a.places[group]
	if len(own) == 0 {
		return nil
	}
	i := len(own) - 1 - a.random.IntN(min(6, len(own)))
	p := own[i]
	if kind == "reservation.cancel" {
		a.places[group] = slices.Delete(own, i, i+1)
	}
	rows := []string{p.ID}
	for resource := range p.Items {
		rows = append(rows, resource)
	}
	return a.op(kind, Asks{ID: p.ID, Items: p.Items, Expires: p.Expires}, map[string]any{"reservation": p.ID}, rows...)
}

func (a *asker) book() *Op {
	resource, from := name("gig", a.random.IntN(gigs)), name("p", a.random.IntN(openAccounts))
	asks := Asks{ID: fmt.Sprintf("res/%s%d-%d", a.prefix, a.client, a.n), Items: map[string]int64{resource: 1},
		From: from, To: "shop", Amount: 1 + a.random.Int64N(40)}
	return a.op("booking.book", asks, map[string]any{
		"reservation": asks.ID, "items": []map[string]any{{"resource": resource}}, "from": from, "to": "shop",
		"amount": asks.Amount, "currency": currency,
	}, asks.ID, resource, from, "shop")
}

func (a *asker) room() *Op {
	resource := name("room", a.random.IntN(rooms))
	asks := Asks{ID: fmt.Sprintf("res/%s%d-%d", a.prefix, a.client, a.n), Items: map[string]int64{resource: 1}}
	start := time.Date(2031, 1, 1, a.random.IntN(200), 0, 0, 0, time.UTC)
	a.places["room"] = append(a.places["room"], asks)
	return a.op("reservation.hold", asks, map[string]any{
		"reservation": asks.ID, "expires_at": time.Now().Add(24 * time.Hour).UTC(),
		"items": []map[string]any{{"resource": resource, "during": fmt.Sprintf("[%s,%s)", start.Format(time.RFC3339),
			start.Add(time.Duration(1+a.random.IntN(4))*time.Hour).Format(time.RFC3339))}},
	}, asks.ID, resource)
}

func (a *asker) points() *Op {
	member := name("m", a.random.IntN(members))
	asks := Asks{ID: member, Amount: 1 + a.random.Int64N(9)}
	op := a.op("points.add", asks, map[string]any{"member": member, "points": asks.Amount}, member)
	op.Queue = "points"
	return op
}
