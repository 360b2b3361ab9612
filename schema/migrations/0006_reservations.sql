-- Reservations: hold, confirm, cancel, extend, expire, wait; and booking, which is seats and money or nothing.
--
--   pending -> held -> confirmed -> cancelled
--   pending -> rejected    held -> cancelled | expired
--   pending -> waiting -> held | cancelled | expired      (a hold that asked to wait)
--
-- The pending row is the business write: it is made in the caller's transaction, with the request. Its items are written
-- by the worker, when they are held.

-- +goose Up

CREATE TABLE lastseat.limit_groups (
    id           text COLLATE "C" PRIMARY KEY CHECK (char_length(id) BETWEEN 1 AND 200),
    per_customer bigint CHECK (per_customer >= 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE lastseat.limit_groups IS 'Resources of which one customer may have so many together: the seats of a concert, four each.';
COMMENT ON COLUMN lastseat.limit_groups.per_customer IS 'The sum of the quantities that a customer may hold and have confirmed at a time; null: without bound.';

CREATE TABLE lastseat.resources (
    id          text COLLATE "C" PRIMARY KEY CHECK (char_length(id) BETWEEN 1 AND 200),
    capacity    bigint NOT NULL CHECK (capacity >= 0),
    overbook    bigint NOT NULL DEFAULT 0 CHECK (overbook >= 0),
    held        bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    confirmed   bigint NOT NULL DEFAULT 0 CHECK (confirmed >= 0),
    waiting     bigint NOT NULL DEFAULT 0 CHECK (waiting >= 0),
    limit_group text COLLATE "C" REFERENCES lastseat.limit_groups,
    grown       boolean NOT NULL DEFAULT false,
    version     bigint NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT resources_countable CHECK (capacity <= 9223372036854775807 - overbook),
    CONSTRAINT resources_within_capacity CHECK (held::numeric + confirmed <= capacity + overbook)
) WITH (fillfactor = 70);
CREATE INDEX resources_grown ON lastseat.resources (id) WHERE grown;
CREATE INDEX resources_waiting ON lastseat.resources (limit_group) WHERE waiting > 0 AND limit_group IS NOT NULL;
COMMENT ON TABLE lastseat.resources IS 'What can be reserved: a seat (capacity 1), the rooms of a type on a night, a room by the hour. Rows are changed by the worker, and by define_resource.';
COMMENT ON COLUMN lastseat.resources.overbook IS 'How many more than capacity may be taken.';
COMMENT ON COLUMN lastseat.resources.held IS 'The sum of the quantities of held items. Items with a time range are not counted.';
COMMENT ON COLUMN lastseat.resources.confirmed IS 'The sum of the quantities of confirmed items. Items with a time range are not counted.';
COMMENT ON COLUMN lastseat.resources.waiting IS 'How many items wait for it.';
COMMENT ON COLUMN lastseat.resources.limit_group IS 'The group whose limit for each customer it counts for.';
COMMENT ON COLUMN lastseat.resources.grown IS 'Somebody who waits for it may have it now, since its capacity or a limit has grown: the worker looks who can be granted.';
COMMENT ON COLUMN lastseat.resources.version IS 'Goes up by one with every change: an optimistic lock for ORMs.';
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON lastseat.resources
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('Items refer to resources for ever. Set its capacity to 0.');
CREATE TRIGGER renamed BEFORE UPDATE OF id, limit_group ON lastseat.resources
    FOR EACH ROW WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.limit_group IS DISTINCT FROM NEW.limit_group)
    EXECUTE FUNCTION lastseat.refuse_change('Items refer to the id, and customers are counted by the group. Define another resource.');

CREATE TABLE lastseat.reservations (
    id             text COLLATE "C" PRIMARY KEY CHECK (char_length(id) BETWEEN 1 AND 200),
    key            text COLLATE "C" NOT NULL,
    customer       text COLLATE "C" CHECK (char_length(customer) BETWEEN 1 AND 200),
    status         text COLLATE "C" NOT NULL DEFAULT 'pending'
                   CHECK (status IN ('pending', 'held', 'confirmed', 'cancelled', 'rejected', 'expired', 'waiting')),
    expires_at     timestamptz NOT NULL,
    waiting_number bigint,
    version        bigint NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE INDEX reservations_expiring ON lastseat.reservations (expires_at, id) WHERE status IN ('held', 'waiting');
CREATE INDEX reservations_waiting ON lastseat.reservations (customer) WHERE status = 'waiting' AND customer IS NOT NULL;
COMMENT ON TABLE lastseat.reservations IS 'A reservation of one or more resources, all or nothing.';
COMMENT ON COLUMN lastseat.reservations.key IS 'The idempotency key of the request that holds or books it.';
COMMENT ON COLUMN lastseat.reservations.expires_at IS 'A hold that is not confirmed by then is released by the worker, within two seconds; so is one that waits.';
COMMENT ON COLUMN lastseat.reservations.waiting_number IS 'Its place in the lines that it waits in, or waited in: lower ones come first.';
COMMENT ON COLUMN lastseat.reservations.version IS 'Goes up by one with every change: an optimistic lock for ORMs.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_reservation_status() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        RAISE EXCEPTION 'reservation "%" can''t begin as %', NEW.id, NEW.status
            USING ERRCODE = 'integrity_constraint_violation', TABLE = 'reservations', CONSTRAINT = 'reservations_state_machine',
                  HINT = 'pending becomes held, waiting or rejected; waiting becomes held, cancelled or expired; held becomes confirmed, cancelled or expired; confirmed becomes cancelled.';
    ELSIF (OLD.status, NEW.status) NOT IN (('pending', 'held'), ('pending', 'rejected'), ('pending', 'waiting'),
        ('held', 'confirmed'), ('held', 'cancelled'), ('held', 'expired'), ('confirmed', 'cancelled'),
        ('waiting', 'held'), ('waiting', 'cancelled'), ('waiting', 'expired')) THEN
        RAISE EXCEPTION 'reservation "%" is %: it can''t become %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'integrity_constraint_violation', TABLE = 'reservations', CONSTRAINT = 'reservations_state_machine',
                  HINT = 'pending becomes held, waiting or rejected; waiting becomes held, cancelled or expired; held becomes confirmed, cancelled or expired; confirmed becomes cancelled.';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER first_status BEFORE INSERT ON lastseat.reservations
    FOR EACH ROW WHEN (NEW.status <> 'pending') EXECUTE FUNCTION lastseat.check_reservation_status();
CREATE TRIGGER next_status BEFORE UPDATE OF status ON lastseat.reservations
    -- here and not in the function alone: a function called for every row is most of what the check costs
    FOR EACH ROW WHEN (OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (('pending', 'held'), ('held', 'confirmed'), ('held', 'cancelled'), ('confirmed', 'cancelled')))
    EXECUTE FUNCTION lastseat.check_reservation_status();
CREATE TRIGGER fixed BEFORE UPDATE ON lastseat.reservations
    FOR EACH ROW WHEN ((OLD.id, OLD.key, OLD.customer) IS DISTINCT FROM (NEW.id, NEW.key, NEW.customer)
                       OR OLD.expires_at <> NEW.expires_at AND OLD.status NOT IN ('held', 'waiting'))
    EXECUTE FUNCTION lastseat.refuse_change('What a reservation was made with stays; the time of a hold can be extended.');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON lastseat.reservations
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('Items refer to reservations for ever.');

CREATE TABLE lastseat.reservation_items (
    reservation_id text COLLATE "C" NOT NULL,
    position       integer NOT NULL CHECK (position > 0),
    resource_id    text COLLATE "C" NOT NULL,
    quantity       bigint NOT NULL CHECK (quantity > 0),
    during         tstzrange CHECK (NOT isempty(during) AND lower_inc(during) AND NOT upper_inc(during)),
    occupies       boolean,
    PRIMARY KEY (reservation_id, position),
    CONSTRAINT reservation_items_occupies CHECK ((during IS NULL) = (occupies IS NULL)),
    CONSTRAINT reservation_items_whole CHECK (during IS NULL OR quantity = 1),
    -- "The same resource" for a GiST index without the extension btree_gist: ranges that hold one number, a hash of 63 bits.
    CONSTRAINT reservation_items_overlap EXCLUDE USING gist
        (int8range(hashtextextended(resource_id, 0) >> 1, hashtextextended(resource_id, 0) >> 1, '[]') WITH &&, during WITH &&) WHERE (occupies)
);
COMMENT ON TABLE lastseat.reservation_items IS 'What a reservation consists of; written when it is held, or waits.';
COMMENT ON COLUMN lastseat.reservation_items.position IS '1, 2, 3 ... in the order of the request.';
COMMENT ON COLUMN lastseat.reservation_items.during IS 'The time for which the resource is taken as a whole, half-open, or null: it is counted.';
COMMENT ON COLUMN lastseat.reservation_items.occupies IS 'Whether the time range is taken now: while the reservation is held or confirmed. Null where there is no range.';
CREATE TRIGGER fixed BEFORE UPDATE ON lastseat.reservation_items
    FOR EACH ROW WHEN ((OLD.reservation_id, OLD.position, OLD.resource_id, OLD.quantity, OLD.during)
        IS DISTINCT FROM (NEW.reservation_id, NEW.position, NEW.resource_id, NEW.quantity, NEW.during))
    EXECUTE FUNCTION lastseat.refuse_change('A reservation''s items stay as they were asked for.');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON lastseat.reservation_items
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('A reservation''s items stay as they were asked for.');

CREATE TABLE lastseat.waiting_items (
    resource_id    text COLLATE "C" NOT NULL,
    number         bigint NOT NULL,
    reservation_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (resource_id, number)
);
CREATE SEQUENCE lastseat.waiting_number_seq AS bigint OWNED BY lastseat.reservations.waiting_number;
COMMENT ON TABLE lastseat.waiting_items IS 'Who waits for a resource, in order: a row for each resource of a reservation that waits. Gone when it is granted, cancelled or expired.';
COMMENT ON COLUMN lastseat.waiting_items.number IS 'The reservation''s waiting_number.';

CREATE TABLE lastseat.customer_counts (
    limit_group text COLLATE "C" NOT NULL,
    customer    text COLLATE "C" NOT NULL,
    quantity    bigint NOT NULL CHECK (quantity >= 0),
    version     bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (limit_group, customer)
) WITH (fillfactor = 70);
COMMENT ON TABLE lastseat.customer_counts IS 'What each customer holds and has confirmed of a group: a row to lock, where a count would miss what another transaction adds.';
COMMENT ON COLUMN lastseat.customer_counts.quantity IS 'The sum of the quantities of the customer''s held and confirmed items of the group.';

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.fingerprint(kind text, args jsonb) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    -- a job that another client inserted may hold any JSON
    IF jsonb_typeof(args) = 'object' THEN
        args := args - 'key';
        IF kind IN ('payment.authorize', 'reservation.hold', 'booking.book') THEN
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
    WHEN kind = 'reservation.hold' THEN
        PERFORM check_known_args(kind, args, '{key,reservation,items,expires_at,customer,wait}');
        PERFORM check_hold_args(args);
    WHEN kind IN ('reservation.confirm', 'reservation.cancel') THEN
        PERFORM check_known_args(kind, args, '{key,reservation}');
        PERFORM check_id_arg('reservation', args -> 'reservation');
        PERFORM check_reservation(args ->> 'reservation');
    WHEN kind = 'reservation.extend' THEN
        PERFORM check_known_args(kind, args, '{key,reservation,expires_at}');
        PERFORM check_id_arg('reservation', args -> 'reservation');
        IF coalesce(args -> 'expires_at', 'null') = 'null' THEN
            RAISE EXCEPTION '"expires_at" is missing' USING ERRCODE = 'LS002', HINT = 'A time is RFC 3339 with its offset: 2026-11-23T12:00:00Z.';
        END IF;
        PERFORM check_time_arg('expires_at', args -> 'expires_at');
        PERFORM check_reservation(args ->> 'reservation');
    WHEN kind = 'booking.book' THEN
        PERFORM check_known_args(kind, args, '{key,reservation,items,expires_at,customer,from,to,amount,currency,description,metadata}');
        PERFORM check_hold_args(args);
        PERFORM check_transfer_args(args);
    WHEN kind LIKE 'payment.%' OR kind LIKE 'reservation.%' OR kind LIKE 'booking.%' THEN
        RAISE EXCEPTION 'there is no kind "%"', kind
            USING ERRCODE = 'LS002', HINT = 'The kinds are payment.transfer, authorize, capture, void, refund, reverse; reservation.hold, confirm, cancel, extend; booking.book. Kinds of your own may not begin with payment., reservation. or booking.';
    ELSE -- a kind of one's own: its handler knows its arguments
    END CASE;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_hold_args(args jsonb)
RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
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
        RAISE EXCEPTION '"wait" is %', left((args -> 'wait')::text, 50) USING ERRCODE = 'LS002', HINT = 'It is true or false.';
    ELSIF jsonb_typeof(args -> 'items') IS DISTINCT FROM 'array' OR args -> 'items' = '[]' THEN
        RAISE EXCEPTION '"items" is %', CASE WHEN coalesce(args -> 'items', 'null') = 'null' THEN 'missing' ELSE left((args -> 'items')::text, 50) END
            USING ERRCODE = 'LS002', HINT = 'Items are a list of at least one: [{"resource": "seat/A1", "quantity": 1}].';
    END IF;
    -- All at once: a function called for each item of a long stay is most of what asking costs. What is plainly right needs no
    -- more; the others are looked at one by one, to say what is wrong.
    IF EXISTS (SELECT FROM jsonb_array_elements(args -> 'items') AS asked(item)
               WHERE (jsonb_typeof(asked.item) = 'object' AND asked.item - '{resource,quantity}'::text[] = '{}'
                      AND jsonb_typeof(asked.item -> 'resource') = 'string' AND char_length(asked.item ->> 'resource') BETWEEN 1 AND 200
                      AND (asked.item -> 'quantity' IS NULL OR jsonb_typeof(asked.item -> 'quantity') = 'number' AND asked.item ->> 'quantity' ~ '^[1-9][0-9]{0,17}$')
                     ) IS NOT TRUE) THEN
        FOR item IN SELECT value FROM jsonb_array_elements(args -> 'items') LOOP
            n := n + 1;
            IF jsonb_typeof(item) <> 'object' THEN
                RAISE EXCEPTION 'item % is %', n, left(item::text, 50) USING ERRCODE = 'LS002', HINT = 'An item is an object: {"resource": "seat/A1", "quantity": 1}.';
            END IF;
            PERFORM check_known_args(format('item %s', n), item, '{resource,quantity,during}');
            PERFORM check_id_arg(format('resource of item %s', n), item -> 'resource');
            PERFORM check_quantity_arg(format('quantity of item %s', n), item -> 'quantity', coalesce(item -> 'during', 'null') <> 'null');
            PERFORM during_arg(format('during of item %s', n), item -> 'during');
        END LOOP;
    END IF;
    SELECT asked.value ->> 'resource' INTO bad FROM jsonb_array_elements(args -> 'items') WITH ORDINALITY AS asked(value, place)
    WHERE NOT EXISTS (SELECT FROM resources r WHERE r.id = asked.value ->> 'resource') ORDER BY asked.place LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'there is no resource "%"', bad
            USING ERRCODE = 'LS003', HINT = format('Define it first: SELECT lastseat.define_resource(%L, 1).', bad);
    END IF;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_quantity_arg(name text, value jsonb, whole boolean)
RETURNS void LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF value IS NULL OR value = 'null' THEN
        RETURN; -- 1
    ELSIF jsonb_typeof(value) = 'number' AND value #>> '{}' ~ '^[0-9]{1,19}$' AND (value #>> '{}')::numeric BETWEEN 1 AND 9223372036854775807 AND NOT (whole AND value <> '1') THEN
        RETURN;
    END IF;
    RAISE EXCEPTION '"%" is %', name, left(value::text, 50)
        USING ERRCODE = 'LS002', HINT = CASE WHEN whole THEN 'A time range takes the resource as a whole: leave the quantity out.' ELSE 'A quantity is a whole number, from 1.' END;
END $$;
-- +goose StatementEnd

-- A time range as Postgres writes it, half-open; without an offset a time is UTC.
-- +goose StatementBegin
CREATE FUNCTION lastseat.during_arg(name text, value jsonb)
RETURNS tstzrange LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
DECLARE
    range tstzrange;
BEGIN
    IF value IS NULL OR value = 'null' THEN
        RETURN NULL;
    ELSIF jsonb_typeof(value) = 'string' AND value #>> '{}' ~ during_format() THEN
        range := regexp_replace(value #>> '{}', '(\.[0-9]{6})[0-9]+', '\1', 'g')::tstzrange; -- microseconds, like Go
        IF NOT isempty(range) AND lower(range) >= '0002-01-01 00:00:00Z' AND upper(range) < '10000-01-01 00:00:00Z' THEN
            RETURN range;
        END IF;
    END IF;
    RAISE EXCEPTION '"%" is %', name, left(value::text, 100)
        USING ERRCODE = 'LS002', HINT = 'A time range has a start before its end: [2026-11-23T10:00:00Z,2026-11-23T11:30:00Z).';
EXCEPTION WHEN datetime_field_overflow OR data_exception THEN
    RAISE EXCEPTION '"%" is %', name, left(value::text, 100)
        USING ERRCODE = 'LS002', HINT = 'A time range has a start before its end: [2026-11-23T10:00:00Z,2026-11-23T11:30:00Z).';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.during_format() RETURNS text LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN '^\["?[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?(Z|[+-](0[0-9]|1[0-4])(:[0-5][0-9])?)?"?, ?"?[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?(Z|[+-](0[0-9]|1[0-4])(:[0-5][0-9])?)?"?\)$';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_reservation(id text)
RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM reservations r WHERE r.id = check_reservation.id) THEN
        RAISE EXCEPTION 'there is no reservation "%"', check_reservation.id
            USING ERRCODE = 'LS003', HINT = 'Hold it first: SELECT lastseat.hold(...).';
    END IF;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.check_reversible(transfer_key text) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    asked text;
BEGIN
    SELECT r.kind INTO asked FROM requests r WHERE r.key = transfer_key;
    IF asked IN ('payment.transfer', 'booking.book') THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'no transfer was asked for with the key "%"%', transfer_key, coalesce(': it is a ' || asked, '')
        USING ERRCODE = 'LS003', HINT = 'A reversal names the key of a payment.transfer or booking.book request. A captured payment is refunded instead.';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.begin_request(kind text, key text, args jsonb, asked timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    known record;
BEGIN
    CASE kind
    WHEN 'payment.authorize' THEN
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
    WHEN 'reservation.hold', 'booking.book' THEN
        INSERT INTO reservations (id, key, customer, expires_at)
        VALUES (args ->> 'reservation', begin_request.key, args ->> 'customer', coalesce(time_of(args ->> 'expires_at'), asked + interval '15 minutes'))
        ON CONFLICT (id) DO NOTHING;
        IF NOT FOUND THEN
            SELECT * INTO STRICT known FROM reservations r WHERE r.id = args ->> 'reservation';
            RAISE EXCEPTION 'reservation "%" was asked for with the key "%"', known.id, known.key
                USING ERRCODE = 'LS001', DETAIL = format('It is %s.', known.status), HINT = 'A reservation is held once. Take a new id for a new one.';
        END IF;
    ELSE -- no row of its own
    END CASE;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.define_limit(limit_group text, per_customer bigint)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known limit_groups;
BEGIN
    PERFORM check_id_arg('limit_group', to_jsonb(define_limit.limit_group));
    IF define_limit.per_customer < 0 THEN
        RAISE EXCEPTION 'the limit of group "%" is %', define_limit.limit_group, define_limit.per_customer
            USING ERRCODE = 'LS002', HINT = 'A limit is 0 or more; null means without bound.';
    END IF;
    INSERT INTO limit_groups (id, per_customer) VALUES (define_limit.limit_group, define_limit.per_customer) ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
        RETURN ROW(define_limit.limit_group, 'limit.define', 'applied', false)::receipt;
    END IF;
    SELECT * INTO STRICT known FROM limit_groups g WHERE g.id = define_limit.limit_group FOR NO KEY UPDATE;
    IF known.per_customer IS NOT DISTINCT FROM define_limit.per_customer THEN
        RETURN ROW(known.id, 'limit.define', 'applied', true)::receipt;
    END IF;
    UPDATE limit_groups g SET per_customer = define_limit.per_customer, updated_at = now() WHERE g.id = known.id;
    IF coalesce(define_limit.per_customer > known.per_customer, define_limit.per_customer IS NULL) THEN -- somebody who waits may have more now
        UPDATE resources r SET grown = true, version = r.version + 1, updated_at = now()
        WHERE r.limit_group = known.id AND r.waiting > 0 AND NOT r.grown;
    END IF;
    RETURN ROW(known.id, 'limit.define', 'applied', false)::receipt;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.define_limit(text, bigint) IS
    'Sets how much of a group of resources one customer may hold and have confirmed at a time; null: without bound. At once, in the caller''s transaction. What a customer has already stays.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.define_resource(id text, capacity bigint, overbook bigint DEFAULT 0, limit_group text DEFAULT NULL)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known resources;
BEGIN
    IF define_resource.id IS NULL OR char_length(define_resource.id) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'the resource id is %', CASE WHEN define_resource.id IS NULL THEN 'null' WHEN define_resource.id = '' THEN 'empty'
            ELSE format('%s characters long', char_length(define_resource.id)) END
            USING ERRCODE = 'LS002', HINT = 'A resource id has 1 to 200 characters.';
    ELSIF define_resource.capacity IS NULL OR define_resource.overbook IS NULL OR define_resource.capacity < 0 OR define_resource.overbook < 0
          OR define_resource.capacity > 9223372036854775807 - define_resource.overbook THEN
        RAISE EXCEPTION 'resource "%" has a capacity of % and an overbooking allowance of %', define_resource.id,
            coalesce(define_resource.capacity::text, 'null'), coalesce(define_resource.overbook::text, 'null')
            USING ERRCODE = 'LS002', HINT = 'Both are 0 or more, together at most 9223372036854775807.';
    ELSIF define_resource.limit_group IS NOT NULL AND NOT EXISTS (SELECT FROM limit_groups g WHERE g.id = define_resource.limit_group) THEN
        RAISE EXCEPTION 'there is no limit group "%"', define_resource.limit_group
            USING ERRCODE = 'LS003', HINT = format('Define it first: SELECT lastseat.define_limit(%L, 4).', define_resource.limit_group);
    END IF;
    INSERT INTO resources (id, capacity, overbook, limit_group)
    VALUES (define_resource.id, define_resource.capacity, define_resource.overbook, define_resource.limit_group)
    ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
        RETURN ROW(define_resource.id, 'resource.define', 'applied', false)::receipt;
    END IF;
    SELECT * INTO STRICT known FROM resources r WHERE r.id = define_resource.id;
    IF (known.capacity, known.overbook) = (define_resource.capacity, define_resource.overbook)
       AND coalesce(define_resource.limit_group = known.limit_group, define_resource.limit_group IS NULL) THEN
        RETURN ROW(known.id, 'resource.define', 'applied', true)::receipt;
    END IF;
    SELECT * INTO STRICT known FROM resources r WHERE r.id = define_resource.id FOR NO KEY UPDATE;
    IF define_resource.limit_group IS DISTINCT FROM known.limit_group AND define_resource.limit_group IS NOT NULL THEN
        RAISE EXCEPTION 'resource "%" is in %', known.id, coalesce('the limit group "' || known.limit_group || '"', 'no limit group')
            USING ERRCODE = 'LS001', HINT = 'A resource keeps its group, since customers are counted by it. Define another resource.';
    ELSIF define_resource.capacity + define_resource.overbook < known.held + known.confirmed THEN
        RAISE EXCEPTION 'of resource "%" % are held and % confirmed, more than % and % overbooked', known.id, known.held, known.confirmed, define_resource.capacity, define_resource.overbook
            USING ERRCODE = 'LS002', HINT = 'Cancel reservations first, or allow them by overbook.';
    END IF;
    UPDATE resources r SET capacity = define_resource.capacity, overbook = define_resource.overbook, version = r.version + 1, updated_at = now(),
           grown = r.waiting > 0 AND define_resource.capacity + define_resource.overbook > r.capacity + r.overbook OR r.grown
    WHERE r.id = known.id;
    RETURN ROW(known.id, 'resource.define', 'applied', false)::receipt;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.define_resource(text, bigint, bigint, text) IS
    'Defines a resource, or changes its capacity, at once, in the caller''s transaction. overbook: how many more than capacity may be taken. A capacity below what is held and confirmed is error LS002.';

-- expires_at is null and not now() + 15 minutes by default: what is left out is worked out when the request is made.
-- +goose StatementBegin
CREATE FUNCTION lastseat.hold(key text, reservation text, items jsonb, expires_at timestamptz DEFAULT NULL, customer text DEFAULT NULL, wait boolean DEFAULT false)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('reservation.hold', key, jsonb_build_object('reservation', reservation, 'items', items)
        || time_arg('expires_at', expires_at)
        || CASE WHEN customer IS NULL THEN '{}' ELSE jsonb_build_object('customer', customer) END
        || CASE WHEN wait THEN '{"wait": true}'::jsonb ELSE '{}' END);
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.hold(text, text, jsonb, timestamptz, text, boolean) IS
    'Asks for resources to be held, all of the items or none, inside the caller''s transaction. items: [{"resource", "quantity", "during"}]; expires_at null: 15 minutes from now; wait: where something is sold out, wait in line for it.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.confirm(key text, reservation text)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('reservation.confirm', key, jsonb_build_object('reservation', reservation));
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.confirm(text, text) IS
    'Asks for a hold to be made lasting, inside the caller''s transaction.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.cancel(key text, reservation text)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('reservation.cancel', key, jsonb_build_object('reservation', reservation));
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.cancel(text, text) IS
    'Asks for a hold, a confirmed reservation or one that waits to be given up, inside the caller''s transaction.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.extend(key text, reservation text, expires_at timestamptz)
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    -- without the zeros at its end the time is written as Go writes it: the same request
    RETURN enqueue('reservation.extend', key, jsonb_build_object('reservation', reservation,
        'expires_at', regexp_replace(time_arg('expires_at', expires_at) ->> 'expires_at', '\.?0+Z$', 'Z')));
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.extend(text, text, timestamptz) IS
    'Asks for a hold, or one that waits, to run out at another time, inside the caller''s transaction.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.book(key text, reservation text, items jsonb, from_account text, to_account text, amount bigint, currency text,
                              customer text DEFAULT NULL, description text DEFAULT NULL, metadata jsonb DEFAULT '{}')
RETURNS lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN enqueue('booking.book', key, jsonb_build_object('reservation', reservation, 'items', items, 'from', from_account, 'to', to_account, 'amount', amount, 'currency', currency)
        || CASE WHEN customer IS NULL THEN '{}' ELSE jsonb_build_object('customer', customer) END
        || CASE WHEN description IS NULL THEN '{}' ELSE jsonb_build_object('description', description) END
        || CASE WHEN coalesce(metadata, '{}') = '{}' THEN '{}' ELSE jsonb_build_object('metadata', metadata) END);
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.book(text, text, jsonb, text, text, bigint, text, text, text, jsonb) IS
    'Asks for resources and their payment, both or neither, inside the caller''s transaction: confirmed at once. amount in minor units.';

-- What a shop's page shows.

-- +goose StatementBegin
CREATE FUNCTION lastseat.reservation(id text)
RETURNS TABLE (status text, customer text, expires_at timestamptz, items jsonb, version bigint, key text, created_at timestamptz, updated_at timestamptz) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO' -- time ranges as text
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT r.status, r.customer, r.expires_at,
        coalesce((SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('resource', i.resource_id, 'quantity', i.quantity, 'during', i.during)) ORDER BY i.position)
                  FROM reservation_items i WHERE i.reservation_id = r.id), '[]'),
        r.version, r.key, r.created_at, r.updated_at
    FROM reservations r WHERE r.id = reservation.id;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.reservation(text) IS 'A reservation as it is now: one row, or none. Its items are there once it was held, or waits.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.availability(resources text[])
RETURNS TABLE (resource text, available bigint, capacity bigint, overbook bigint, held bigint, confirmed bigint, waiting bigint) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT r.id, r.capacity + r.overbook - r.held - r.confirmed, r.capacity, r.overbook, r.held, r.confirmed, r.waiting
    FROM resources r WHERE r.id = ANY (availability.resources) ORDER BY r.id;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.availability(text[]) IS 'How many of each resource can still be taken. Resources that do not exist are left out.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.availability(prefix text, after text DEFAULT NULL, max_rows bigint DEFAULT NULL)
RETURNS TABLE (resource text, available bigint, capacity bigint, overbook bigint, held bigint, confirmed bigint, waiting bigint) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT r.id, r.capacity + r.overbook - r.held - r.confirmed, r.capacity, r.overbook, r.held, r.confirmed, r.waiting
    FROM resources r
    WHERE r.id >= availability.prefix AND r.id <= availability.prefix || repeat(U&'\+10FFFF', 200) AND r.id > coalesce(availability.after, '')
    ORDER BY r.id LIMIT availability.max_rows;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.availability(text, text, bigint) IS
    'How many of each resource whose id begins with prefix can still be taken, in the order of ids: after an id, at most so many.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.occupied(resource text, "from" timestamptz, "to" timestamptz)
RETURNS TABLE (during tstzrange, reservation text, status text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT i.during, i.reservation_id, r.status
    FROM reservation_items i JOIN reservations r ON r.id = i.reservation_id
    WHERE i.occupies AND i.resource_id = occupied.resource
      AND int8range(hashtextextended(i.resource_id, 0) >> 1, hashtextextended(i.resource_id, 0) >> 1, '[]')
          && int8range(hashtextextended(occupied.resource, 0) >> 1, hashtextextended(occupied.resource, 0) >> 1, '[]')
      AND i.during && tstzrange(occupied."from", occupied."to")
    ORDER BY i.during;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.occupied(text, timestamptz, timestamptz) IS 'The time ranges for which a resource is held or confirmed, as far as they overlap a period.';

GRANT EXECUTE ON FUNCTION
    lastseat.define_limit(text, bigint), lastseat.define_resource(text, bigint, bigint, text),
    lastseat.hold(text, text, jsonb, timestamptz, text, boolean), lastseat.confirm(text, text), lastseat.cancel(text, text),
    lastseat.extend(text, text, timestamptz), lastseat.book(text, text, jsonb, text, text, bigint, text, text, text, jsonb)
TO lastseat_producer, lastseat_worker;
GRANT EXECUTE ON FUNCTION
    lastseat.reservation(text), lastseat.availability(text[]), lastseat.availability(text, text, bigint), lastseat.occupied(text, timestamptz, timestamptz)
TO lastseat_producer, lastseat_worker, lastseat_viewer;
GRANT UPDATE ON lastseat.resources TO lastseat_worker;
GRANT INSERT, UPDATE ON lastseat.reservations, lastseat.reservation_items, lastseat.customer_counts TO lastseat_worker;
GRANT INSERT, DELETE ON lastseat.waiting_items TO lastseat_worker;
GRANT USAGE ON SEQUENCE lastseat.waiting_number_seq TO lastseat_worker;

-- +goose Down

-- +goose StatementBegin
DO $$ BEGIN
    IF EXISTS (SELECT FROM lastseat.resources) OR EXISTS (SELECT FROM lastseat.reservations) OR EXISTS (SELECT FROM lastseat.limit_groups) THEN
        RAISE EXCEPTION 'lastseat.resources is not empty: this migration does not take reservations away'
            USING HINT = 'Dump it, then DROP SCHEMA lastseat CASCADE, if that is what you want.';
    END IF;
END $$;
-- +goose StatementEnd
DROP FUNCTION lastseat.define_limit(text, bigint), lastseat.define_resource(text, bigint, bigint, text),
    lastseat.hold(text, text, jsonb, timestamptz, text, boolean), lastseat.confirm(text, text), lastseat.cancel(text, text),
    lastseat.extend(text, text, timestamptz), lastseat.book(text, text, jsonb, text, text, bigint, text, text, text, jsonb),
    lastseat.reservation(text), lastseat.availability(text[]), lastseat.availability(text, text, bigint), lastseat.occupied(text, timestamptz, timestamptz),
    lastseat.check_hold_args(jsonb), lastseat.check_quantity_arg(text, jsonb, boolean), lastseat.during_arg(text, jsonb), lastseat.during_format(),
    lastseat.check_reservation(text);
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
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.check_reversible(transfer_key text) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
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
DROP TABLE lastseat.customer_counts, lastseat.waiting_items, lastseat.reservation_items, lastseat.reservations, lastseat.resources, lastseat.limit_groups;
DROP FUNCTION lastseat.check_reservation_status();
