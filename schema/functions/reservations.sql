-- Reservations: hold, confirm, cancel, extend; and booking.book, which reserves and pays. Each kind has its check
-- of the arguments beside the function that asks for it.

CREATE OR REPLACE FUNCTION lastseat.check_hold_args(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    item jsonb;
    n    integer := 0;
    bad  text;
BEGIN
    PERFORM check_id_arg('reservation', args -> 'reservation');
    IF coalesce(args -> 'customer', 'null') <> 'null' THEN
        PERFORM check_id_arg('customer', args -> 'customer');
    END IF;
    PERFORM check_time_arg('expires_at', args -> 'expires_at');
    IF jsonb_typeof(coalesce(args -> 'wait', 'null')) NOT IN ('boolean', 'null') THEN
        RAISE EXCEPTION '"wait" is %', left((args -> 'wait')::text, 50)
            USING ERRCODE = 'LS002', COLUMN = 'wait', HINT = 'It is true or false.';
    ELSIF jsonb_typeof(args -> 'items') IS DISTINCT FROM 'array' OR args -> 'items' = '[]' THEN
        RAISE EXCEPTION '"items" is %', CASE
                WHEN coalesce(args -> 'items', 'null') = 'null' THEN 'missing'
                ELSE left((args -> 'items')::text, 50) END
            USING ERRCODE = 'LS002', COLUMN = 'items',
                  HINT = 'Items are a list of at least one: [{"resource": "seat/A1", "quantity": 1}].';
    END IF;
    -- One query for all items: a function call for each would be most of the cost of a long stay. Items that this
    -- query can't pass are looked at one by one, to tell what is wrong.
    IF EXISTS (SELECT FROM jsonb_array_elements(args -> 'items') AS asked(item)
               WHERE (jsonb_typeof(asked.item) = 'object' AND asked.item - '{resource,quantity}'::text[] = '{}'
                      AND jsonb_typeof(asked.item -> 'resource') = 'string'
                      AND char_length(asked.item ->> 'resource') BETWEEN 1 AND 200
                      AND (asked.item -> 'quantity' IS NULL
                           OR jsonb_typeof(asked.item -> 'quantity') = 'number'
                              AND asked.item ->> 'quantity' ~ '^[1-9][0-9]{0,17}$')
                     ) IS NOT TRUE) THEN
        FOR item IN SELECT value FROM jsonb_array_elements(args -> 'items') LOOP
            n := n + 1;
            IF jsonb_typeof(item) <> 'object' THEN
                RAISE EXCEPTION 'item % is %', n, left(item::text, 50)
                    USING ERRCODE = 'LS002', COLUMN = format('item %s', n),
                          HINT = 'An item is an object: {"resource": "seat/A1", "quantity": 1}.';
            END IF;
            PERFORM check_known_args(format('item %s', n), item, '{resource,quantity,during}');
            PERFORM check_id_arg(format('resource of item %s', n), item -> 'resource');
            PERFORM check_quantity_arg(format('quantity of item %s', n), item -> 'quantity',
                coalesce(item -> 'during', 'null') <> 'null');
            PERFORM during_arg(format('during of item %s', n), item -> 'during');
        END LOOP;
    END IF;
    IF args -> 'wait' = 'true' AND jsonb_array_length(args -> 'items') > 1 THEN
        PERFORM check_items_fit(args -> 'items');
    END IF;
    SELECT asked.value ->> 'resource' INTO bad
    FROM jsonb_array_elements(args -> 'items') WITH ORDINALITY AS asked(value, place)
    WHERE NOT EXISTS (SELECT FROM resources r WHERE r.id = asked.value ->> 'resource') ORDER BY asked.place LIMIT 1;
    IF FOUND THEN
        PERFORM check_id_arg(format('resource of item %s', asked.place), asked.value -> 'resource')
        FROM jsonb_array_elements(args -> 'items') WITH ORDINALITY AS asked(value, place);
        RAISE EXCEPTION 'there is no resource "%"', bad
            USING ERRCODE = 'LS003', COLUMN = 'items',
                  HINT = format('Define it first: SELECT lastseat.define_resource(%L, 1).', bad);
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_hold_args IS 'Refuses invalid items, customer, expires_at or wait.

args: the arguments.

Errors: LS002, LS003.';

-- What is sold out now may be free later. But a time can't be taken twice by one reservation, whoever else gives up
-- theirs, and no resource has more than a bigint. If two ranges overlap, then two that follow one another by their
-- starts do.
CREATE OR REPLACE FUNCTION lastseat.check_items_fit(items jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    bad record;
BEGIN
    SELECT least(pair.place, pair.next) AS one, greatest(pair.place, pair.next) AS other, pair.resource INTO bad
    FROM (SELECT i.place, i.resource, i.during, lead(i.place) OVER line AS next, lead(i.during) OVER line AS next_during
          FROM (SELECT asked.place, asked.item ->> 'resource' AS resource,
                       during_arg('during', asked.item -> 'during') AS during
                FROM jsonb_array_elements(items) WITH ORDINALITY AS asked(item, place)) i
          WHERE i.during IS NOT NULL
          WINDOW line AS (PARTITION BY i.resource ORDER BY lower(i.during), i.place)) pair
    WHERE pair.during && pair.next_during ORDER BY 2, 1 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'items % and % take "%" at times that overlap', bad.one, bad.other, bad.resource
            USING ERRCODE = 'LS002', COLUMN = 'items',
                  HINT = 'A hold that waits for both would wait for ever: leave one out.';
    END IF;
    SELECT asked.item ->> 'resource' AS resource, sum(coalesce((asked.item ->> 'quantity')::numeric, 1)) AS total
    INTO bad
    FROM jsonb_array_elements(items) AS asked(item)
    WHERE coalesce(asked.item -> 'during', 'null') = 'null'
    GROUP BY 1 HAVING sum(coalesce((asked.item ->> 'quantity')::numeric, 1)) > 9223372036854775807 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the items ask for % of "%"', bad.total, bad.resource
            USING ERRCODE = 'LS002', COLUMN = 'items',
                  HINT = 'A hold that waits for more than 9223372036854775807 of a resource would wait for ever.';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_items_fit IS
'Refuses items that can never be taken together, whatever becomes free and however much is added.

items: the items of a hold that waits.

Errors: LS002.';

CREATE OR REPLACE FUNCTION lastseat.begin_reservation(key text, args jsonb, asked timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    known reservations;
BEGIN
    INSERT INTO reservations (id, key, customer, expires_at)
    VALUES (args ->> 'reservation', begin_reservation.key, args ->> 'customer',
            coalesce(time_of(args ->> 'expires_at'), asked + interval '15 minutes'))
    ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        -- A keeper may have removed it in this moment.
        SELECT * INTO known FROM reservations r WHERE r.id = args ->> 'reservation';
        RAISE EXCEPTION 'reservation "%" was asked for %', args ->> 'reservation', coalesce('with the key "' || known.key || '"', 'before')
            USING ERRCODE = 'LS001', COLUMN = 'reservation',
                  DETAIL = format('It is %s.', coalesce(known.status, 'no longer kept')),
                  HINT = 'A reservation is held once. Take a new id for a new one.';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.begin_reservation IS
'Inserts the pending row of reservations that a hold or a booking has.

key: the request''s key.
args: its arguments.
asked: the time from which the default expiry counts.

Errors: LS001 it was asked for before.';

CREATE OR REPLACE FUNCTION lastseat.check_reservation_hold(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('reservation.hold', args, '{key,reservation,items,expires_at,customer,wait}');
    PERFORM check_hold_args(args);
END $$;
COMMENT ON FUNCTION lastseat.check_reservation_hold IS
'Refuses arguments that a reservation.hold can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.begin_reservation_hold(key text, args jsonb, asked timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM begin_reservation(key, args, asked);
END $$;
COMMENT ON FUNCTION lastseat.begin_reservation_hold IS
'Inserts the pending row of reservations that a reservation.hold request has.

key: the request''s key.
args: its arguments.
asked: the time from which the default expiry counts.

Errors: LS001 it was asked for before.';

CREATE OR REPLACE FUNCTION lastseat.canonical_reservation_hold(args jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN canonical_hold_args(args);
END $$;
COMMENT ON FUNCTION lastseat.canonical_reservation_hold IS
'The arguments of a reservation.hold in one spelling.

args: the arguments.';

-- expires_at defaults to null and not to now() + 15 minutes: the default counts from the time of the request.
CREATE OR REPLACE FUNCTION lastseat.hold(
    key text, reservation text, items jsonb, expires_at timestamptz DEFAULT NULL, customer text DEFAULT NULL,
    wait boolean DEFAULT false
)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('reservation.hold', key, jsonb_build_object('reservation', reservation, 'items', items)
        || time_arg('expires_at', expires_at)
        || CASE WHEN customer IS NULL THEN '{}' ELSE jsonb_build_object('customer', customer) END
        || CASE WHEN wait THEN '{"wait": true}'::jsonb ELSE '{}' END);
END $$;
COMMENT ON FUNCTION lastseat.hold IS
'Asks for resources to be held, all of the items or none, in the caller''s transaction. The row of reservations exists '
'immediately, as pending.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
reservation: the reservation''s id, 1 to 200 characters, used once.
items: a JSON array of {"resource", "quantity", "during"}: quantity defaults to 1; during, a time range, takes the '
'whole resource.
expires_at: when the hold is released unless it is confirmed; null: 15 minutes after the request. A retry may send a '
'different expires_at; the first one is kept.
customer: the customer, for limits; or null.
wait: true: if something is sold out, wait in line for it, until expires_at. Then the items may not take one resource '
'at times that overlap: they would wait for ever.

Errors: LS001 the key was used for something else, or the reservation was asked for before; LS002; LS003 no such '
'resource; LS004.';
GRANT EXECUTE ON FUNCTION lastseat.hold TO lastseat_producer, lastseat_worker;

-- One that was removed was there: a repeated request is a duplicate still, and a new one is the worker's to reject.
CREATE OR REPLACE FUNCTION lastseat.check_reservation(id text)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM reservations r WHERE r.id = check_reservation.id)
       AND NOT EXISTS (SELECT FROM removed_ids g WHERE g.what = 'reservations' AND g.id = check_reservation.id) THEN
        RAISE EXCEPTION 'there is no reservation "%"', check_reservation.id
            USING ERRCODE = 'LS003', COLUMN = 'reservation', HINT = 'Hold it first: SELECT lastseat.hold(...).';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_reservation IS 'Refuses a reservation that has never existed.

id: the reservation''s id.

Errors: LS003.';

CREATE OR REPLACE FUNCTION lastseat.check_reservation_confirm(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('reservation.confirm', args, '{key,reservation}');
    PERFORM check_id_arg('reservation', args -> 'reservation');
    PERFORM check_reservation(args ->> 'reservation');
END $$;
COMMENT ON FUNCTION lastseat.check_reservation_confirm IS
'Refuses arguments that a reservation.confirm can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.confirm(key text, reservation text)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('reservation.confirm', key, jsonb_build_object('reservation', reservation));
END $$;
COMMENT ON FUNCTION lastseat.confirm IS
'Asks for a hold to be confirmed, in the caller''s transaction: it no longer expires.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
reservation: the reservation''s id.

Errors: LS001, LS002, LS003 no such reservation.';
GRANT EXECUTE ON FUNCTION lastseat.confirm TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.check_reservation_cancel(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('reservation.cancel', args, '{key,reservation}');
    PERFORM check_id_arg('reservation', args -> 'reservation');
    PERFORM check_reservation(args ->> 'reservation');
END $$;
COMMENT ON FUNCTION lastseat.check_reservation_cancel IS
'Refuses arguments that a reservation.cancel can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.cancel(key text, reservation text)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('reservation.cancel', key, jsonb_build_object('reservation', reservation));
END $$;
COMMENT ON FUNCTION lastseat.cancel IS
'Asks for a reservation that is held, confirmed or waiting to be cancelled, in the caller''s transaction.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
reservation: the reservation''s id.

Errors: LS001, LS002, LS003 no such reservation.';
GRANT EXECUTE ON FUNCTION lastseat.cancel TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.check_reservation_extend(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('reservation.extend', args, '{key,reservation,expires_at}');
    PERFORM check_id_arg('reservation', args -> 'reservation');
    IF coalesce(args -> 'expires_at', 'null') = 'null' THEN
        RAISE EXCEPTION '"expires_at" is missing'
            USING ERRCODE = 'LS002', COLUMN = 'expires_at',
                  HINT = 'A time is RFC 3339 with its offset: 2026-11-23T12:00:00Z.';
    END IF;
    PERFORM check_time_arg('expires_at', args -> 'expires_at');
    PERFORM check_reservation(args ->> 'reservation');
END $$;
COMMENT ON FUNCTION lastseat.check_reservation_extend IS
'Refuses arguments that a reservation.extend can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.canonical_reservation_extend(args jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN args || time_arg('expires_at', CASE WHEN jsonb_typeof(args -> 'expires_at') = 'string'
                                             THEN read_time(args ->> 'expires_at') END);
END $$;
COMMENT ON FUNCTION lastseat.canonical_reservation_extend IS
'The arguments of a reservation.extend in one spelling.

args: the arguments.';

CREATE OR REPLACE FUNCTION lastseat.extend(key text, reservation text, expires_at timestamptz)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('reservation.extend', key,
        jsonb_build_object('reservation', reservation) || time_arg('expires_at', expires_at));
END $$;
COMMENT ON FUNCTION lastseat.extend IS
'Changes when a hold, or a reservation that waits, expires: asks for it in the caller''s transaction.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
reservation: the reservation''s id.
expires_at: the new time.

Errors: LS001, LS002, LS003 no such reservation.';
GRANT EXECUTE ON FUNCTION lastseat.extend TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.check_booking_book(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('booking.book', args,
        '{key,reservation,items,expires_at,customer,from,to,amount,currency,description,metadata}');
    PERFORM check_hold_args(args);
    PERFORM check_transfer_args(args);
END $$;
COMMENT ON FUNCTION lastseat.check_booking_book IS
'Refuses arguments that a booking.book can''t have, or that name something that does not exist.

args: the arguments.

Errors: LS002, LS003.';

CREATE OR REPLACE FUNCTION lastseat.begin_booking_book(key text, args jsonb, asked timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM begin_reservation(key, args, asked);
END $$;
COMMENT ON FUNCTION lastseat.begin_booking_book IS
'Inserts the pending row of reservations that a booking.book request has.

key: the request''s key.
args: its arguments.
asked: the time from which the default expiry counts.

Errors: LS001 it was asked for before.';

CREATE OR REPLACE FUNCTION lastseat.canonical_booking_book(args jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN canonical_transfer_args(canonical_hold_args(args));
END $$;
COMMENT ON FUNCTION lastseat.canonical_booking_book IS
'The arguments of a booking.book in one spelling.

args: the arguments.';

CREATE OR REPLACE FUNCTION lastseat.book(
    key text, reservation text, items jsonb, from_account text, to_account text, amount bigint, currency text,
    customer text DEFAULT NULL, description text DEFAULT NULL, metadata jsonb DEFAULT '{}'
)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('booking.book', key,
        jsonb_build_object('reservation', reservation, 'items', items, 'from', from_account, 'to', to_account,
                           'amount', amount, 'currency', currency)
        || CASE WHEN customer IS NULL THEN '{}' ELSE jsonb_build_object('customer', customer) END
        || CASE WHEN description IS NULL THEN '{}' ELSE jsonb_build_object('description', description) END
        || CASE WHEN coalesce(metadata, '{}') = '{}' THEN '{}' ELSE jsonb_build_object('metadata', metadata) END);
END $$;
COMMENT ON FUNCTION lastseat.book IS
'Asks for resources and their payment, both or neither, in the caller''s transaction. The reservation is confirmed '
'when the money moves.

key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
reservation: the reservation''s id, 1 to 200 characters, used once.
items: as for hold.
from_account: the account that pays.
to_account: the account that is paid.
amount: minor units, 1 or more: 12.50 EUR is 1250.
currency: that of both accounts.
customer: the customer, for limits; or null.
description: the text that a statement shows; or null.
metadata: a JSON object of your own: kept, never read.

Errors: LS001, LS002, LS003 no such resource or account, LS004.';
GRANT EXECUTE ON FUNCTION lastseat.book TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.reservation(id text)
RETURNS TABLE (
    status text, customer text, expires_at timestamptz, items jsonb, version bigint, key text, created_at
    timestamptz, updated_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO' AS $$ -- time ranges as text
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT r.status, r.customer, r.expires_at,
        coalesce((SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('resource', i.resource_id,
                             'quantity', i.quantity, 'during', i.during)) ORDER BY i.position)
                  FROM reservation_items i WHERE i.reservation_id = r.id), '[]'),
        r.version, r.key, r.created_at, r.updated_at
    FROM reservations r WHERE r.id = reservation.id;
END $$;
COMMENT ON FUNCTION lastseat.reservation IS
'A reservation as it is now: one row, or none. It has items once it was held, or waits.

id: the reservation''s id.';
GRANT EXECUTE ON FUNCTION lastseat.reservation TO lastseat_producer, lastseat_worker, lastseat_viewer;
