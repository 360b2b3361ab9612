-- Payments: authorize, capture, void, refund, expire; charge, by card.
--
--   pending -> authorized -> captured        pending -> declined
--              authorized -> voided | expired           refunds never change the status
--
-- A charge goes from pending to captured, through authorized, in one transaction: when the processor has taken it.
-- While the processor is asked for something, calling has the key of the request. The money of a charge or a refund is
-- then on the clearing account; that of an authorization, capture, void or expiry stays held on from_account.
--
-- The function that asks for a payment inserts its pending row in the caller's transaction, together with the
-- request.

-- No foreign keys to accounts: each producer's check would lock the account's row, and all producers share a shop's
-- account. An account is never deleted; the functions look for it before they insert, the worker before it holds
-- money.
CREATE TABLE lastseat.payments (
    id              text COLLATE "C" PRIMARY KEY CHECK (char_length(id) BETWEEN 1 AND 200),
    key             text COLLATE "C" NOT NULL,
    from_account    text COLLATE "C" NOT NULL,
    to_account      text COLLATE "C" NOT NULL,
    amount          bigint NOT NULL CHECK (amount > 0),
    amount_captured bigint NOT NULL DEFAULT 0 CHECK (amount_captured >= 0),
    amount_refunded bigint NOT NULL DEFAULT 0 CHECK (amount_refunded >= 0),
    currency        text COLLATE "C" NOT NULL,
    status          text COLLATE "C" NOT NULL DEFAULT 'pending'
                    CHECK (status IN ('pending', 'authorized', 'captured', 'declined', 'voided', 'expired')),
    expires_at      timestamptz NOT NULL,
    version         bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    processor       text COLLATE "C" CHECK (processor ~ '^[a-z][a-z0-9_]{0,39}$'),
    method          text COLLATE "C",
    reference       text COLLATE "C",
    calling         text COLLATE "C",
    in_flight       bigint NOT NULL DEFAULT 0 CHECK (in_flight >= 0),
    CONSTRAINT payments_by_card CHECK ((processor IS NULL) = (method IS NULL)
        AND (processor IS NOT NULL OR reference IS NULL AND calling IS NULL)),
    CONSTRAINT payments_in_flight_called CHECK (calling IS NOT NULL OR in_flight = 0),
    CONSTRAINT payments_two_accounts CHECK (from_account <> to_account),
    CONSTRAINT payments_captured_at_most CHECK (amount_captured <= amount),
    CONSTRAINT payments_refunded_at_most CHECK (amount_refunded <= amount_captured),
    CONSTRAINT payments_captured_has_amount CHECK ((status = 'captured') = (amount_captured > 0))
) WITH (fillfactor = 50); -- each row is updated once or twice soon after it was inserted
-- For the worker's search for expired authorizations; a payment leaves the index when it is settled, and while its
-- processor is asked.
CREATE INDEX payments_expiring ON lastseat.payments (expires_at, id) WHERE status = 'authorized' AND calling IS NULL;
-- For those who look up what a request made.
CREATE INDEX payments_key ON lastseat.payments USING hash (key);
-- For those who look at what is under way.
CREATE INDEX payments_calling ON lastseat.payments (processor, currency) WHERE calling IS NOT NULL;
COMMENT ON TABLE lastseat.payments IS 'A payment that is authorized first and captured later. Amounts in minor units.';
COMMENT ON COLUMN lastseat.payments.id IS 'The payment''s id, chosen by the caller.';
COMMENT ON COLUMN lastseat.payments.key IS 'The idempotency key of the request that authorizes it.';
COMMENT ON COLUMN lastseat.payments.from_account IS 'The account that pays.';
COMMENT ON COLUMN lastseat.payments.to_account IS 'The account that is paid.';
COMMENT ON COLUMN lastseat.payments.amount IS
    'The authorized amount: held on from_account until the payment is captured, voided or expired.';
COMMENT ON COLUMN lastseat.payments.amount_captured IS
    'The amount that was captured, once; the rest was released then.';
COMMENT ON COLUMN lastseat.payments.amount_refunded IS 'The sum of all refunds.';
COMMENT ON COLUMN lastseat.payments.currency IS 'ISO 4217, that of both accounts.';
COMMENT ON COLUMN lastseat.payments.status IS 'pending, authorized, captured, declined, voided or expired.';
COMMENT ON COLUMN lastseat.payments.expires_at IS
    'The worker expires an authorization that is not captured by then, within two seconds.';
COMMENT ON COLUMN lastseat.payments.version IS 'Goes up by one with every change: an optimistic lock for ORMs.';
COMMENT ON COLUMN lastseat.payments.created_at IS 'When it was asked for.';
COMMENT ON COLUMN lastseat.payments.updated_at IS 'When it last changed.';
COMMENT ON COLUMN lastseat.payments.processor IS 'The processor that moves the money outside; null: it moves here only.';
COMMENT ON COLUMN lastseat.payments.method IS 'The processor''s token of the card.';
COMMENT ON COLUMN lastseat.payments.reference IS 'The processor''s id of the charge; null: there is none yet.';
COMMENT ON COLUMN lastseat.payments.calling IS
    'The key of the request for which the processor is being asked. Another request waits until it has its answer.';
COMMENT ON COLUMN lastseat.payments.in_flight IS
    'The amount that is on the clearing account meanwhile: lastseat:clearing:PROCESSOR:CURRENCY. 0 while it is held.';
GRANT INSERT (id, key, from_account, to_account, amount, currency, expires_at, processor, method),
    UPDATE (status, amount_captured, amount_refunded, version, updated_at, reference, calling, in_flight)
ON lastseat.payments TO lastseat_worker;

CREATE TRIGGER first_status BEFORE INSERT ON lastseat.payments
    FOR EACH ROW WHEN (NEW.status <> 'pending') EXECUTE FUNCTION lastseat.check_payment_status();
CREATE TRIGGER next_status BEFORE UPDATE OF status ON lastseat.payments
    -- Repeated here from the function: calling a function for every row is most of what the check costs.
    FOR EACH ROW WHEN (OLD.status <> NEW.status
        AND (OLD.status <> 'pending' OR NEW.status <> 'authorized')
        AND (OLD.status <> 'authorized' OR NEW.status <> 'captured')
        AND (OLD.status <> 'authorized' OR NEW.status <> 'voided'))
    EXECUTE FUNCTION lastseat.check_payment_status();
CREATE TRIGGER fixed BEFORE UPDATE ON lastseat.payments
    FOR EACH ROW WHEN (
        OLD.id IS DISTINCT FROM NEW.id OR OLD.key IS DISTINCT FROM NEW.key
        OR OLD.from_account IS DISTINCT FROM NEW.from_account OR OLD.to_account IS DISTINCT FROM NEW.to_account
        OR OLD.amount IS DISTINCT FROM NEW.amount OR OLD.currency IS DISTINCT FROM NEW.currency
        OR OLD.expires_at IS DISTINCT FROM NEW.expires_at OR OLD.processor IS DISTINCT FROM NEW.processor
        OR OLD.method IS DISTINCT FROM NEW.method
        OR OLD.reference <> NEW.reference
        OR NEW.amount_refunded < OLD.amount_refunded
        OR OLD.amount_captured > 0 AND NEW.amount_captured <> OLD.amount_captured)
    EXECUTE FUNCTION lastseat.refuse_change('A payment keeps its terms; captures and refunds are not taken back.');
CREATE TRIGGER kept BEFORE TRUNCATE ON lastseat.payments
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('Transfers refer to payments for ever.');
CREATE TRIGGER removed AFTER DELETE ON lastseat.payments REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.check_removal('Transfers refer to payments.', 'g.id || ''@'' || g.version');
CREATE TRIGGER new_id AFTER INSERT ON lastseat.payments
    FOR EACH ROW EXECUTE FUNCTION lastseat.check_new_id();

-- What processors tell by webhook comes more than once. Whoever takes an event in notes its id in the transaction that
-- does what the event asks for.
CREATE TABLE lastseat.taken_events (
    source   text COLLATE "C" NOT NULL CHECK (char_length(source) BETWEEN 1 AND 200),
    id       text COLLATE "C" NOT NULL CHECK (char_length(id) BETWEEN 1 AND 200),
    taken_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, id)
);
COMMENT ON TABLE lastseat.taken_events IS
    'The events of others that were taken in, one row each, kept as long as lastseat.retention says. One whose row is gone '
    'would be taken in again.';
COMMENT ON COLUMN lastseat.taken_events.source IS 'Who has sent it: stripe, or a name of yours.';
COMMENT ON COLUMN lastseat.taken_events.id IS 'The event''s id, which is the same when it comes again.';
COMMENT ON COLUMN lastseat.taken_events.taken_at IS 'When it was taken in.';
CREATE INDEX taken_events_taken_at ON lastseat.taken_events (taken_at);
