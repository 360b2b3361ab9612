-- Two requests are the same if they ask for the same, however they spell it. lastseat.fingerprint (dispatch.sql)
-- compares kinds and arguments, these in one canonical form. A kind whose arguments can be spelled in several ways has
-- a function lastseat.canonical_FAMILY_VERB(args) beside its check; what several kinds share is here. jsonb has done
-- part of it: the order of members, escapes in strings, and exponents of numbers (1e1 is 10).
--
-- These functions see arguments before they are checked, and those of jobs that another client inserted. They never
-- fail: what is invalid stays as it is.

-- The text is changed, not the tree: arguments may be nested deeper than a recursive function can go. Strings are
-- matched first and put back as they are.
CREATE OR REPLACE FUNCTION lastseat.canonical_numbers(value jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF value::text !~ '[.][0-9]*0' THEN
        RETURN value;
    END IF;
    RETURN regexp_replace(value::text,
        E'("(?:[^"\\\\]|\\\\.)*")|([0-9]+)[.]0+(?![0-9])|([0-9]+[.][0-9]*[1-9])0+(?![0-9])', E'\\1\\2\\3', 'g')::jsonb;
END $$;
COMMENT ON FUNCTION lastseat.canonical_numbers IS 'JSON with its numbers by value: 1.50 becomes 1.5.

value: the JSON.';

-- An empty description says what none says, and so does empty metadata.
CREATE OR REPLACE FUNCTION lastseat.canonical_transfer_args(args jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF args -> 'description' IN ('null', '""') THEN
        args := args - 'description';
    END IF;
    IF args -> 'metadata' IN ('null', '{}') THEN
        RETURN args - 'metadata';
    ELSIF args ? 'metadata' THEN
        RETURN args || jsonb_build_object('metadata', canonical_numbers(args -> 'metadata'));
    END IF;
    RETURN args;
END $$;
COMMENT ON FUNCTION lastseat.canonical_transfer_args IS
'Arguments of which an empty description or empty metadata is left out.

args: the arguments.';

-- A hold has a row of its own, whose expiry is computed from the time of the call. A caller who lost the first answer
-- and retries computes another time and means the same request, so expires_at is no part of it, and the first one is
-- kept.
-- The items are a set in which one may be there several times.
CREATE OR REPLACE FUNCTION lastseat.canonical_hold_args(args jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    args := args - 'expires_at';
    IF args -> 'customer' = 'null' THEN
        args := args - 'customer';
    END IF;
    IF args -> 'wait' IN ('null', 'false') THEN
        args := args - 'wait';
    END IF;
    IF jsonb_typeof(args -> 'items') = 'array' AND args -> 'items' <> '[]' THEN
        -- One query for all items, as in check_hold_args.
        args := args || (SELECT jsonb_build_object('items', jsonb_agg(asked.item ORDER BY asked.item::text COLLATE "C"))
            FROM (SELECT CASE WHEN jsonb_typeof(value) <> 'object' THEN value ELSE value
                      - ARRAY[CASE WHEN value -> 'quantity' IN ('1', 'null') THEN 'quantity' END,
                              CASE WHEN value -> 'during' = 'null' THEN 'during' END]
                      || CASE WHEN jsonb_typeof(value -> 'during') = 'string'
                         THEN jsonb_build_object('during', canonical_range(value ->> 'during')) ELSE '{}' END END AS item
                  FROM jsonb_array_elements(args -> 'items')) asked);
    END IF;
    RETURN args;
END $$;
COMMENT ON FUNCTION lastseat.canonical_hold_args IS
'Arguments without expires_at, with the items in one order and spelling, and without what means the same if it is '
'left out.

args: the arguments.';

CREATE OR REPLACE FUNCTION lastseat.canonical_range(value text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
BEGIN
    RETURN coalesce(read_range(value)::text, value);
END $$;
COMMENT ON FUNCTION lastseat.canonical_range IS 'A time range in one spelling; text that is none as it is.

value: the text.';

CREATE OR REPLACE FUNCTION lastseat.canonical_amount_args(args jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN CASE WHEN args -> 'amount' = 'null' THEN args - 'amount' ELSE args END;
END $$;
COMMENT ON FUNCTION lastseat.canonical_amount_args IS 'Arguments of which an amount that is null is left out.

args: the arguments.';
