package jobs

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// money is the part of the ledger and the payments that a batch touches, in memory.
type money struct {
	ledger   ledger
	payments map[string]*payment // nil: asked for, and not there
	expiring expiries[payment]   // those that are authorized
	expired  []string            // ids of payments, in this batch
	letGo    []string            // of those by card, whose processor has to let go first
	blocked  blocked
}

func newMoney(now time.Time) money {
	return money{ledger: newLedger(now), payments: make(map[string]*payment)}
}

func (m *money) needPayment(id string) { need(m.payments, id) }

// isTouched tells whether a request of the batch has to do with money.
func (m *money) isTouched() bool {
	return len(m.ledger.accounts)+len(m.payments)+len(m.ledger.byKey) > 0
}

// namesOnlyAccounts tells whether the batch's requests have to do with accounts, and with no payment or transfer that
// is there already.
func (m *money) namesOnlyAccounts() bool {
	return len(m.ledger.accounts) > 0 && len(m.payments)+len(m.ledger.byKey) == 0
}

// authorize reserves a payment's money. Nothing has refused it.
func (m *money) authorize(p *payment) {
	m.ledger.reserve(p.from, p.amount)
	p.become(paymentAuthorized)
	p.wasAuthorized = true
	m.watch(p)
}

// refuseAuthorization says why a payment that was asked for at a time can't be authorized, or nil if it can.
func (m *money) refuseAuthorization(p *payment, at time.Time) *outbox.Result {
	if p.ranOut(at) {
		return p.refuseExpired()
	}
	if refused := m.ledger.refuseDebit(p.from, p.to, p.amount, p.currency); refused != nil {
		return refused
	}
	return m.ledger.refuseReserve(p.from, p.amount)
}

// authorized returns the payment if it is authorized at the time of the request, or says why it is not. A payment that
// has run out by then, and that no sweep has found yet, expires here; one by card begins to.
func (m *money) authorized(id string, at time.Time) (*payment, *outbox.Result, error) {
	p := m.payments[id]
	if p == nil {
		return nil, reject(CodePaymentNotFound, map[string]any{"payment": id}), nil
	}
	if p.status == paymentAuthorized && p.ranOut(at) {
		if err := m.expire(p); err != nil {
			return nil, nil, err
		}
		if p.processor != "" {
			return p, p.refuseExpired(), nil
		}
	}
	switch p.status {
	case paymentAuthorized:
		return p, nil, nil
	case paymentCaptured:
		return p, reject(CodeAlreadyCaptured, map[string]any{"payment": id, "captured": p.captured}), nil
	case paymentVoided:
		return p, reject(CodeAlreadyVoided, map[string]any{"payment": id}), nil
	case paymentExpired:
		return p, p.refuseExpired(), nil
	default:
		return p, reject(CodeNotAuthorized, map[string]any{"payment": id, "status": p.status}), nil
	}
}

// watch sees to it that an authorized payment expires in time.
func (m *money) watch(p *payment) { m.expiring.watch(p.expiresAt, p.id, p) }

// advance expires what has run out by a time. Rows that contradict one another are left alone, for worker audit to
// show: they must not keep the others from expiring.
func (m *money) advance(to time.Time) {
	for _, p := range m.expiring.until(to) {
		if p.status == paymentAuthorized && p.calling == "" && m.blocked.holdsUp(m.touchesPayment(p.id)) == nil {
			_ = m.expire(p)
		}
	}
}

// expire ends an authorization whose time is over. One by card asks its processor first, by a request of the worker's
// own.
func (m *money) expire(p *payment) error {
	if p.processor != "" {
		p.become(p.status)
		p.calling = expiryKey(p.id)
		m.letGo = append(m.letGo, p.id)
		return nil
	}
	if err := m.ledger.release(p.from, p.amount); err != nil {
		return err
	}
	p.become(paymentExpired)
	m.expired = append(m.expired, p.id)
	return nil
}

// load locks payments and reads transfers, which name the accounts that the batch needs; see [state.load] for the
// order.
func (m *money) load(ctx context.Context, tx pgx.Tx) error {
	if err := m.loadPayments(ctx, tx); err != nil {
		return err
	}
	if err := m.ledger.loadTransfers(ctx, tx); err != nil {
		return err
	}
	for _, p := range m.payments {
		if p != nil {
			m.ledger.needAccounts(p.accounts()...)
		}
	}
	return nil
}
