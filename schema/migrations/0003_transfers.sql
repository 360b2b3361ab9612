-- payment.transfer: the doors to open an account and to ask for a transfer, and the rules of a transfer's arguments.
-- The worker holds jobs that came by another way to the same rules (jobs/transfer.go); a conformance test keeps them one.

-- +goose Up

-- +goose StatementBegin
CREATE FUNCTION lastseat.open_account(id text, currency text, overdraft_limit bigint DEFAULT 0, if_missing boolean DEFAULT false)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known accounts;
BEGIN
    IF open_account.id IS NULL OR char_length(open_account.id) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'the account id is %', CASE WHEN open_account.id IS NULL THEN 'null' WHEN open_account.id = '' THEN 'empty'
            ELSE format('%s characters long', char_length(open_account.id)) END
            USING ERRCODE = 'LS002', HINT = 'An account id has 1 to 200 characters.';
    END IF;
    IF open_account.overdraft_limit < 0 THEN
        RAISE EXCEPTION 'the overdraft limit of account "%" is %', open_account.id, open_account.overdraft_limit
            USING ERRCODE = 'LS002', HINT = 'A limit is 0 or more minor units; null means unbounded.';
    END IF;
    PERFORM check_currency(open_account.currency);

    INSERT INTO accounts (id, currency, overdraft_limit)
    VALUES (open_account.id, open_account.currency, open_account.overdraft_limit)
    ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO STRICT known FROM accounts a WHERE a.id = open_account.id;
        IF NOT open_account.if_missing AND (known.currency <> open_account.currency OR known.overdraft_limit IS DISTINCT FROM open_account.overdraft_limit) THEN
            RAISE EXCEPTION 'account "%" is open already, in % with an overdraft limit of %', known.id, known.currency, coalesce(known.overdraft_limit::text, 'null (unbounded)')
                USING ERRCODE = 'LS001', HINT = 'Take another id, or open it with the same currency and limit again.';
        END IF;
        RETURN ROW(known.id, 'account.open', 'applied', true)::receipt;
    END IF;
    RETURN ROW(open_account.id, 'account.open', 'applied', false)::receipt;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.open_account(text, text, bigint, boolean) IS
    'Opens an account at once, in the caller''s transaction. overdraft_limit in minor units, null: unbounded. An open account with the same currency and limit is a duplicate; with others it is error LS001, unless if_missing.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_currency(code text) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF code IS NULL OR NOT EXISTS (SELECT FROM currencies c WHERE c.code = check_currency.code) THEN
        RAISE EXCEPTION 'the currency is %', coalesce('"' || code || '"', 'null')
            USING ERRCODE = 'LS002', HINT = 'A currency is an active ISO 4217 code in upper case: EUR, USD, JPY.';
    END IF;
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
CREATE FUNCTION lastseat.check_known_args(kind text, args jsonb, known text[]) RETURNS void LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF args - known <> '{}' THEN
        RAISE EXCEPTION '% has no argument "%"', kind, (SELECT min(name) FROM jsonb_object_keys(args - known) name)
            USING ERRCODE = 'LS002', HINT = 'Its arguments are ' || array_to_string(known, ', ') || '.';
    END IF;
END $$;
-- +goose StatementEnd

-- Text, numbers and objects as they arrive in JSON; the same rules for every kind that has such an argument.
-- +goose StatementBegin
CREATE FUNCTION lastseat.check_id_arg(name text, value jsonb) RETURNS void LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF jsonb_typeof(value) = 'string' AND char_length(value #>> '{}') BETWEEN 1 AND 200 THEN
        RETURN;
    END IF;
    RAISE EXCEPTION '"%" is %', name, CASE WHEN value IS NULL OR value = 'null' THEN 'missing' WHEN value = '""' THEN 'empty'
        WHEN jsonb_typeof(value) = 'string' THEN format('%s characters long', char_length(value #>> '{}')) ELSE left(value::text, 50) END
        USING ERRCODE = 'LS002', HINT = 'An id is text of 1 to 200 characters.';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_amount_arg(name text, value jsonb) RETURNS void LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF jsonb_typeof(value) = 'number' AND value #>> '{}' ~ '^[0-9]{1,19}$' AND (value #>> '{}')::numeric BETWEEN 1 AND 9223372036854775807 THEN
        RETURN;
    END IF;
    RAISE EXCEPTION '"%" is %', name, CASE WHEN value IS NULL OR value = 'null' THEN 'missing' ELSE left(value::text, 50) END
        USING ERRCODE = 'LS002', HINT = 'An amount is a whole number of minor units, from 1 to 9223372036854775807: 12.50 EUR is 1250.';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_account(id text) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM accounts a WHERE a.id = check_account.id) THEN
        RAISE EXCEPTION 'there is no account "%"', check_account.id
            USING ERRCODE = 'LS003', HINT = format('Open it first: SELECT lastseat.open_account(%L, ''EUR'').', check_account.id);
    END IF;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_transfer_args(args jsonb) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_id_arg('from', args -> 'from');
    PERFORM check_id_arg('to', args -> 'to');
    PERFORM check_amount_arg('amount', args -> 'amount');
    PERFORM check_currency(args ->> 'currency');
    IF args ->> 'from' = args ->> 'to' THEN
        RAISE EXCEPTION '"from" and "to" are the same account, "%"', args ->> 'from'
            USING ERRCODE = 'LS002', HINT = 'Money moves between two accounts.';
    ELSIF jsonb_typeof(args -> 'description') NOT IN ('string', 'null') THEN
        RAISE EXCEPTION '"description" is %', left(args ->> 'description', 50) USING ERRCODE = 'LS002', HINT = 'A description is text.';
    ELSIF jsonb_typeof(args -> 'metadata') NOT IN ('object', 'null') THEN
        RAISE EXCEPTION '"metadata" is %', left(args ->> 'metadata', 50) USING ERRCODE = 'LS002', HINT = 'Metadata is a JSON object.';
    END IF;
    PERFORM check_account(args ->> 'from');
    PERFORM check_account(args ->> 'to');
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.transfer(key text, from_account text, to_account text, amount bigint, currency text,
                                  description text DEFAULT NULL, metadata jsonb DEFAULT '{}')
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('payment.transfer', key,
        jsonb_build_object('from', from_account, 'to', to_account, 'amount', amount, 'currency', currency)
        || CASE WHEN description IS NULL THEN '{}' ELSE jsonb_build_object('description', description) END
        || CASE WHEN coalesce(metadata, '{}') = '{}' THEN '{}' ELSE jsonb_build_object('metadata', metadata) END);
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.transfer(text, text, text, bigint, text, text, jsonb) IS
    'Asks for money to be moved, inside the caller''s transaction. amount in minor units.';

-- +goose Down

DROP FUNCTION lastseat.transfer(text, text, text, bigint, text, text, jsonb), lastseat.check_transfer_args(jsonb), lastseat.check_account(text),
    lastseat.check_amount_arg(text, jsonb), lastseat.check_id_arg(text, jsonb), lastseat.check_known_args(text, jsonb, text[]),
    lastseat.check_currency(text), lastseat.open_account(text, text, bigint, boolean);
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.check_args(kind text, args jsonb) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
END $$;
-- +goose StatementEnd
