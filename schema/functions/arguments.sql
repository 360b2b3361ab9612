-- Arguments as they arrive in JSON: the same rules for every kind that has such an argument. The worker checks jobs
-- that bypassed the SQL functions by the same rules (jobs/args.go); a conformance test keeps both the same.

CREATE OR REPLACE FUNCTION lastseat.check_known_args(kind text, args jsonb, known text[])
RETURNS void
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF args - known <> '{}' THEN
        RAISE EXCEPTION '% has no argument "%"', kind, (SELECT min(name) FROM jsonb_object_keys(args - known) name)
            USING ERRCODE = 'LS002', COLUMN = (SELECT min(name) FROM jsonb_object_keys(args - known) name),
                  HINT = 'Its arguments are ' || array_to_string(known, ', ') || '.';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_known_args IS 'Refuses an argument that the kind does not have.

kind: the kind, for the message.
args: the arguments.
known: the names of its arguments.

Errors: LS002.';

-- Printable ASCII is let pass by the regular expression; the tables of names.sql are for the rest. jobs/args.go has the
-- same (internal/naming), to the letter.
CREATE OR REPLACE FUNCTION lastseat.name_fault(name text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    seen  int4multirange;
    code  integer;
    place integer;
BEGIN
    IF name !~ '[^!-~]' OR name IS NULL THEN
        RETURN NULL;
    END IF;
    seen := visible_characters();
    SELECT ascii(c.letter), c.place INTO code, place
    FROM string_to_table(name, NULL) WITH ORDINALITY AS c(letter, place)
    WHERE NOT (seen @> ascii(c.letter) OR ascii(c.letter) IN (32, 12288) OR marks_characters() @> ascii(c.letter))
    ORDER BY c.place LIMIT 1;
    IF FOUND THEN
        RETURN format('has U+%s as character %s',
            CASE WHEN code < 65536 THEN lpad(upper(to_hex(code)), 4, '0') ELSE upper(to_hex(code)) END, place)
            || CASE WHEN place > 1 THEN format(', after "%s"', right(left(name, place - 1), 20)) ELSE '' END;
    ELSIF NOT EXISTS (SELECT FROM string_to_table(name, NULL) AS letter WHERE seen @> ascii(letter)) THEN
        RETURN 'has nothing in it that can be seen';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.name_fault IS
'What is wrong with the characters of a key or an id; null: nothing. Letters, digits, punctuation and symbols that can '
'be seen are allowed, the marks on them, and the spaces U+0020 and U+3000; at least one has to be no space. Not allowed '
'are control, formatting, invisible, private and unassigned characters (of Unicode 15), and U+FFFD. For the worker.

name: the key or id.';
GRANT EXECUTE ON FUNCTION lastseat.name_fault TO lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.check_name(what text, name text)
RETURNS void
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF name ~ '[^!-~]' AND name_fault(name) IS NOT NULL THEN
        RAISE EXCEPTION '% %', what, name_fault(name)
            USING ERRCODE = 'LS002', COLUMN = btrim(what, '"'),
                  HINT = 'Keys and ids hold letters, digits, punctuation, symbols and spaces (U+0020), and no character '
                         'that can''t be seen.';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_name IS 'Refuses a key or an id with characters that it can''t have.

what: what it is, for the message.
name: the key or id.

Errors: LS002.';

CREATE OR REPLACE FUNCTION lastseat.check_id_arg(name text, value jsonb)
RETURNS void
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF jsonb_typeof(value) = 'string' AND char_length(value #>> '{}') BETWEEN 1 AND 200 THEN
        IF value #>> '{}' ~ '[^!-~]' THEN
            PERFORM check_name('"' || name || '"', value #>> '{}');
        END IF;
        RETURN;
    END IF;
    RAISE EXCEPTION '"%" is %', name, CASE
            WHEN value IS NULL OR value = 'null' THEN 'missing'
            WHEN value = '""' THEN 'empty'
            WHEN jsonb_typeof(value) = 'string' THEN format('%s characters long', char_length(value #>> '{}'))
            ELSE left(value::text, 50) END
        USING ERRCODE = 'LS002', COLUMN = name, HINT = 'An id is text of 1 to 200 characters.';
END $$;
COMMENT ON FUNCTION lastseat.check_id_arg IS 'Refuses an argument that is not an id.

name: the argument''s name, for the message.
value: the argument.

Errors: LS002.';

CREATE OR REPLACE FUNCTION lastseat.check_amount_arg(name text, value jsonb)
RETURNS void
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF jsonb_typeof(value) = 'number' AND value #>> '{}' ~ '^[0-9]{1,19}$'
       AND (value #>> '{}')::numeric BETWEEN 1 AND 9223372036854775807 THEN
        RETURN;
    END IF;
    RAISE EXCEPTION '"%" is %', name,
        CASE WHEN value IS NULL OR value = 'null' THEN 'missing' ELSE left(value::text, 50) END
        USING ERRCODE = 'LS002', COLUMN = name,
              HINT = 'An amount is a whole number of minor units, from 1 to 9223372036854775807: 12.50 EUR is 1250.';
END $$;
COMMENT ON FUNCTION lastseat.check_amount_arg IS 'Refuses an argument that is not an amount.

name: the argument''s name, for the message.
value: the argument.

Errors: LS002.';

CREATE OR REPLACE FUNCTION lastseat.check_quantity_arg(name text, value jsonb, whole boolean)
RETURNS void
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF value IS NULL OR value = 'null' THEN
        RETURN; -- 1
    ELSIF jsonb_typeof(value) = 'number' AND value #>> '{}' ~ '^[0-9]{1,19}$'
          AND (value #>> '{}')::numeric BETWEEN 1 AND 9223372036854775807 AND NOT (whole AND value <> '1') THEN
        RETURN;
    END IF;
    RAISE EXCEPTION '"%" is %', name, left(value::text, 50)
        USING ERRCODE = 'LS002', COLUMN = name,
              HINT = CASE WHEN whole THEN 'A time range takes the resource as a whole: leave the quantity out.'
                      ELSE 'A quantity is a whole number, from 1.' END;
END $$;
COMMENT ON FUNCTION lastseat.check_quantity_arg IS 'Refuses an argument that is not a quantity.

name: the argument''s name, for the message.
value: the argument.
whole: true: the item has a time range, so only 1 is allowed.

Errors: LS002.';

-- No text constant in a function holds a backslash, except those of the form E'...': what a backslash means in the
-- others depends on the caller's standard_conforming_strings.

-- Microseconds, like Go: the rest is cut off, where a cast would round. Z is written as an offset, because the letter
-- is one of the session's timezone_abbreviations.
CREATE OR REPLACE FUNCTION lastseat.time_of(value text)
RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN replace(upper(regexp_replace(value, '([.][0-9]{6})[0-9]+', E'\\1')), 'Z', '+00')::timestamptz;
END $$;
COMMENT ON FUNCTION lastseat.time_of IS 'The time that an RFC 3339 text stands for, cut off after microseconds.

value: the text.';

-- RFC 3339 with its offset, so that nothing depends on the session's time zone or date style. In the years 2 to 9999,
-- of UTC: beyond them other languages, JSON included, have no such time or take it for none.
CREATE OR REPLACE FUNCTION lastseat.read_time(value text)
RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    at timestamptz;
BEGIN
    IF value ~ ('^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]'
                '([.][0-9]{1,9})?([Zz]|[+-](0[0-9]|1[0-4]):[0-5][0-9])$') THEN
        at := time_of(value);
        IF at >= '0002-01-01 00:00:00+00' AND at < '10000-01-01 00:00:00+00' THEN
            RETURN at;
        END IF;
    END IF;
    RETURN NULL;
EXCEPTION WHEN datetime_field_overflow THEN -- there is no such day
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.read_time IS 'The time that a text stands for; null: it is not a time.

value: the text.';

CREATE OR REPLACE FUNCTION lastseat.check_time_arg(name text, value jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF value IS NULL OR value = 'null' OR jsonb_typeof(value) = 'string' AND read_time(value #>> '{}') IS NOT NULL THEN
        RETURN;
    END IF;
    RAISE EXCEPTION '"%" is %', name, left(value::text, 50)
        || CASE WHEN value #>> '{}' ~ '^[0-9-]{10}[Tt][0-9:.]+([Zz]|[+-][0-9]{2}:[0-9]{2})$'
        THEN ': there is no such day or hour' ELSE '' END
        USING ERRCODE = 'LS002', COLUMN = name, HINT = 'A time is RFC 3339 with its offset: 2026-11-23T12:00:00Z.';
END $$;
COMMENT ON FUNCTION lastseat.check_time_arg IS 'Refuses an argument that is not a time.

name: the argument''s name, for the message.
value: the argument.

Errors: LS002.';

CREATE OR REPLACE FUNCTION lastseat.time_arg(name text, value timestamptz)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF value IS NULL THEN
        RETURN '{}';
    ELSIF value < '0002-01-01 00:00:00+00' OR value >= '10000-01-01 00:00:00+00' THEN
        -- infinity too; and to_char writes a year before Christ like one after
        RAISE EXCEPTION '"%" is %', name, value USING ERRCODE = 'LS002', COLUMN = name, HINT = 'Give a time, or none.';
    END IF;
    RETURN jsonb_build_object(name, to_char(value AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'));
END $$;
COMMENT ON FUNCTION lastseat.time_arg IS 'A JSON object with one time in RFC 3339; an empty one for null.

name: the argument''s name.
value: the time.

Errors: LS002.';

-- A time range as Postgres writes it, end not included, each time with its offset.
CREATE OR REPLACE FUNCTION lastseat.read_range(value text)
RETURNS tstzrange
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
DECLARE
    range tstzrange;
BEGIN
    IF value ~ during_format() THEN
        -- microseconds, like Go; see time_of
        range := replace(upper(regexp_replace(value, '([.][0-9]{6})[0-9]+', E'\\1', 'g')), 'Z', '+00')::tstzrange;
        IF NOT isempty(range) AND lower(range) >= '0002-01-01 00:00:00+00'
           AND upper(range) < '10000-01-01 00:00:00+00' THEN
            RETURN range;
        END IF;
    END IF;
    RETURN NULL;
EXCEPTION WHEN datetime_field_overflow OR data_exception THEN -- no such day, or the end before the start
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.read_range IS 'The time range that a text stands for; null: it is not a time range.

value: the text.';

CREATE OR REPLACE FUNCTION lastseat.during_arg(name text, value jsonb)
RETURNS tstzrange
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    range tstzrange;
BEGIN
    IF value IS NULL OR value = 'null' THEN
        RETURN NULL;
    ELSIF jsonb_typeof(value) = 'string' THEN
        range := read_range(value #>> '{}');
    END IF;
    IF range IS NULL THEN
        RAISE EXCEPTION '"%" is %', name, left(value::text, 100)
            USING ERRCODE = 'LS002', COLUMN = name,
                  HINT = 'A time range has a start before its end, each with its offset: '
                         '[2026-11-23T10:00:00Z,2026-11-23T11:30:00Z).';
    END IF;
    RETURN range;
END $$;
COMMENT ON FUNCTION lastseat.during_arg IS 'The time range that an argument holds, or null.

name: the argument''s name, for the message.
value: the argument.

Errors: LS002.';

CREATE OR REPLACE FUNCTION lastseat.during_format()
RETURNS text
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN '^[[]"?'
        '[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?)?'
        '([Zz]|[+-](0[0-9]|1[0-4])(:[0-5][0-9])?)'
        '"?, ?"?'
        '[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?)?'
        '([Zz]|[+-](0[0-9]|1[0-4])(:[0-5][0-9])?)'
        '"?[)]$';
END $$;
COMMENT ON FUNCTION lastseat.during_format IS 'The regular expression that a time range in JSON has to match.';
