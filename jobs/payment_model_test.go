package jobs

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// Model is the rules of payments once more: integers of any size, and no thought of batches, tables or versions. What
// a history of requests comes to in memory, and in the database (TestHistories), is held against it.
type Model struct {
	Accounts  map[string]*ModelAccount
	Payments  map[string]*ModelPayment
	transfers map[string]*modelTransfer // by key
}

// ModelAccount is in EUR, unless it says otherwise.
type ModelAccount struct {
	Currency      string
	Balance, Held *big.Int
	Limit         *big.Int // nil: without bound
}

// ModelPayment has no status while it is pending.
type ModelPayment struct {
	Status             string
	key, from, to      string
	currency           string
	Amount             *big.Int
	Captured, Refunded *big.Int
	ExpiresAt          time.Time // zero: not within any history
}

type modelTransfer struct {
	from, to, currency string
	amount             *big.Int
	plain, reversed    bool
}

// NewModel has the accounts of a history, which are all empty: top has no bound, none is not there.
func NewModel() *Model {
	m := &Model{Accounts: make(map[string]*ModelAccount), Payments: make(map[string]*ModelPayment),
		transfers: make(map[string]*modelTransfer)}
	for id, limit := range map[string]*big.Int{"top": nil, "deep": big.NewInt(math.MaxInt64), "ada": new(big.Int),
		"ben": big.NewInt(100), "usd": nil} {
		m.Accounts[id] = &ModelAccount{Currency: "EUR", Balance: new(big.Int), Held: new(big.Int), Limit: limit}
	}
	m.Accounts["usd"].Currency = "USD"
	return m
}

// Begin is what asking through SQL does at once: the payment is there, and pending.
func (m *Model) Begin(key string, a Authorize) {
	m.Payments[a.Payment] = &ModelPayment{
		Status: "pending", key: key, from: a.From, to: a.To, currency: a.Currency, Amount: big.NewInt(a.Amount),
		Captured: new(big.Int), Refunded: new(big.Int), ExpiresAt: a.ExpiresAt,
	}
}

// Do settles a request and returns its code.
func (m *Model) Do(key string, at time.Time, args outbox.Args) string {
	switch args := args.(type) {
	case Transfer:
		return m.move(key, args.From, args.To, big.NewInt(args.Amount), args.Currency, true, CodeTransferred)
	case Authorize:
		return m.authorize(key, at, args)
	case Capture:
		return m.capture(key, at, args)
	case Void:
		return m.void(at, args)
	case Refund:
		return m.refund(key, at, args)
	case Reverse:
		return m.reverse(key, args)
	}
	panic(args)
}

func (m *Model) authorize(key string, at time.Time, a Authorize) string {
	if p := m.Payments[a.Payment]; p == nil {
		m.Begin(key, a)
	} else if p.key != key {
		return outbox.CodeInvalidArgs
	}
	p := m.Payments[a.Payment]
	code := m.canGive(p.from, p.to, p.Amount, p.currency)
	switch {
	case p.over(at):
		code = CodeAuthorizationExpired
	case code == "" && !new(big.Int).Add(m.Accounts[p.from].Held, p.Amount).IsInt64():
		code = CodeOutOfRange
	case code == "":
		p.Status = "authorized"
		add(m.Accounts[p.from].Held, p.Amount)
		return CodeAuthorized
	}
	p.Status = "declined"
	return code
}

func (m *Model) capture(key string, at time.Time, c Capture) string {
	p := m.Payments[c.Payment]
	if code := m.notLive(p, at); code != "" {
		return code
	}
	amount := p.Amount
	if c.Amount != 0 {
		amount = big.NewInt(c.Amount)
	}
	if amount.Cmp(p.Amount) > 0 {
		return CodeAmountExceedsAuthorized
	}
	if !new(big.Int).Add(m.Accounts[p.to].Balance, amount).IsInt64() {
		return CodeOutOfRange
	}
	m.release(p, "captured")
	p.Captured = amount
	return m.move(key, p.from, p.to, amount, p.currency, false, CodeCaptured)
}

func (m *Model) void(at time.Time, v Void) string {
	p := m.Payments[v.Payment]
	if code := m.notLive(p, at); code != "" {
		return code
	}
	m.release(p, "voided")
	return CodeVoided
}

func (m *Model) refund(key string, at time.Time, r Refund) string {
	p := m.Payments[r.Payment]
	if code := m.notLive(p, at); code != "" && code != CodeAlreadyCaptured {
		return code
	}
	left := new(big.Int).Sub(p.Captured, p.Refunded)
	amount := left
	if r.Amount != 0 {
		amount = big.NewInt(r.Amount)
	}
	if left.Sign() == 0 || amount.Cmp(left) > 0 {
		return CodeAmountExceedsCaptured
	}
	code := m.move(key, p.to, p.from, amount, p.currency, false, CodeRefunded)
	if code == CodeRefunded {
		add(p.Refunded, amount)
	}
	return code
}

func (m *Model) reverse(key string, r Reverse) string {
	t := m.transfers[r.Transfer]
	switch {
	case t == nil || !t.plain:
		return CodePaymentNotFound
	case t.reversed:
		return CodeAlreadyReversed
	}
	code := m.move(key, t.to, t.from, t.amount, t.currency, false, CodeReversed)
	t.reversed = code == CodeReversed
	return code
}

// Expire ends what has run out.
func (m *Model) Expire(at time.Time) {
	for _, p := range m.Payments {
		m.notLive(p, at)
	}
}

// notLive says why a payment is not authorized, which it may cease to be right here.
func (m *Model) notLive(p *ModelPayment, at time.Time) string {
	switch {
	case p == nil:
		return CodePaymentNotFound
	case p.Status == "authorized" && p.over(at):
		m.release(p, "expired")
	}
	return map[string]string{
		"pending": CodeNotAuthorized, "declined": CodeNotAuthorized, "captured": CodeAlreadyCaptured,
		"voided": CodeAlreadyVoided, "expired": CodeAuthorizationExpired,
	}[p.Status]
}

func (p *ModelPayment) over(at time.Time) bool {
	return !p.ExpiresAt.IsZero() && at.Compare(p.ExpiresAt) >= 0
}

func (m *Model) release(p *ModelPayment, status string) {
	p.Status = status
	held := m.Accounts[p.from].Held
	held.Sub(held, p.Amount)
}

// canGive says what keeps from from giving to to.
func (m *Model) canGive(from, to string, amount *big.Int, currency string) string {
	for _, id := range []string{from, to} {
		switch a := m.Accounts[id]; {
		case a == nil:
			return CodeAccountNotFound
		case a.Currency != currency:
			return CodeCurrencyMismatch
		}
	}
	a := m.Accounts[from]
	rest := new(big.Int).Sub(new(big.Int).Sub(a.Balance, a.Held), amount)
	switch {
	case a.Limit != nil && rest.Cmp(new(big.Int).Neg(a.Limit)) < 0:
		return CodeInsufficientFunds
	case !rest.IsInt64():
		return CodeOutOfRange
	}
	return ""
}

func (m *Model) move(key, from, to string, amount *big.Int, currency string, plain bool, done string) string {
	if code := m.canGive(from, to, amount, currency); code != "" {
		return code
	}
	if !new(big.Int).Add(m.Accounts[to].Balance, amount).IsInt64() {
		return CodeOutOfRange
	}
	add(m.Accounts[from].Balance, new(big.Int).Neg(amount))
	add(m.Accounts[to].Balance, amount)
	m.transfers[key] = &modelTransfer{from: from, to: to, currency: currency, amount: amount, plain: plain}
	return done
}

func add(sum, n *big.Int) { sum.Add(sum, n) }

// Step is one of a history: a request, and when it is asked for. Without arguments it is a sweep.
type Step struct {
	Key   string
	After time.Duration // the beginning of the history
	Args  outbox.Args
}

// Histories are steps over the accounts of a [Model]: few payments at a time, so that much happens to each, amounts
// small and at the edges of 64 bits, times that run out. start is the beginning.
func Histories(start time.Time, most int) *rapid.Generator[[]Step] {
	return rapid.Custom(func(t *rapid.T) []Step {
		h := paymentHistory{start: start, payments: []string{"p"}}
		steps := make([]Step, oneOf(t, 1, 10, most, most))
		for i := range steps {
			h.after += time.Duration(oneOf(t, 1, 2, 3)) * time.Second
			steps[i] = Step{Key: fmt.Sprint("k", i), After: h.after, Args: h.draw(t, i)}
		}
		return steps
	})
}

type paymentHistory struct {
	start    time.Time
	after    time.Duration
	payments []string // that were asked for
}

func (h *paymentHistory) draw(t *rapid.T, i int) outbox.Args {
	from, to := oneOf(t, "top", "top", "top", "deep", "ada", "ben"), oneOf(t, "ada", "ada", "ben", "deep", "top")
	if from == to || oneOf(t, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1) == 1 {
		from, to = oneOf(t, "ada", "usd", "none", "top"), oneOf(t, "ben", "deep")
	}
	currency := oneOf(t, "EUR", "EUR", "EUR", "EUR", "EUR", "EUR", "EUR", "EUR", "EUR", "EUR", "EUR", "USD")
	amount := oneOf(t, 1, 7, 30, 50, 99, 100, 101, int64(150))
	if oneOf(t, true, false, false, false) {
		amount = oneOf(t, int64(math.MaxInt64), math.MaxInt64-1, math.MaxInt64/2, math.MaxInt64/2+1, math.MaxInt64-100)
	}
	part := oneOf(t, 0, 0, 0, 1, 7, 30, 50, 51, amount)
	payment := h.payments[max(0, len(h.payments)-1-oneOf(t, 0, 0, 0, 0, 1, 1, 2, 3, 4, 10))]
	switch kind := oneOf(t, KindTransfer, KindTransfer, KindAuthorize, KindAuthorize, KindCapture, KindCapture, KindVoid,
		KindRefund, KindRefund, KindReverse, "sweep"); {
	case kind == KindTransfer || i < 3: // money to begin with
		return Transfer{From: from, To: to, Amount: amount, Currency: currency}
	case kind == KindAuthorize:
		a := Authorize{Payment: payment, From: from, To: to, Amount: amount, Currency: currency}
		if oneOf(t, 0, 0, 0, 0, 1) == 0 {
			a.Payment = fmt.Sprint("p", i)
		}
		if oneOf(t, true, false) {
			a.ExpiresAt = h.start.Add(h.after + time.Duration(oneOf(t, -1, 0, 1, 2, 3, 5, 10, 30))*time.Second)
		}
		h.payments = append(h.payments, a.Payment)
		return a
	case kind == KindCapture:
		return Capture{Payment: payment, Amount: part}
	case kind == KindVoid:
		return Void{Payment: payment}
	case kind == KindRefund:
		return Refund{Payment: payment, Amount: part}
	case kind == KindReverse:
		return Reverse{Transfer: fmt.Sprint("k", max(0, i-oneOf(t, 0, 1, 2, 3, 4, 5, 6, 8, 10)))}
	}
	return nil
}

// oneOf draws evenly, which rapid's own choices do not: they prefer what comes first.
func oneOf[T any](t *rapid.T, choices ...T) T {
	n := 0
	for range 7 {
		n *= 2
		if rapid.Bool().Draw(t, "bit") {
			n++
		}
	}
	return choices[n*len(choices)>>7]
}

// A history in memory, held against the model after every step. Now and then what is there is written and read again,
// as between two batches.
func TestPaymentsAgainstModel(t *testing.T) {
	t.Parallel()
	start := tableTime
	histories := Histories(start, 60)
	codes := make(map[string]int)
	property := func(t *rapid.T) {
		againstModel(t, start, histories.Draw(t, "history"), func() bool { return rapid.Bool().Draw(t, "through SQL") },
			codes)
	}
	for range testdb.Soak(25, 2500) {
		rapid.Check(t, property) // a hundred
	}
	for _, code := range []string{
		CodeTransferred, CodeAuthorized, CodeCaptured, CodeVoided, CodeRefunded, CodeReversed, CodeInsufficientFunds,
		CodeCurrencyMismatch, CodeOutOfRange, CodeAccountNotFound, CodePaymentNotFound,
		CodeAmountExceedsAuthorized, CodeAmountExceedsCaptured, CodeAlreadyCaptured, CodeAlreadyVoided, CodeAlreadyReversed,
		CodeAuthorizationExpired, CodeNotAuthorized, outbox.CodeInvalidArgs,
	} {
		if codes[code] == 0 && !t.Failed() {
			t.Errorf("no history came to %s: %v", code, codes)
		}
	}
}

// failer is what a test, a property and a fuzz target have in common.
type failer interface {
	Fatalf(format string, args ...any)
}

// againstModel counts the codes. throughSQL says whether the payment that is asked for next is there before its request
// is settled.
func againstModel(t failer, start time.Time, steps []Step, throughSQL func() bool, codes map[string]int) {
	m, s := NewModel(), newState(start)
	for id, a := range m.Accounts {
		s.money.ledger.accounts[id] = &account{id: id, currency: a.Currency}
		if a.Limit != nil {
			s.money.ledger.accounts[id].overdraft = new(a.Limit.Int64())
		}
	}
	for _, step := range steps {
		s.money.ledger.now = start.Add(step.After)
		if step.Args == nil {
			s.expireDue(s.money.ledger.now)
			m.Expire(s.money.ledger.now)
			m.compare(t, s)
			s.reread()
			continue
		}
		a, isAuthorize := step.Args.(Authorize)
		if isAuthorize && s.money.payments[a.Payment] == nil && throughSQL() {
			m.Begin(step.Key, a)
			s.money.payments[a.Payment] = a.newPayment(outbox.Job{Key: step.Key, At: s.money.ledger.now})
		}
		code, want := s.do(t, step), m.Do(step.Key, s.money.ledger.now, step.Args)
		if code != want {
			t.Fatalf("%s %+v: %s, the model says %s", step.Key, step.Args, code, want)
		}
		codes[code]++
		m.compare(t, s)
		s.prove(t)
	}
}

// do takes a request all the way from its JSON.
func (s *state) do(t failer, step Step) string {
	args, err := json.Marshal(step.Args)
	if err != nil {
		t.Fatalf("%+v: %v", step.Args, err)
	}
	operation, err := decoders[step.Args.Kind()](args)
	if err != nil {
		t.Fatalf("%s: %v", args, err)
	}
	operation.needs(s)
	result, err := operation.apply(s, outbox.Job{Key: step.Key, At: s.money.ledger.now})
	if err != nil {
		t.Fatalf("%s: %v", args, err)
	}
	if !hasCode(step.Args.Kind(), result.Code) {
		t.Fatalf("%s: the table of kinds has no code %s", step.Args.Kind(), result.Code)
	}
	return result.Code
}

func hasCode(name, code string) bool {
	return code == outbox.CodeInvalidArgs || slices.ContainsFunc(kinds, func(k kind) bool {
		return k.args.Kind() == name && slices.Contains(slices.Concat(k.applied, k.rejected), code)
	})
}

// reread is what writing and reading again leaves.
func (s *state) reread() {
	s.money.expired, s.money.ledger.transfers, s.money.ledger.entries = nil, nil, nil
	for _, a := range s.money.ledger.accounts {
		if a != nil {
			a.changed = false
		}
	}
	for id, p := range s.money.payments {
		if p == nil {
			delete(s.money.payments, id)
			continue
		}
		p.created, p.changed, p.wasAuthorized = false, false, false
	}
}

func (m *Model) compare(t failer, s *state) {
	for id, want := range m.Accounts {
		if a := s.money.ledger.accounts[id]; want.Balance.Cmp(big.NewInt(a.balance)) != 0 ||
			want.Held.Cmp(big.NewInt(a.held)) != 0 {
			t.Fatalf("%s has %d, %d held; the model %v, %v", id, a.balance, a.held, want.Balance, want.Held)
		}
	}
	for id, p := range s.money.payments {
		want := m.Payments[id]
		if (p == nil) != (want == nil) {
			t.Fatalf("payment %s: %+v, the model's %+v", id, p, want)
		}
		if p != nil && (p.status != want.Status || want.Captured.Cmp(big.NewInt(p.captured)) != 0 ||
			want.Refunded.Cmp(big.NewInt(p.refunded)) != 0) {
			t.Fatalf("payment %+v, the model's %+v", p, want)
		}
	}
}

// prove is worker audit, in memory: sums, limits, what is held, and every account's chain of entries.
func (s *state) prove(t failer) {
	held, total := make(map[string]*big.Int), make(map[string]*big.Int)
	for _, p := range s.money.payments {
		if p == nil {
			continue
		}
		if p.captured > p.amount || p.refunded > p.captured || (p.status == paymentCaptured) != (p.captured > 0) ||
			p.status != paymentPending && p.version == 0 {
			t.Fatalf("payment %+v", p)
		}
		if p.status == paymentAuthorized {
			add(get(held, p.from), big.NewInt(p.amount))
		}
	}
	for id, a := range s.money.ledger.accounts {
		if a == nil {
			continue
		}
		spare := new(big.Int).Sub(big.NewInt(a.balance), big.NewInt(a.held))
		if get(held, id).Cmp(big.NewInt(a.held)) != 0 || a.held < 0 || a.overdraft != nil &&
			spare.Cmp(new(big.Int).Neg(big.NewInt(*a.overdraft))) < 0 || a.version < a.entries {
			t.Fatalf("account %+v holds %v", a, held[id])
		}
		add(get(total, a.currency), big.NewInt(a.balance))
	}
	for currency, sum := range total {
		if sum.Sign() != 0 {
			t.Fatalf("%s sums to %v", currency, sum)
		}
	}
	s.proveEntries(t)
}

func (s *state) proveEntries(t failer) {
	if len(s.money.ledger.entries) != 2*len(s.money.ledger.transfers) {
		t.Fatalf("%d entries of %d transfers", len(s.money.ledger.entries), len(s.money.ledger.transfers))
	}
	last := make(map[string]entry)
	for pair := range slices.Chunk(s.money.ledger.entries, 2) {
		x := pair[0].transfer
		if pair[0].amount != -x.amount || pair[1].amount != x.amount || pair[0].account != x.from ||
			pair[1].account != x.to || pair[1].transfer != x || x.amount < 1 {
			t.Fatalf("%+v: %+v", x, pair)
		}
		for _, e := range pair {
			before, known := last[e.account]
			sum := new(big.Int).Add(big.NewInt(before.balanceAfter), big.NewInt(e.amount))
			if known && (e.version != before.version+1 || sum.Cmp(big.NewInt(e.balanceAfter)) != 0 || e.at.Before(before.at)) {
				t.Fatalf("%+v does not follow %+v", e, before)
			}
			last[e.account] = e
		}
	}
	for id, e := range last {
		if a := s.money.ledger.accounts[id]; a.balance != e.balanceAfter || a.entries != e.version ||
			e.at.After(a.updatedAt) {
			t.Fatalf("account %+v, last entry %+v", a, e)
		}
	}
}

func get(sums map[string]*big.Int, of string) *big.Int {
	if sums[of] == nil {
		sums[of] = new(big.Int)
	}
	return sums[of]
}
