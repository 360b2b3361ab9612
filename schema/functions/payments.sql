-- payment.transfer and payment.reverse move money at once. payment.authorize holds it; payment.capture, void and
-- refund follow. Each kind has its check of the arguments beside the function that asks for it.

CREATE OR REPLACE FUNCTION lastseat.check_transfer_args(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    giver text; -- the currencies of the accounts
    taker text;
BEGIN
    PERFORM check_amount_arg('amount', args -> 'amount');
    IF args ->> 'from' = args ->> 'to' THEN
        PERFORM check_id_arg('from', args -> 'from');
        RAISE EXCEPTION '"from" and "to" are the same account, "%"', args ->> 'from'
            USING ERRCODE = 'LS002', COLUMN = 'to', HINT = 'Money moves between two accounts.';
    ELSIF starts_with(args ->> 'from', 'lastseat:') OR starts_with(args ->> 'to', 'lastseat:') THEN
        RAISE EXCEPTION '"%" begins with lastseat:',
            CASE WHEN starts_with(args ->> 'from', 'lastseat:') THEN args ->> 'from' ELSE args ->> 'to' END
            USING ERRCODE = 'LS002',
                  COLUMN = CASE WHEN starts_with(args ->> 'from', 'lastseat:') THEN 'from' ELSE 'to' END,
                  HINT = 'Such accounts are the worker''s own: money under way at a processor.';
    ELSIF jsonb_typeof(args -> 'description') NOT IN ('string', 'null') THEN
        RAISE EXCEPTION '"description" is %', left(args ->> 'description', 50)
            USING ERRCODE = 'LS002', COLUMN = 'description', HINT = 'A description is text.';
    ELSIF jsonb_typeof(args -> 'metadata') NOT IN ('object', 'null') THEN
        RAISE EXCEPTION '"metadata" is %', left(args ->> 'metadata', 50)
            USING ERRCODE = 'LS002', COLUMN = 'metadata', HINT = 'Metadata is a JSON object.';
    END IF;
    -- Almost always both accounts are there, one of them in the currency: then all three are valid, and one query has
    -- told so. The calls tell which of them is not.
    SELECT (SELECT a.currency FROM accounts a WHERE a.id = args ->> 'from'),
           (SELECT a.currency FROM accounts a WHERE a.id = args ->> 'to') INTO giver, taker;
    IF giver IS NULL OR taker IS NULL OR (args ->> 'currency' IN (giver, taker)) IS NOT TRUE
       OR jsonb_typeof(args -> 'from') <> 'string' OR jsonb_typeof(args -> 'to') <> 'string'
       OR jsonb_typeof(args -> 'currency') <> 'string' THEN
        PERFORM check_id_arg('from', args -> 'from');
        PERFORM check_id_arg('to', args -> 'to');
        PERFORM check_currency(args ->> 'currency');
        PERFORM check_account(args ->> 'from', 'from');
        PERFORM check_account(args ->> 'to', 'to');
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_transfer_args IS
'Refuses invalid accounts, amount, currency, description or metadata.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.check_payment_transfer(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('payment.transfer', args, '{key,from,to,amount,currency,description,metadata}');
    PERFORM check_transfer_args(args);
END $$;
COMMENT ON FUNCTION lastseat.check_payment_transfer IS
'Refuses arguments that a payment.transfer can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.canonical_payment_transfer(args jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN CASE WHEN args ?| '{description,metadata}' THEN canonical_transfer_args(args) ELSE args END;
END $$;
COMMENT ON FUNCTION lastseat.canonical_payment_transfer IS
'The arguments of a payment.transfer in one spelling.

args: the arguments.';

CREATE OR REPLACE FUNCTION lastseat.transfer(
    key text, from_account text, to_account text, amount bigint, currency text, description text DEFAULT NULL,
    metadata jsonb DEFAULT '{}'
)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    args  CONSTANT jsonb := jsonb_build_object('from', from_account, 'to', to_account, 'amount', amount,
                                               'currency', currency);
    job   bigint;
    asked timestamptz;
BEGIN
    -- The plain case of enqueue, to the letter, without the call and without taking the arguments apart again.
    IF description IS NULL AND metadata = '{}' AND plain_key(key) AND amount > 0
       AND plain_accounts(from_account, to_account) THEN
        job := nextval('river_job_id_seq');
        asked := CASE WHEN pg_current_xact_id() IS NOT NULL THEN clock_timestamp() END;
        INSERT INTO requests (key, kind, fingerprint, job_id, requested_at)
        SELECT transfer.key, 'payment.transfer', mark_of('payment.transfer', args), job, asked
        WHERE EXISTS (SELECT FROM accounts a WHERE a.id = from_account AND a.currency = transfer.currency)
          AND EXISTS (SELECT FROM accounts a WHERE a.id = to_account)
          AND NOT (EXISTS (SELECT FROM removed) AND is_expired(transfer.key))
        ON CONFLICT (key) DO NOTHING;
        IF FOUND THEN
            INSERT INTO river_job (id, kind, queue, args, state, scheduled_at, metadata)
            VALUES (job, 'payment.transfer', 'lastseat', args || jsonb_build_object('key', transfer.key),
                    'available', asked, trace_metadata());
            IF NOT pg_try_advisory_xact_lock_shared(doorbell('lastseat')) THEN
                PERFORM ring('lastseat');
            END IF;
            RETURN ROW(key, 'payment.transfer', 'pending', false)::receipt;
        END IF;
    END IF;
    RETURN enqueue('payment.transfer', key, args
        || CASE WHEN description IS NULL THEN '{}' ELSE jsonb_build_object('description', description) END
        || CASE WHEN coalesce(metadata, '{}') = '{}' THEN '{}' ELSE jsonb_build_object('metadata', metadata) END);
END $$;
COMMENT ON FUNCTION lastseat.transfer IS
'Asks for money to move from one account to another, in the caller''s transaction.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
from_account: the account whose balance goes down.
to_account: the account whose balance goes up; another account of the same currency.
amount: minor units, 1 or more: 12.50 EUR is 1250.
currency: that of both accounts.
description: the text that a statement shows; or null.
metadata: a JSON object of your own: kept, never read.

Errors: LS001 the key was used for something else; LS002; LS003 no such account; LS004.';
GRANT EXECUTE ON FUNCTION lastseat.transfer TO lastseat_producer, lastseat_worker;

-- The request tells, not its transfers: the transfer may still be pending. So this holds for any number of legs.
CREATE OR REPLACE FUNCTION lastseat.check_reversible(transfer_key text)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    asked text;
BEGIN
    SELECT r.kind INTO asked FROM requests r WHERE r.key = transfer_key;
    IF asked IN ('payment.transfer', 'booking.book')
       -- its request may no longer be kept
       OR asked IS NULL AND EXISTS (SELECT FROM transfers t WHERE t.key = transfer_key AND t.payment_id IS NULL
                                      AND t.reverses_id IS NULL) THEN
        RETURN;
    END IF;
    IF asked IS NULL AND EXISTS (SELECT FROM removed_ids r WHERE r.what = 'transfers' AND r.id = transfer_key) THEN
        RAISE EXCEPTION 'the transfer with the key "%" is no longer kept', transfer_key
            USING ERRCODE = 'LS003', COLUMN = 'transfer', HINT = 'It can''t be reversed. Ask for a transfer back.';
    END IF;
    RAISE EXCEPTION 'no transfer was asked for with the key "%"%', transfer_key, coalesce(': it is a ' || asked, '')
        USING ERRCODE = 'LS003', COLUMN = 'transfer',
              HINT = 'A reversal names the key of a payment.transfer or booking.book request. A captured payment '
                     'is refunded instead.';
END $$;
COMMENT ON FUNCTION lastseat.check_reversible IS 'Refuses a key under which no reversible transfer was asked for.

transfer_key: the key.

Errors: LS003.';

CREATE OR REPLACE FUNCTION lastseat.check_payment_reverse(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('payment.reverse', args, '{key,transfer}');
    PERFORM check_id_arg('transfer', args -> 'transfer');
    PERFORM check_reversible(args ->> 'transfer');
END $$;
COMMENT ON FUNCTION lastseat.check_payment_reverse IS
'Refuses arguments that a payment.reverse can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.reverse(key text, transfer_key text)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.reverse', key, jsonb_build_object('transfer', transfer_key));
END $$;
COMMENT ON FUNCTION lastseat.reverse IS
'Asks for a plain transfer to be reversed, once, in the caller''s transaction: the same amount, the other way.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
transfer_key: the key of the transfer''s request, or of the booking''s.

Errors: LS001, LS002, LS003 no transfer was asked for with that key.';
GRANT EXECUTE ON FUNCTION lastseat.reverse TO lastseat_producer, lastseat_worker;

-- One that was removed was there: a repeated request is a duplicate still, and a new one is the worker's to reject.
CREATE OR REPLACE FUNCTION lastseat.check_payment(id text)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM payments p WHERE p.id = check_payment.id)
       AND NOT EXISTS (SELECT FROM removed_ids r WHERE r.what = 'payments' AND r.id = check_payment.id) THEN
        RAISE EXCEPTION 'there is no payment "%"', check_payment.id
            USING ERRCODE = 'LS003', COLUMN = 'payment', HINT = 'Authorize it first: SELECT lastseat.authorize(...).';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_payment IS 'Refuses a payment that has never existed.

id: the payment''s id.

Errors: LS003.';

CREATE OR REPLACE FUNCTION lastseat.check_payment_authorize(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('payment.authorize', args,
        '{key,payment,from,to,amount,currency,expires_at,processor,method}');
    PERFORM check_id_arg('payment', args -> 'payment');
    PERFORM check_time_arg('expires_at', args -> 'expires_at');
    IF coalesce(args -> 'processor', 'null') <> 'null' OR coalesce(args -> 'method', 'null') <> 'null' THEN -- both
        PERFORM check_form_arg('processor', args -> 'processor', '^[a-z][a-z0-9_]{0,39}$');
        PERFORM check_form_arg('method', args -> 'method', '^[!-~]{1,200}$');
    END IF;
    PERFORM check_transfer_args(args);
END $$;
COMMENT ON FUNCTION lastseat.check_payment_authorize IS
'Refuses arguments that a payment.authorize can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.begin_payment_authorize(key text, args jsonb, asked timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    known payments;
BEGIN
    IF args ->> 'processor' IS NOT NULL THEN
        PERFORM open_clearing_account(args ->> 'processor', args ->> 'currency');
    END IF;
    INSERT INTO payments (id, key, from_account, to_account, amount, currency, processor, method, expires_at)
    VALUES (args ->> 'payment', begin_payment_authorize.key, args ->> 'from', args ->> 'to',
            (args ->> 'amount')::bigint, args ->> 'currency', args ->> 'processor', args ->> 'method',
            -- not 7 days: one of them may have 23 hours in the session's time zone
            coalesce(time_of(args ->> 'expires_at'), asked + interval '168 hours'))
    ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        -- A keeper may have removed it in this moment.
        SELECT * INTO known FROM payments p WHERE p.id = args ->> 'payment';
        RAISE EXCEPTION 'payment "%" was asked for %', args ->> 'payment', coalesce('with the key "' || known.key || '"', 'before')
            USING ERRCODE = 'LS001', COLUMN = 'payment',
                  DETAIL = format('It is %s.', coalesce(known.status, 'no longer kept')),
                  HINT = 'A payment is authorized once. Take a new id for a new one.';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.begin_payment_authorize IS
'Inserts the pending row of payments that a payment.authorize request has.

key: the request''s key.
args: its arguments.
asked: the time from which the default expiry counts.

Errors: LS001 it was asked for before.';

-- See canonical_hold_args: a retry may give another expires_at.
CREATE OR REPLACE FUNCTION lastseat.canonical_payment_authorize(args jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    args := args - 'expires_at';
    IF args -> 'processor' = 'null' THEN
        args := args - 'processor';
    END IF;
    IF args -> 'method' = 'null' THEN
        args := args - 'method';
    END IF;
    RETURN args;
END $$;
COMMENT ON FUNCTION lastseat.canonical_payment_authorize IS
'The arguments of a payment.authorize in one spelling.

args: the arguments.';

-- expires_at defaults to null and not to now() + 7 days: the default counts from the time of the request.
CREATE OR REPLACE FUNCTION lastseat.authorize(
    key text, payment text, from_account text, to_account text, amount bigint, currency text,
    expires_at timestamptz DEFAULT NULL, processor text DEFAULT NULL, method text DEFAULT NULL
)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.authorize', key,
        jsonb_build_object('payment', payment, 'from', from_account, 'to', to_account, 'amount', amount,
                           'currency', currency)
        || jsonb_strip_nulls(jsonb_build_object('processor', processor, 'method', method))
        || time_arg('expires_at', expires_at));
END $$;
COMMENT ON FUNCTION lastseat.authorize IS
'Asks for money to be held for a payment that is captured later, in the caller''s transaction. The row of payments '
'exists immediately, as pending.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
payment: the payment''s id, 1 to 200 characters, used once.
from_account: the account that pays.
to_account: the account that is paid.
amount: minor units, 1 or more: 12.50 EUR is 1250.
currency: that of both accounts.
expires_at: when the hold is released unless the payment is captured; null: 7 days after the request. A retry may '
'send a different expires_at; the first one is kept.
processor: by card: the processor''s name, as your workers know it: stripe. It reserves the amount, too, and captures, '
'voids and refunds follow it there; from_account stands for it. Null: the money moves here only.
method: by card: the processor''s token of the card. Never a card''s number.

Errors: LS001 the key was used for something else, or the payment was asked for before; LS002; LS003 no such '
'account.';
GRANT EXECUTE ON FUNCTION lastseat.authorize TO lastseat_producer, lastseat_worker;

-- An authorization by card that has run out is given up at its processor first. So it expires by a request of the
-- worker's own, which has a job and a call like any other. The lane has marked the payments in this transaction.
CREATE OR REPLACE FUNCTION lastseat.expire_by_card(ids text[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    writer CONSTANT xid8 := pg_current_xact_id(); -- before the time, as in enqueue
    asked  CONSTANT timestamptz := clock_timestamp();
BEGIN
    WITH made AS (
        INSERT INTO requests (key, kind, fingerprint, job_id, requested_at)
        SELECT p.calling, 'payment.expire', fingerprint('payment.expire', jsonb_build_object('payment', p.id)),
               nextval('river_job_id_seq'), asked
        FROM payments p
        WHERE p.id = ANY (ids) AND p.status = 'authorized' AND p.calling = 'lastseat:payment.expire:' || p.id
        ORDER BY p.expires_at, p.id
        ON CONFLICT (key) DO NOTHING -- worker audit tells (payments.calling)
        RETURNING requests.key, requests.job_id)
    INSERT INTO river_job (id, kind, queue, args, state, scheduled_at)
    SELECT m.job_id, 'payment.expire', 'lastseat',
           jsonb_build_object('key', m.key, 'payment', substr(m.key, length('lastseat:payment.expire:') + 1)),
           'available', asked
    FROM made m;
    IF FOUND THEN
        PERFORM ring('lastseat');
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.expire_by_card IS
'Asks for the expiry of authorizations by card that have run out and that the lane has marked in this transaction: a '
'request and its job for each, under a key of the worker''s own, lastseat:payment.expire:ID. For the worker.

ids: the payments.';
GRANT EXECUTE ON FUNCTION lastseat.expire_by_card TO lastseat_worker;

-- Money stands on this account while a processor is asked to move it.
CREATE OR REPLACE FUNCTION lastseat.clearing_account(processor text, currency text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN 'lastseat:clearing:' || processor || ':' || currency;
END $$;
COMMENT ON FUNCTION lastseat.clearing_account IS 'The clearing account of a processor in a currency.

processor: the processor''s name.
currency: the currency.';

CREATE OR REPLACE FUNCTION lastseat.check_form_arg(name text, value jsonb, form text)
RETURNS void
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF jsonb_typeof(value) = 'string' AND value #>> '{}' ~ form THEN
        RETURN;
    END IF;
    RAISE EXCEPTION '"%" is %', name,
        CASE WHEN value IS NULL OR value = 'null' THEN 'missing' ELSE left(value::text, 50) END
        USING ERRCODE = 'LS002', COLUMN = name, HINT = 'It is text that matches ' || form || '.';
END $$;
COMMENT ON FUNCTION lastseat.check_form_arg IS 'Refuses an argument that is not text of a certain form.

name: the argument''s name, for the message.
value: the argument.
form: a regular expression.

Errors: LS002.';

CREATE OR REPLACE FUNCTION lastseat.check_payment_charge(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('payment.charge', args, '{key,payment,from,to,amount,currency,processor,method}');
    PERFORM check_id_arg('payment', args -> 'payment');
    PERFORM check_form_arg('processor', args -> 'processor', '^[a-z][a-z0-9_]{0,39}$');
    PERFORM check_form_arg('method', args -> 'method', '^[!-~]{1,200}$');
    PERFORM check_transfer_args(args);
END $$;
COMMENT ON FUNCTION lastseat.check_payment_charge IS
'Refuses arguments that a payment.charge can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

-- The first payment by card of a processor in a currency opens its clearing account. It can't go below zero: what
-- leaves it has come before.
CREATE OR REPLACE FUNCTION lastseat.open_clearing_account(processor text, currency text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    clearing CONSTANT text := clearing_account(processor, currency);
BEGIN
    IF NOT EXISTS (SELECT FROM accounts a WHERE a.id = clearing) THEN
        INSERT INTO accounts (id, currency) VALUES (clearing, open_clearing_account.currency)
        ON CONFLICT (id) DO NOTHING;
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.open_clearing_account IS
'Opens the clearing account of a processor in a currency, if there is none yet.

processor: the processor''s name.
currency: the currency.';

CREATE OR REPLACE FUNCTION lastseat.begin_payment_charge(key text, args jsonb, asked timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    known payments;
BEGIN
    PERFORM open_clearing_account(args ->> 'processor', args ->> 'currency');
    INSERT INTO payments (id, key, from_account, to_account, amount, currency, processor, method, expires_at)
    VALUES (args ->> 'payment', begin_payment_charge.key, args ->> 'from', args ->> 'to',
            (args ->> 'amount')::bigint, args ->> 'currency', args ->> 'processor', args ->> 'method',
            asked + interval '168 hours')
    ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        -- A keeper may have removed it in this moment.
        SELECT * INTO known FROM payments p WHERE p.id = args ->> 'payment';
        RAISE EXCEPTION 'payment "%" was asked for %', args ->> 'payment', coalesce('with the key "' || known.key || '"', 'before')
            USING ERRCODE = 'LS001', COLUMN = 'payment',
                  DETAIL = format('It is %s.', coalesce(known.status, 'no longer kept')),
                  HINT = 'A payment is charged once. Take a new id for a new one.';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.begin_payment_charge IS
'Inserts the pending row of payments that a payment.charge request has.

key: the request''s key.
args: its arguments.
asked: when it was asked for.

Errors: LS001 it was asked for before.';

CREATE OR REPLACE FUNCTION lastseat.charge(
    key text, payment text, from_account text, to_account text, amount bigint, currency text, processor text,
    method text
)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.charge', key,
        jsonb_build_object('payment', payment, 'from', from_account, 'to', to_account, 'amount', amount,
                           'currency', currency, 'processor', processor, 'method', method));
END $$;
COMMENT ON FUNCTION lastseat.charge IS
'Asks for a payment by card, in the caller''s transaction: a processor takes the amount, and it moves here when the '
'processor has said so. The row of payments exists immediately, as pending.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
payment: the payment''s id, 1 to 200 characters, used once.
from_account: the account that stands for the processor: how far it is below zero is what the processor owes you.
to_account: the account that is paid.
amount: minor units, 1 or more: 12.50 EUR is 1250.
currency: that of both accounts.
processor: the processor''s name, as your workers know it: stripe.
method: the processor''s token of the card. Never a card''s number.

Errors: LS001 the key was used for something else, or the payment was asked for before; LS002; LS003 no such '
'account.';
GRANT EXECUTE ON FUNCTION lastseat.charge TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.clearing()
RETURNS TABLE (
    account text, currency text, balance bigint, in_flight bigint, payments bigint, since timestamptz, unknown bigint
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT a.id, a.currency, a.balance, coalesce(f.in_flight, 0)::bigint, coalesce(f.payments, 0), f.since,
               coalesce(f.unknown, 0)
        FROM accounts a
        LEFT JOIN (SELECT clearing_account(p.processor, p.currency) AS id, sum(p.in_flight) AS in_flight,
                          count(*) AS payments, min(c.created_at) AS since,
                          count(*) FILTER (WHERE c.last_error IS NOT NULL) AS unknown
                   FROM payments p
                   LEFT JOIN calls c ON c.key = p.calling AND c.ended_at IS NULL
                   WHERE p.calling IS NOT NULL GROUP BY 1) f ON f.id = a.id
        WHERE starts_with(a.id, 'lastseat:clearing:') ORDER BY a.id;
END $$;
COMMENT ON FUNCTION lastseat.clearing IS
'The clearing accounts: what is under way at processors. One row for each processor and currency. When nothing is under '
'way, every balance is 0; balance and in_flight are always equal. since is when the oldest call began that has no answer '
'yet, and unknown how many of the calls have had an unknown answer.';
GRANT EXECUTE ON FUNCTION lastseat.clearing TO lastseat_producer, lastseat_worker, lastseat_viewer;

CREATE OR REPLACE FUNCTION lastseat.check_payment_capture(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('payment.capture', args, '{key,payment,amount}');
    PERFORM check_id_arg('payment', args -> 'payment');
    IF coalesce(args -> 'amount', 'null') <> 'null' THEN
        PERFORM check_amount_arg('amount', args -> 'amount');
    END IF;
    PERFORM check_payment(args ->> 'payment');
END $$;
COMMENT ON FUNCTION lastseat.check_payment_capture IS
'Refuses arguments that a payment.capture can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.canonical_payment_capture(args jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN canonical_amount_args(args);
END $$;
COMMENT ON FUNCTION lastseat.canonical_payment_capture IS
'The arguments of a payment.capture in one spelling.

args: the arguments.';

CREATE OR REPLACE FUNCTION lastseat.capture(key text, payment text, amount bigint DEFAULT NULL)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.capture', key,
        jsonb_strip_nulls(jsonb_build_object('payment', payment, 'amount', amount)));
END $$;
COMMENT ON FUNCTION lastseat.capture IS
'Asks for an authorized payment to be captured, once, in the caller''s transaction.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
payment: the payment''s id.
amount: minor units; null: all of it. The rest is released.

Errors: LS001, LS002, LS003 no such payment.';
GRANT EXECUTE ON FUNCTION lastseat.capture TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.check_payment_void(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('payment.void', args, '{key,payment}');
    PERFORM check_id_arg('payment', args -> 'payment');
    PERFORM check_payment(args ->> 'payment');
END $$;
COMMENT ON FUNCTION lastseat.check_payment_void IS
'Refuses arguments that a payment.void can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.void(key text, payment text)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.void', key, jsonb_build_object('payment', payment));
END $$;
COMMENT ON FUNCTION lastseat.void IS
'Asks for an authorized payment to be voided, in the caller''s transaction: the amount that it holds is released.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
payment: the payment''s id.

Errors: LS001, LS002, LS003 no such payment.';
GRANT EXECUTE ON FUNCTION lastseat.void TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.check_payment_refund(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('payment.refund', args, '{key,payment,amount,reference}');
    PERFORM check_id_arg('payment', args -> 'payment');
    IF coalesce(args -> 'amount', 'null') <> 'null' THEN
        PERFORM check_amount_arg('amount', args -> 'amount');
    END IF;
    IF coalesce(args -> 'reference', 'null') <> 'null' THEN
        PERFORM check_form_arg('reference', args -> 'reference', '^[!-~]{1,200}$');
        IF coalesce(args -> 'amount', 'null') <> 'null' THEN
            RAISE EXCEPTION '"amount" and "reference" are both given' USING ERRCODE = 'LS002', COLUMN = 'amount',
                HINT = 'A late charge is given back whole: leave the amount out.';
        END IF;
    END IF;
    PERFORM check_payment(args ->> 'payment');
END $$;
COMMENT ON FUNCTION lastseat.check_payment_refund IS
'Refuses arguments that a payment.refund can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.canonical_payment_refund(args jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN canonical_amount_args(CASE WHEN args -> 'reference' = 'null' THEN args - 'reference' ELSE args END);
END $$;
COMMENT ON FUNCTION lastseat.canonical_payment_refund IS
'The arguments of a payment.refund in one spelling.

args: the arguments.';

CREATE OR REPLACE FUNCTION lastseat.refund(
    key text, payment text, amount bigint DEFAULT NULL, reference text DEFAULT NULL
)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.refund', key,
        jsonb_strip_nulls(jsonb_build_object('payment', payment, 'amount', amount, 'reference', reference)));
END $$;
COMMENT ON FUNCTION lastseat.refund IS
'Asks for a captured payment to be refunded, at once or in parts, in the caller''s transaction.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
payment: the payment''s id.
amount: minor units; null: what is left.
reference: the processor''s id of a charge that it has made after the payment was given up here: all of that is given '
'back, without an amount. Or null.

Errors: LS001, LS002, LS003 no such payment.';
GRANT EXECUTE ON FUNCTION lastseat.refund TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.payment(id text)
RETURNS TABLE (
    status text, from_account text, to_account text, amount bigint, amount_captured bigint, amount_refunded bigint,
    currency text, expires_at timestamptz, version bigint, key text, created_at timestamptz, updated_at timestamptz,
    processor text, reference text, calling text
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT p.status, p.from_account, p.to_account, p.amount, p.amount_captured, p.amount_refunded,
                        p.currency,
                        p.expires_at, p.version, p.key, p.created_at, p.updated_at, p.processor, p.reference,
                        p.calling
                 FROM payments p WHERE p.id = payment.id;
END $$;
COMMENT ON FUNCTION lastseat.payment IS 'A payment as it is now: one row, or none. Amounts in minor units.

id: the payment''s id.';
GRANT EXECUTE ON FUNCTION lastseat.payment TO lastseat_producer, lastseat_worker, lastseat_viewer;
