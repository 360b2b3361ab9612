-- Payments: authorize, capture, void, refund, expire; the reversal of a plain transfer; statements.
--
--   pending -> authorized -> captured        pending -> declined
--              authorized -> voided | expired           refunds never change the status
--
-- The pending row is the business write: it is made in the caller's transaction, with the request.

-- +goose Up

-- No foreign keys to accounts: every producer's check would lock the account's row, and a shop's account is everybody's.
-- An account is never deleted; the functions look before they insert, and the worker before it holds money.
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
    CONSTRAINT payments_two_accounts CHECK (from_account <> to_account),
    CONSTRAINT payments_captured_at_most CHECK (amount_captured <= amount),
    CONSTRAINT payments_refunded_at_most CHECK (amount_refunded <= amount_captured),
    CONSTRAINT payments_captured_has_amount CHECK ((status = 'captured') = (amount_captured > 0))
) WITH (fillfactor = 50); -- each is changed once or twice soon after it was made
-- What the sweep looks for; a payment leaves it when it is settled.
CREATE INDEX payments_expiring ON lastseat.payments (expires_at, id) WHERE status = 'authorized';
COMMENT ON TABLE lastseat.payments IS 'A payment that is authorized first and captured later. Amounts in minor units.';
COMMENT ON COLUMN lastseat.payments.key IS 'The idempotency key of the request that authorizes it.';
COMMENT ON COLUMN lastseat.payments.amount IS 'What is authorized: it is held on from_account until it is captured, voided or expired.';
COMMENT ON COLUMN lastseat.payments.amount_captured IS 'What was captured, once; the rest was released then.';
COMMENT ON COLUMN lastseat.payments.amount_refunded IS 'The sum of all refunds.';
COMMENT ON COLUMN lastseat.payments.expires_at IS 'An authorization that is not captured by then is expired by the worker, within two seconds.';
COMMENT ON COLUMN lastseat.payments.version IS 'Goes up by one with every change: an optimistic lock for ORMs.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_payment_status() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        RAISE EXCEPTION 'payment "%" can''t begin as %', NEW.id, NEW.status
            USING ERRCODE = 'integrity_constraint_violation', TABLE = 'payments', CONSTRAINT = 'payments_state_machine',
                  HINT = 'pending becomes authorized or declined; authorized becomes captured, voided or expired.';
    ELSIF (OLD.status, NEW.status) NOT IN (('pending', 'authorized'), ('pending', 'declined'),
        ('authorized', 'captured'), ('authorized', 'voided'), ('authorized', 'expired')) THEN
        RAISE EXCEPTION 'payment "%" is %: it can''t become %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'integrity_constraint_violation', TABLE = 'payments', CONSTRAINT = 'payments_state_machine',
                  HINT = 'pending becomes authorized or declined; authorized becomes captured, voided or expired.';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER first_status BEFORE INSERT ON lastseat.payments
    FOR EACH ROW WHEN (NEW.status <> 'pending') EXECUTE FUNCTION lastseat.check_payment_status();
CREATE TRIGGER next_status BEFORE UPDATE OF status ON lastseat.payments
    -- here and not in the function alone: a function called for every row is most of what the check costs
    FOR EACH ROW WHEN (OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (('pending', 'authorized'), ('authorized', 'captured'), ('authorized', 'voided')))
    EXECUTE FUNCTION lastseat.check_payment_status();
CREATE TRIGGER fixed BEFORE UPDATE ON lastseat.payments
    FOR EACH ROW WHEN ((OLD.id, OLD.key, OLD.from_account, OLD.to_account, OLD.amount, OLD.currency, OLD.expires_at)
        IS DISTINCT FROM (NEW.id, NEW.key, NEW.from_account, NEW.to_account, NEW.amount, NEW.currency, NEW.expires_at)
        OR NEW.amount_refunded < OLD.amount_refunded OR OLD.amount_captured > 0 AND NEW.amount_captured <> OLD.amount_captured)
    EXECUTE FUNCTION lastseat.refuse_change('What a payment was made with stays; a capture and refunds are not taken back.');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON lastseat.payments
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('Transfers refer to payments for ever.');

-- What nobody asked for but time brought about (an authorization that ran out) is recorded under a key of the worker's
-- own, so that requests tell all that has happened. Ids are 200 characters long at most, and such a key is longer.
ALTER TABLE lastseat.requests DROP CONSTRAINT requests_key_check,
    ADD CONSTRAINT requests_key_check CHECK (char_length(key) BETWEEN 1 AND CASE WHEN starts_with(key, 'lastseat:') THEN 250 ELSE 200 END) NOT VALID;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.check_key(key text) RETURNS void LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF key IS NULL OR key = '' THEN
        RAISE EXCEPTION 'the key is %', CASE WHEN key = '' THEN 'empty' ELSE 'null' END
            USING ERRCODE = 'LS002', HINT = 'A key has 1 to 200 characters.';
    ELSIF starts_with(key, 'river_job:') OR starts_with(key, 'lastseat:') THEN
        RAISE EXCEPTION 'the key "%" begins with %:', left(key, 50), split_part(key, ':', 1)
            USING ERRCODE = 'LS002', HINT = 'Such keys are the worker''s own: they stand for jobs that were inserted without one, and for what has run out.';
    ELSIF char_length(key) > 200 THEN
        RAISE EXCEPTION 'the key "%..." is % characters long', left(key, 20), char_length(key)
            USING ERRCODE = 'LS002', HINT = 'A key has 1 to 200 characters.';
    END IF;
END $$;
-- +goose StatementEnd

-- The time at which something runs out is reckoned from the time of asking. Who asks again, because the first answer was
-- lost, reckons anew and means the same: that time is no part of what makes two requests the same, and the first one's stays.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.fingerprint(kind text, args jsonb) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    -- a job that another client inserted may hold any JSON
    IF jsonb_typeof(args) = 'object' THEN
        args := args - 'key';
        IF kind = 'payment.authorize' THEN
            args := args - 'expires_at';
        END IF;
        IF args @? '$.* ? (@ == null)' OR args -> 'metadata' = '{}' THEN
            args := (SELECT coalesce(jsonb_object_agg(given.key, given.value), '{}') FROM jsonb_each(args) given
                     WHERE given.value <> 'null' AND (given.key, given.value) <> ('metadata', '{}'));
        END IF;
    END IF;
    RETURN sha256(convert_to(kind || ' ' || args::text, 'UTF8'));
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.check_args(kind text, args jsonb) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    CASE
    WHEN kind = 'payment.transfer' THEN
        PERFORM check_known_args(kind, args, '{key,from,to,amount,currency,description,metadata}');
        PERFORM check_transfer_args(args);
    WHEN kind = 'payment.authorize' THEN
        PERFORM check_known_args(kind, args, '{key,payment,from,to,amount,currency,expires_at}');
        PERFORM check_id_arg('payment', args -> 'payment');
        PERFORM check_time_arg('expires_at', args -> 'expires_at');
        PERFORM check_transfer_args(args);
    WHEN kind IN ('payment.capture', 'payment.refund') THEN
        PERFORM check_known_args(kind, args, '{key,payment,amount}');
        PERFORM check_id_arg('payment', args -> 'payment');
        IF coalesce(args -> 'amount', 'null') <> 'null' THEN
            PERFORM check_amount_arg('amount', args -> 'amount');
        END IF;
        PERFORM check_payment(args ->> 'payment');
    WHEN kind = 'payment.void' THEN
        PERFORM check_known_args(kind, args, '{key,payment}');
        PERFORM check_id_arg('payment', args -> 'payment');
        PERFORM check_payment(args ->> 'payment');
    WHEN kind = 'payment.reverse' THEN
        PERFORM check_known_args(kind, args, '{key,transfer}');
        PERFORM check_id_arg('transfer', args -> 'transfer');
        PERFORM check_reversible(args ->> 'transfer');
    WHEN kind LIKE 'payment.%' OR kind LIKE 'reservation.%' OR kind LIKE 'booking.%' THEN
        RAISE EXCEPTION 'there is no kind "%"', kind
            USING ERRCODE = 'LS002', HINT = 'The kinds of this schema version: payment.transfer, authorize, capture, void, refund, reverse. Kinds of your own may not begin with payment., reservation. or booking.';
    ELSE -- a kind of one's own: its handler knows its arguments
    END CASE;
END $$;
-- +goose StatementEnd

-- Microseconds, like Go: what is beyond them is cut off, where a cast would round.
-- +goose StatementBegin
CREATE FUNCTION lastseat.time_of(value text) RETURNS timestamptz LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN regexp_replace(value, '(\.[0-9]{6})[0-9]+', '\1')::timestamptz;
END $$;
-- +goose StatementEnd

-- RFC 3339 with its offset, so that nothing depends on the session's time zone or date style.
-- +goose StatementBegin
CREATE FUNCTION lastseat.check_time_arg(name text, value jsonb) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF value IS NULL OR value = 'null' THEN
        RETURN;
    ELSIF jsonb_typeof(value) = 'string'
          AND value #>> '{}' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$' THEN
        -- in the years 2 to 9999, of UTC: beyond them other languages, JSON included, have no such time or take it for none
        IF time_of(value #>> '{}') >= '0002-01-01 00:00:00Z' AND time_of(value #>> '{}') < '10000-01-01 00:00:00Z' THEN
            RETURN;
        END IF;
    END IF;
    RAISE EXCEPTION '"%" is %', name, left(value::text, 50)
        USING ERRCODE = 'LS002', HINT = 'A time is RFC 3339 with its offset: 2026-11-23T12:00:00Z.';
EXCEPTION WHEN datetime_field_overflow THEN
    RAISE EXCEPTION '"%" is %: there is no such day', name, left(value::text, 50)
        USING ERRCODE = 'LS002', HINT = 'A time is RFC 3339 with its offset: 2026-11-23T12:00:00Z.';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.time_arg(name text, value timestamptz) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF value IS NULL THEN
        RETURN '{}';
    ELSIF value < '0002-01-01 00:00:00Z' OR value >= '10000-01-01 00:00:00Z' THEN -- infinity too; before Christ to_char says no different
        RAISE EXCEPTION '"%" is %', name, value USING ERRCODE = 'LS002', HINT = 'Give a time, or none.';
    END IF;
    RETURN jsonb_build_object(name, to_char(value AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'));
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_payment(id text) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM payments p WHERE p.id = check_payment.id) THEN
        RAISE EXCEPTION 'there is no payment "%"', check_payment.id
            USING ERRCODE = 'LS003', HINT = 'Authorize it first: SELECT lastseat.authorize(...).';
    END IF;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_reversible(transfer_key text) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    asked text;
BEGIN
    SELECT r.kind INTO asked FROM requests r WHERE r.key = transfer_key;
    IF asked = 'payment.transfer' THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'no transfer was asked for with the key "%"%', transfer_key, coalesce(': it is a ' || asked, '')
        USING ERRCODE = 'LS003', HINT = 'A reversal names the key of a payment.transfer request. A captured payment is refunded instead.';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.begin_request(kind text, key text, args jsonb, asked timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    known payments;
BEGIN
    IF kind <> 'payment.authorize' THEN
        RETURN;
    END IF;
    INSERT INTO payments (id, key, from_account, to_account, amount, currency, expires_at)
    VALUES (args ->> 'payment', begin_request.key, args ->> 'from', args ->> 'to', (args ->> 'amount')::bigint, args ->> 'currency',
            -- not 7 days: one of them may have 23 hours where the session is
            coalesce(time_of(args ->> 'expires_at'), asked + interval '168 hours'))
    ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO STRICT known FROM payments p WHERE p.id = args ->> 'payment';
        RAISE EXCEPTION 'payment "%" was asked for with the key "%"', known.id, known.key
            USING ERRCODE = 'LS001', DETAIL = format('It is %s.', known.status), HINT = 'A payment is authorized once. Take a new id for a new one.';
    END IF;
END $$;
-- +goose StatementEnd

-- expires_at is null and not now() + 7 days by default: what is left out is worked out when the request is made.
-- +goose StatementBegin
CREATE FUNCTION lastseat.authorize(key text, payment text, from_account text, to_account text, amount bigint, currency text,
                                   expires_at timestamptz DEFAULT NULL)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.authorize', key,
        jsonb_build_object('payment', payment, 'from', from_account, 'to', to_account, 'amount', amount, 'currency', currency)
        || time_arg('expires_at', expires_at));
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.authorize(text, text, text, text, bigint, text, timestamptz) IS
    'Asks for money to be held for a payment, inside the caller''s transaction. amount in minor units; expires_at null: 7 days from now.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.capture(key text, payment text, amount bigint DEFAULT NULL)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.capture', key, jsonb_strip_nulls(jsonb_build_object('payment', payment, 'amount', amount)));
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.capture(text, text, bigint) IS
    'Asks for an authorized payment to be captured, once, inside the caller''s transaction. amount in minor units, null: the whole; the rest is released.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.void(key text, payment text)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.void', key, jsonb_build_object('payment', payment));
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.void(text, text) IS
    'Asks for an authorized payment to be given up, inside the caller''s transaction: what it holds is released.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.refund(key text, payment text, amount bigint DEFAULT NULL)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.refund', key, jsonb_strip_nulls(jsonb_build_object('payment', payment, 'amount', amount)));
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.refund(text, text, bigint) IS
    'Asks for a captured payment to be paid back, in parts if need be, inside the caller''s transaction. amount in minor units, null: what is left.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.reverse(key text, transfer_key text)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.reverse', key, jsonb_build_object('transfer', transfer_key));
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.reverse(text, text) IS
    'Asks for a plain transfer to be taken back, once, inside the caller''s transaction: the same amount, the other way. transfer_key is the key of its request.';

-- What a service may look at: an account, a payment, a statement.

-- +goose StatementBegin
CREATE FUNCTION lastseat.account(id text)
RETURNS TABLE (currency text, balance bigint, held bigint, overdraft_limit bigint, version bigint, created_at timestamptz, updated_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT a.currency, a.balance, a.held, a.overdraft_limit, a.version, a.created_at, a.updated_at FROM accounts a WHERE a.id = account.id;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.account(text) IS 'An account as it is now: one row, or none. balance - held + overdraft_limit can be spent; overdraft_limit null: without bound. Minor units.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.payment(id text)
RETURNS TABLE (status text, from_account text, to_account text, amount bigint, amount_captured bigint, amount_refunded bigint, currency text,
               expires_at timestamptz, version bigint, key text, created_at timestamptz, updated_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT p.status, p.from_account, p.to_account, p.amount, p.amount_captured, p.amount_refunded, p.currency,
                        p.expires_at, p.version, p.key, p.created_at, p.updated_at
                 FROM payments p WHERE p.id = payment.id;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.payment(text) IS 'A payment as it is now: one row, or none. Amounts in minor units.';

-- The entries of an account are in the order of time: the version at a time is found by bisection, without an index that
-- every entry would have to maintain.
-- +goose StatementBegin
CREATE FUNCTION lastseat.first_entry(account text, at timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    low  bigint := 1;
    high bigint := (SELECT a.entry_count + 1 FROM accounts a WHERE a.id = first_entry.account);
    mid  bigint;
BEGIN
    WHILE low < high LOOP
        mid := (low + high) / 2;
        IF (SELECT e.created_at < first_entry.at FROM entries e WHERE e.account_id = first_entry.account AND e.version = mid) THEN
            low := mid + 1;
        ELSE
            high := mid;
        END IF;
    END LOOP;
    RETURN low;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.statement(account text, "from" timestamptz DEFAULT '-infinity', "to" timestamptz DEFAULT 'infinity',
                                   after_version bigint DEFAULT 0, max_entries bigint DEFAULT NULL)
RETURNS TABLE (version bigint, at timestamptz, amount bigint, balance_after bigint, counterparty text, kind text, key text,
               payment_id text, description text, transfer_id bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    first bigint := 1;
    last  bigint;
BEGIN
    PERFORM check_account(statement.account);
    IF max_entries < 0 THEN
        RAISE EXCEPTION '"max_entries" is %', max_entries USING ERRCODE = 'LS002', HINT = 'Give 0 or more, or null for all.';
    END IF;
    IF statement."from" > '-infinity' THEN
        first := first_entry(statement.account, statement."from");
    END IF;
    IF statement."to" < 'infinity' THEN
        last := first_entry(statement.account, statement."to") - 1;
    ELSE
        last := (SELECT a.entry_count FROM accounts a WHERE a.id = statement.account);
    END IF;
    RETURN QUERY
        SELECT e.version, e.created_at, e.amount, e.balance_after, CASE WHEN e.amount < 0 THEN t.to_account ELSE t.from_account END,
               r.kind, t.key, t.payment_id, t.description, t.id
        FROM entries e JOIN transfers t ON t.id = e.transfer_id LEFT JOIN requests r ON r.key = t.key
        WHERE e.account_id = statement.account AND e.version BETWEEN first AND last AND e.version > coalesce(after_version, 0)
        ORDER BY e.version LIMIT statement.max_entries;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.statement(text, timestamptz, timestamptz, bigint, bigint) IS
    'An account''s entries with the balance after each: from one time (included) to another (not included), after a version, at most so many. Amounts in minor units; negative: taken from the account.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.balance_at(account text, at timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_account(balance_at.account);
    IF balance_at.at IS NULL THEN
        RAISE EXCEPTION 'the time is null' USING ERRCODE = 'LS002', HINT = 'Give a time. The balance now is in lastseat.account.';
    END IF;
    RETURN coalesce((SELECT e.balance_after FROM entries e
                     WHERE e.account_id = balance_at.account AND e.version = first_entry(balance_at.account, balance_at.at) - 1), 0);
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.balance_at(text, timestamptz) IS 'What an account''s balance was just before a time, in minor units.';

GRANT EXECUTE ON FUNCTION
    lastseat.authorize(text, text, text, text, bigint, text, timestamptz),
    lastseat.capture(text, text, bigint), lastseat.void(text, text), lastseat.refund(text, text, bigint), lastseat.reverse(text, text)
TO lastseat_producer, lastseat_worker;
GRANT EXECUTE ON FUNCTION
    lastseat.account(text), lastseat.payment(text), lastseat.statement(text, timestamptz, timestamptz, bigint, bigint), lastseat.balance_at(text, timestamptz)
TO lastseat_producer, lastseat_worker, lastseat_viewer;
GRANT INSERT, UPDATE ON lastseat.payments TO lastseat_worker;

-- +goose Down

-- +goose StatementBegin
DO $$ BEGIN
    IF EXISTS (SELECT FROM lastseat.payments) OR EXISTS (SELECT FROM lastseat.requests WHERE kind = 'payment.reverse') THEN
        RAISE EXCEPTION 'lastseat.payments is not empty: this migration does not take payments away'
            USING HINT = 'Dump it, then DROP SCHEMA lastseat CASCADE, if that is what you want.';
    END IF;
END $$;
-- +goose StatementEnd
DROP FUNCTION lastseat.authorize(text, text, text, text, bigint, text, timestamptz), lastseat.capture(text, text, bigint), lastseat.void(text, text),
    lastseat.refund(text, text, bigint), lastseat.reverse(text, text), lastseat.account(text), lastseat.payment(text),
    lastseat.statement(text, timestamptz, timestamptz, bigint, bigint), lastseat.balance_at(text, timestamptz), lastseat.first_entry(text, timestamptz),
    lastseat.check_time_arg(text, jsonb), lastseat.time_of(text), lastseat.time_arg(text, timestamptz), lastseat.check_payment(text), lastseat.check_reversible(text);
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.begin_request(kind text, key text, args jsonb, asked timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.check_args(kind text, args jsonb) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    CASE
    WHEN kind = 'payment.transfer' THEN
        PERFORM check_known_args(kind, args, '{key,from,to,amount,currency,description,metadata}');
        PERFORM check_transfer_args(args);
    WHEN kind LIKE 'payment.%' OR kind LIKE 'reservation.%' OR kind LIKE 'booking.%' THEN
        RAISE EXCEPTION 'there is no kind "%"', kind
            USING ERRCODE = 'LS002', HINT = 'The kinds of this schema version: payment.transfer. Kinds of your own may not begin with payment., reservation. or booking.';
    ELSE -- a kind of one's own: its handler knows its arguments
    END CASE;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.fingerprint(kind text, args jsonb) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    -- a job that another client inserted may hold any JSON
    IF jsonb_typeof(args) = 'object' THEN
        args := args - 'key';
        IF args @? '$.* ? (@ == null)' OR args -> 'metadata' = '{}' THEN
            args := (SELECT coalesce(jsonb_object_agg(given.key, given.value), '{}') FROM jsonb_each(args) given
                     WHERE given.value <> 'null' AND (given.key, given.value) <> ('metadata', '{}'));
        END IF;
    END IF;
    RETURN sha256(convert_to(kind || ' ' || args::text, 'UTF8'));
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.check_key(key text) RETURNS void LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF key IS NULL OR key = '' THEN
        RAISE EXCEPTION 'the key is %', CASE WHEN key = '' THEN 'empty' ELSE 'null' END
            USING ERRCODE = 'LS002', HINT = 'A key has 1 to 200 characters.';
    ELSIF starts_with(key, 'river_job:') THEN
        RAISE EXCEPTION 'the key "%" begins with river_job:', left(key, 50)
            USING ERRCODE = 'LS002', HINT = 'Such keys stand for jobs that were inserted without one.';
    ELSIF char_length(key) > 200 THEN
        RAISE EXCEPTION 'the key "%..." is % characters long', left(key, 20), char_length(key)
            USING ERRCODE = 'LS002', HINT = 'A key has 1 to 200 characters.';
    END IF;
END $$;
-- +goose StatementEnd
ALTER TABLE lastseat.requests DROP CONSTRAINT requests_key_check, ADD CONSTRAINT requests_key_check CHECK (char_length(key) BETWEEN 1 AND 200);
DROP TABLE lastseat.payments;
DROP FUNCTION lastseat.check_payment_status();
