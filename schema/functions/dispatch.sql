-- Finds the functions of a kind by their names: a kind payment.transfer has lastseat.check_payment_transfer(args),
-- which checks its arguments; if it makes a row of its own, lastseat.begin_payment_transfer(key, args, asked); and if
-- its arguments can be spelled in several ways, lastseat.canonical_payment_transfer(args), which returns one of them.
-- Whoever adds a kind adds these functions to the file of its family, and nothing here.
--
-- The names are looked up when the set is put in place, not with every call. EXECUTE by name plans a statement each
-- time and made lastseat.transfer measurably slower (docs/decisions/006). So this file runs after all the others.

DO $dispatch$
DECLARE
    checks text;
    begins text;
    forms  text;
    kinds  text;
BEGIN
    SELECT string_agg(format(E'    WHEN %L THEN\n        PERFORM %I(args);', kind, proname), E'\n'),
           string_agg(kind, ', ')
    INTO checks, kinds
    FROM (SELECT proname, regexp_replace(proname, '^check_([a-z]+)_', '\1.') AS kind
          FROM pg_proc
          WHERE pronamespace = 'lastseat'::regnamespace AND proname ~ '^check_(payment|reservation|booking)_'
            AND pg_get_function_identity_arguments(oid) = 'args jsonb' ORDER BY proname) found;

    SELECT string_agg(format(E'    WHEN %L THEN\n        PERFORM %I(key, args, asked);', kind, proname), E'\n')
    INTO begins
    FROM (SELECT proname, regexp_replace(proname, '^begin_([a-z]+)_', '\1.') AS kind
          FROM pg_proc
          WHERE pronamespace = 'lastseat'::regnamespace AND proname ~ '^begin_(payment|reservation|booking)_'
          ORDER BY proname) found;

    SELECT string_agg(format(E'        WHEN %L THEN\n            args := %I(args);', kind, proname), E'\n')
    INTO forms
    FROM (SELECT proname, regexp_replace(proname, '^canonical_([a-z]+)_', '\1.') AS kind
          FROM pg_proc
          WHERE pronamespace = 'lastseat'::regnamespace AND proname ~ '^canonical_(payment|reservation|booking)_'
          ORDER BY proname) found;

    EXECUTE format($template$
CREATE OR REPLACE FUNCTION lastseat.check_args(kind text, args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $function$
BEGIN
    CASE kind
%1$s
    ELSE -- a kind of somebody's own, whose handler knows its arguments
        PERFORM check_name('the kind', kind);
        IF kind ~ '^(payment|reservation|booking)[.]' THEN
            RAISE EXCEPTION 'there is no kind "%%"', kind USING ERRCODE = 'LS002', COLUMN = 'kind', HINT = %2$L;
        END IF;
    END CASE;
END $function$
$template$, checks, 'The kinds are ' || kinds
        || '. Kinds of your own may not begin with payment., reservation. or booking.');

    EXECUTE format($template$
CREATE OR REPLACE FUNCTION lastseat.begin_request(kind text, key text, args jsonb, asked timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $function$
BEGIN
    CASE kind
%1$s
    ELSE -- no row of its own
    END CASE;
END $function$
$template$, begins);

    EXECUTE format($template$
CREATE OR REPLACE FUNCTION lastseat.fingerprint(kind text, args jsonb)
RETURNS bytea
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $function$
BEGIN
    IF jsonb_typeof(args) = 'object' THEN -- a job that another client inserted may hold any JSON
        args := args - 'key';
        CASE kind
%1$s
        ELSE -- arguments that have one spelling, or those of somebody's own kind: a null says what an absent one says
            IF args @? '$.* ? (@ == null)' OR args -> 'metadata' = '{}' THEN
                args := (SELECT coalesce(jsonb_object_agg(given.key, given.value), '{}') FROM jsonb_each(args) given
                         WHERE given.value <> 'null' AND (given.key, given.value) <> ('metadata', '{}'));
            END IF;
        END CASE;
    END IF;
    RETURN mark_of(kind, args);
END $function$
$template$, forms);
END $dispatch$;

COMMENT ON FUNCTION lastseat.fingerprint IS
'SHA-256 of a request''s kind and of what its arguments ask for: equal for two requests that ask for the same, however '
'they spell it. It leaves out the key, and the expires_at of a payment.authorize, reservation.hold or booking.book. '
'Of your own kinds it leaves out arguments that are null, and compares the others as JSON. For the worker.

kind: the request''s kind.
args: its arguments.';
GRANT EXECUTE ON FUNCTION lastseat.fingerprint TO lastseat_worker;

COMMENT ON FUNCTION lastseat.check_args IS
'Refuses arguments that a kind does not have, or that name something that does not exist.

kind: the kind.
args: the arguments.

Errors: LS002, LS003.';

COMMENT ON FUNCTION lastseat.begin_request IS
'Inserts the row of its own that a request may have: a pending payment or reservation.

kind: the request''s kind.
key: its key.
args: its arguments.
asked: the time from which the default expiry counts.

Errors: LS001 it was asked for before.';
