-- What almost every request looks like. Where a function here says yes, all checks of requests.sql and arguments.sql
-- would pass, and the arguments have one spelling: those who ask need not call them one by one. Where it says no, they
-- decide, and their errors say what is wrong. So a rule may be narrower here, and never wider.
--
-- These are SQL functions of one expression, neither SECURITY DEFINER nor with settings, so that Postgres puts the
-- expression into the caller's: 17 calls of functions cost more than the two rows of a request. Only our own functions
-- may call them, and those have a search_path of their own.

CREATE OR REPLACE FUNCTION lastseat.plain_key(key text)
RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT octet_length(key) BETWEEN 1 AND 200 AND key !~ '[^!-~]'
           AND NOT starts_with(key, 'river_job:') AND NOT starts_with(key, 'lastseat:')
$$;
COMMENT ON FUNCTION lastseat.plain_key IS
'Whether a key is printable ASCII of an allowed length, and not reserved for the worker.

key: the key.';

CREATE OR REPLACE FUNCTION lastseat.plain_accounts(from_account text, to_account text)
RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT from_account <> to_account
           AND NOT starts_with(from_account, 'lastseat:') AND NOT starts_with(to_account, 'lastseat:')
$$;
COMMENT ON FUNCTION lastseat.plain_accounts IS
'Whether money can move between two accounts, if they exist.

from_account: the one account.
to_account: the other one.';

CREATE OR REPLACE FUNCTION lastseat.plain_args(kind text, args jsonb)
RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN kind = 'payment.transfer' AND jsonb_typeof(args) = 'object' THEN
           coalesce(args - '{from,to,amount,currency}'::text[] = '{}'
                    AND jsonb_typeof(args -> 'from') = 'string' AND jsonb_typeof(args -> 'to') = 'string'
                    AND jsonb_typeof(args -> 'currency') = 'string' AND jsonb_typeof(args -> 'amount') = 'number'
                    AND args ->> 'amount' ~ '^[1-9][0-9]*$' AND octet_length(args ->> 'amount') <= 18
                    AND octet_length(args ->> 'from') <= 200 AND octet_length(args ->> 'to') <= 200
                    AND octet_length(args ->> 'currency') <= 12
                    AND lastseat.plain_accounts(args ->> 'from', args ->> 'to'), false)
           ELSE false END
$$;
COMMENT ON FUNCTION lastseat.plain_args IS
'Whether these are all the arguments of a transfer and no others, each of them plain. Whether the accounts exist, and '
'the one that pays has the currency, is still to be seen: if so, their ids are valid.

kind: the request''s kind.
args: its arguments.';

CREATE OR REPLACE FUNCTION lastseat.trace_metadata()
RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN octet_length(current_setting('lastseat.traceparent', true)) = 55
                     AND current_setting('lastseat.traceparent', true)
                         ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
                THEN jsonb_build_object('traceparent', current_setting('lastseat.traceparent', true)) ELSE '{}' END
$$;
COMMENT ON FUNCTION lastseat.trace_metadata IS
'The metadata of a job: the trace of its request, for a worker''s spans, if the session has set one.';

CREATE OR REPLACE FUNCTION lastseat.mark_of(kind text, args jsonb)
RETURNS bytea
LANGUAGE sql STABLE AS $$ -- as convert_to is: otherwise it would be called
    SELECT sha256(convert_to(kind || ' ' || args::text, 'UTF8'))
$$;
COMMENT ON FUNCTION lastseat.mark_of IS 'SHA-256 of a kind and of arguments that have one spelling and no key.

kind: the request''s kind.
args: the arguments.';
