-- What almost every request looks like. Where a function here says yes, all checks of requests.sql and arguments.sql
-- would pass, and the arguments have one spelling: those who ask need not call them one by one. Where it says no, they
-- decide, and their errors say what is wrong. So a rule may be narrower here, and never wider.
--
-- These are SQL functions of one expression, neither SECURITY DEFINER nor with settings, so that Postgres puts the
-- expression into the caller's: 17 calls of functions cost more than the two rows of a request. Only our own functions
-- may call them, and those have a search_path of their own.

CREATE OR REPLACE FUNCTION lastseat.plain_name(name text)
RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT char_length(name) BETWEEN 1 AND 200 AND name !~ '[^!-~]'
$$;
COMMENT ON FUNCTION lastseat.plain_name IS 'Whether a key or an id is printable ASCII of an allowed length.

name: the key or id.';

CREATE OR REPLACE FUNCTION lastseat.plain_key(key text)
RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT lastseat.plain_name(key) AND NOT starts_with(key, 'river_job:') AND NOT starts_with(key, 'lastseat:')
$$;
COMMENT ON FUNCTION lastseat.plain_key IS 'Whether a key is a plain name that is not reserved for the worker.

key: the key.';

CREATE OR REPLACE FUNCTION lastseat.plain_args(kind text, args jsonb)
RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN kind = 'payment.transfer' AND jsonb_typeof(args) = 'object' THEN
           coalesce(args - '{from,to,amount,currency}'::text[] = '{}'
                    AND jsonb_typeof(args -> 'from') = 'string' AND lastseat.plain_name(args ->> 'from')
                    AND jsonb_typeof(args -> 'to') = 'string' AND lastseat.plain_name(args ->> 'to')
                    AND args ->> 'from' <> args ->> 'to'
                    AND NOT starts_with(args ->> 'from', 'lastseat:') AND NOT starts_with(args ->> 'to', 'lastseat:')
                    AND jsonb_typeof(args -> 'amount') = 'number' AND args ->> 'amount' ~ '^[1-9][0-9]{0,17}$'
                    AND jsonb_typeof(args -> 'currency') = 'string', false)
           ELSE false END
$$;
COMMENT ON FUNCTION lastseat.plain_args IS
'Whether these are all the arguments of a transfer and no others, each of them plain. Whether the accounts and the '
'currency exist is still to be seen.

kind: the request''s kind.
args: its arguments.';

CREATE OR REPLACE FUNCTION lastseat.mark_of(kind text, args jsonb)
RETURNS bytea
LANGUAGE sql STABLE AS $$ -- as convert_to is: otherwise it would be called
    SELECT sha256(convert_to(kind || ' ' || args::text, 'UTF8'))
$$;
COMMENT ON FUNCTION lastseat.mark_of IS 'SHA-256 of a kind and of arguments that have one spelling and no key.

kind: the request''s kind.
args: the arguments.';
