-- Accounts: open one, look at it, read its statement.

CREATE OR REPLACE FUNCTION lastseat.open_account(
    id text, currency text, overdraft_limit bigint DEFAULT 0, if_missing boolean DEFAULT false
)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known accounts;
    gone  date;
BEGIN
    IF open_account.id IS NULL OR char_length(open_account.id) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'the account id is %', CASE
            WHEN open_account.id IS NULL THEN 'null' WHEN open_account.id = '' THEN 'empty'
            ELSE format('%s characters long', char_length(open_account.id)) END
            USING ERRCODE = 'LS002', HINT = 'An account id has 1 to 200 characters.';
    END IF;
    PERFORM check_name('the account id', open_account.id);
    IF starts_with(open_account.id, 'lastseat:') THEN
        RAISE EXCEPTION 'the account id "%" begins with lastseat:', left(open_account.id, 50)
            USING ERRCODE = 'LS002', HINT = 'Such accounts are the worker''s own: money under way at a processor.';
    END IF;
    IF open_account.overdraft_limit < 0 THEN
        RAISE EXCEPTION 'the overdraft limit of account "%" is %', open_account.id, open_account.overdraft_limit
            USING ERRCODE = 'LS002', HINT = 'A limit is 0 or more minor units; null means unbounded.';
    END IF;
    PERFORM check_currency(open_account.currency);
    SELECT c.withdrawn INTO gone FROM currencies c
    WHERE c.code = open_account.currency AND c.withdrawn <= (now() AT TIME ZONE 'UTC')::date;
    IF FOUND AND NOT EXISTS (SELECT FROM accounts a WHERE a.id = open_account.id) THEN
        RAISE EXCEPTION 'the currency "%" was withdrawn on %', open_account.currency, to_char(gone, 'YYYY-MM-DD')
            USING ERRCODE = 'LS002',
                  HINT = 'Accounts that are open in it pay and are paid as before. To open new ones, '
                         'define it: SELECT lastseat.define_currency(...).';
    END IF;

    INSERT INTO accounts (id, currency, overdraft_limit)
    VALUES (open_account.id, open_account.currency, open_account.overdraft_limit)
    ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO STRICT known FROM accounts a WHERE a.id = open_account.id;
        IF NOT open_account.if_missing AND (
            known.currency <> open_account.currency
            OR known.overdraft_limit IS DISTINCT FROM open_account.overdraft_limit
        ) THEN
            RAISE EXCEPTION 'account "%" is open already, in % with an overdraft limit of %',
                known.id, known.currency, coalesce(known.overdraft_limit::text, 'null (unbounded)')
                USING ERRCODE = 'LS001', HINT = 'Take another id, or open it with the same currency and limit again.';
        END IF;
        RETURN ROW(known.id, 'account.open', 'applied', true)::receipt;
    END IF;
    RETURN ROW(open_account.id, 'account.open', 'applied', false)::receipt;
END $$;
COMMENT ON FUNCTION lastseat.open_account IS 'Opens an account immediately, in the caller''s transaction.

id: the account''s id, 1 to 200 characters.
currency: its code, in upper case: EUR, or one that was defined.
overdraft_limit: how far below zero it may go, in minor units; null: no limit.
if_missing: true: leave an account that is open already as it is, whatever its currency and limit.

Errors: LS001 it is open with another currency or limit; LS002.';
GRANT EXECUTE ON FUNCTION lastseat.open_account TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.check_currency(code text)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF code IS NULL OR NOT EXISTS (SELECT FROM currencies c WHERE c.code = check_currency.code) THEN
        RAISE EXCEPTION 'the currency is %', coalesce('"' || code || '"', 'null')
            USING ERRCODE = 'LS002', COLUMN = 'currency',
                  HINT = 'A currency is an ISO 4217 code in upper case: EUR, USD, JPY; or one that you '
                         'define: SELECT lastseat.define_currency(''POINTS'', 0).';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_currency IS 'Refuses a code that is no currency here.

code: the currency.

Errors: LS002.';

CREATE OR REPLACE FUNCTION lastseat.define_currency(code text, digits integer)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known currencies;
BEGIN
    IF define_currency.code IS NULL OR define_currency.code !~ '^[A-Z][A-Z0-9]{2,11}$'
       OR define_currency.code IN ('XXX', 'XTS') THEN
        RAISE EXCEPTION 'the currency is %', coalesce('"' || left(define_currency.code, 50) || '"', 'null')
            USING ERRCODE = 'LS002',
                  HINT = 'A code has 3 to 12 capital letters and digits, a letter first: POINTS. XXX and XTS mean none.';
    ELSIF define_currency.digits IS NULL OR define_currency.digits NOT BETWEEN 0 AND 18 THEN
        RAISE EXCEPTION 'the currency "%" has % digits', define_currency.code,
            coalesce(define_currency.digits::text, 'null')
            USING ERRCODE = 'LS002', HINT = 'How many decimals it has, 0 to 18: with 2, an amount of 1250 is 12.50.';
    END IF;
    INSERT INTO currencies (code, minor_units) VALUES (define_currency.code, define_currency.digits)
    ON CONFLICT (code) DO NOTHING;
    IF FOUND THEN
        RETURN ROW(define_currency.code, 'currency.define', 'applied', false)::receipt;
    END IF;
    SELECT * INTO STRICT known FROM currencies c WHERE c.code = define_currency.code;
    IF known.minor_units <> define_currency.digits THEN
        RAISE EXCEPTION 'the currency "%" has % digits', known.code, known.minor_units
            USING ERRCODE = 'LS001', HINT = 'Amounts are in its minor units, so they stay. Define another currency.';
    ELSIF known.withdrawn IS NULL THEN
        RETURN ROW(known.code, 'currency.define', 'applied', true)::receipt;
    END IF;
    UPDATE currencies c SET withdrawn = NULL WHERE c.code = known.code AND c.withdrawn IS NOT NULL;
    RETURN ROW(known.code, 'currency.define', 'applied', NOT FOUND)::receipt;
END $$;
COMMENT ON FUNCTION lastseat.define_currency IS
'Defines a currency that accounts can have, immediately, in the caller''s transaction: points, tokens, a code that is '
'newer than this release. One that was withdrawn is in use again.

code: 3 to 12 capital letters and digits, a letter first; not XXX or XTS.
digits: its decimals, 0 to 18: with 2, an amount of 1250 is 12.50. An amount is at most 9223372036854775807, so 18 '
'leaves no more than 9.2 of it.

Errors: LS001 it is there with other digits; LS002.';
GRANT EXECUTE ON FUNCTION lastseat.define_currency TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.currency(code text)
RETURNS TABLE (digits integer, withdrawn date)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT c.minor_units::integer, c.withdrawn FROM currencies c WHERE c.code = currency.code;
END $$;
COMMENT ON FUNCTION lastseat.currency IS
'A currency: one row, or none. Its decimals, and from which day on no account is opened in it; null: it is in use.

code: the currency''s code.';
GRANT EXECUTE ON FUNCTION lastseat.currency TO lastseat_producer, lastseat_worker, lastseat_viewer;

CREATE OR REPLACE FUNCTION lastseat.check_account(id text, field text DEFAULT 'account')
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM accounts a WHERE a.id = check_account.id) THEN
        RAISE EXCEPTION 'there is no account "%"', check_account.id
            USING ERRCODE = 'LS003', COLUMN = field,
                  HINT = format('Open it first: SELECT lastseat.open_account(%L, ''EUR'').', check_account.id);
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_account IS 'Refuses an account that does not exist.

id: the account''s id.
field: the argument''s name.

Errors: LS003.';

CREATE OR REPLACE FUNCTION lastseat.account(id text)
RETURNS TABLE (
    currency text, balance bigint, held bigint, overdraft_limit bigint, version bigint, created_at timestamptz,
    updated_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT a.currency, a.balance, a.held, a.overdraft_limit, a.version, a.created_at, a.updated_at
        FROM accounts a WHERE a.id = account.id;
END $$;
COMMENT ON FUNCTION lastseat.account IS
'An account as it is now: one row, or none. The available amount is balance - held + overdraft_limit; overdraft_limit '
'null: no limit. Minor units.

id: the account''s id.';
GRANT EXECUTE ON FUNCTION lastseat.account TO lastseat_producer, lastseat_worker, lastseat_viewer;

-- An account's entries are in the order of time, so a binary search finds the version at a time, without an index
-- that every entry would have to maintain. Up to the last closing entries may be missing.
CREATE OR REPLACE FUNCTION lastseat.first_entry(account text, at timestamptz)
RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    low  bigint := 1 + coalesce((SELECT max(c.version) FROM closings c WHERE c.account_id = first_entry.account), 0);
    high bigint := (SELECT a.entry_count + 1 FROM accounts a WHERE a.id = first_entry.account);
    mid  bigint;
BEGIN
    WHILE low < high LOOP
        mid := (low + high) / 2;
        IF (SELECT e.created_at < first_entry.at FROM entries e
            WHERE e.account_id = first_entry.account AND e.version = mid) THEN
            low := mid + 1;
        ELSE
            high := mid;
        END IF;
    END LOOP;
    RETURN low;
END $$;
COMMENT ON FUNCTION lastseat.first_entry IS 'The version of an account''s first entry at or after a time, of those that are not closed.

account: the account''s id.
at: the time.';

CREATE OR REPLACE FUNCTION lastseat.statement(
    account text, "from" timestamptz DEFAULT '-infinity', "to" timestamptz DEFAULT 'infinity',
    after_version bigint DEFAULT 0, max_entries bigint DEFAULT NULL
)
RETURNS TABLE (
    version bigint, at timestamptz, amount bigint, balance_after bigint, counterparty text, kind text, key text,
    payment_id text, description text, transfer_id bigint
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    first bigint := 1 + coalesce((SELECT max(c.version) FROM closings c WHERE c.account_id = statement.account), 0);
    last  bigint;
BEGIN
    PERFORM check_account(statement.account);
    IF max_entries < 0 THEN
        RAISE EXCEPTION '"max_entries" is %', max_entries
            USING ERRCODE = 'LS002', HINT = 'Give 0 or more, or null for all.';
    ELSIF after_version > 0 AND after_version < first - 1 THEN
        RAISE EXCEPTION 'account "%" is closed up to entry %: some entries after % are no longer shown', statement.account,
            first - 1, after_version
            USING ERRCODE = 'LS002', COLUMN = 'after_version',
                  HINT = 'Begin again without it. lastseat.closing says what the account had when it was closed.';
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
        SELECT e.version, e.created_at, e.amount, e.balance_after,
               CASE WHEN e.amount < 0 THEN t.to_account ELSE t.from_account END,
               r.kind, t.key, t.payment_id, t.description, t.id
        FROM entries e JOIN transfers t ON t.id = e.transfer_id LEFT JOIN requests r ON r.key = t.key
        WHERE e.account_id = statement.account AND e.version BETWEEN first AND last
          AND e.version > coalesce(after_version, 0)
        ORDER BY e.version LIMIT statement.max_entries;
END $$;
COMMENT ON FUNCTION lastseat.statement IS
'An account''s entries in their order, with the balance after each. Amounts in minor units; negative: taken from the '
'account. They begin after the last entry that was closed: lastseat.closing says which, and what the account had then.

account: the account''s id.
from: from this time, included.
to: to this time, not included.
after_version: only entries after this one: the version of the last row of the previous page.
max_entries: at most so many; null: all.

Errors: LS002, also for an after_version after which entries were closed; LS003 no such account.';
GRANT EXECUTE ON FUNCTION lastseat.statement TO lastseat_producer, lastseat_worker, lastseat_viewer;

CREATE OR REPLACE FUNCTION lastseat.balance_at(account text, at timestamptz)
RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    last    record;
    goes_to bigint;
BEGIN
    PERFORM check_account(balance_at.account);
    IF balance_at.at IS NULL THEN
        RAISE EXCEPTION 'the time is null'
            USING ERRCODE = 'LS002', HINT = 'Give a time. The balance now is in lastseat.account.';
    END IF;
    SELECT * INTO last FROM closing(balance_at.account);
    IF balance_at.at <= last.through THEN
        RAISE EXCEPTION 'account "%" is closed up to %', balance_at.account,
            to_char(last.through AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            USING ERRCODE = 'LS002', COLUMN = 'at',
                  HINT = 'Its older entries are no longer kept. Give a time after that.';
    END IF;
    goes_to := first_entry(balance_at.account, balance_at.at) - 1;
    RETURN coalesce((SELECT e.balance_after FROM entries e
                     WHERE e.account_id = balance_at.account AND e.version = goes_to),
                    CASE WHEN goes_to = last.version THEN last.balance END, 0);
END $$;
COMMENT ON FUNCTION lastseat.balance_at IS 'An account''s balance just before a time, in minor units.

account: the account''s id.
at: the time.

Errors: LS002, also for a time up to which the account is closed; LS003 no such account.';
GRANT EXECUTE ON FUNCTION lastseat.balance_at TO lastseat_producer, lastseat_worker, lastseat_viewer;

CREATE OR REPLACE FUNCTION lastseat.closing(account text)
RETURNS TABLE (version bigint, balance bigint, through timestamptz, closed_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT c.version, c.balance, c.through, c.closed_at FROM closings c
        WHERE c.account_id = closing.account ORDER BY c.version DESC LIMIT 1;
END $$;
COMMENT ON FUNCTION lastseat.closing IS
'Where an account was last closed: one row, or none. Its entries up to that version are no longer shown, and may be '
'gone; the account had that balance then, and its statement goes on from there. Minor units. through: when the last of '
'these entries was settled.

account: the account''s id.';
GRANT EXECUTE ON FUNCTION lastseat.closing TO lastseat_producer, lastseat_worker, lastseat_viewer;
