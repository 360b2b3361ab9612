-- Reservations: hold, confirm, cancel, extend, expire, wait. A booking reserves places and pays for them, or does
-- neither.
--
--   pending -> held -> confirmed -> cancelled
--   pending -> rejected    held -> cancelled | expired
--   pending -> waiting -> held | cancelled | expired      (a hold that asked to wait)
--
-- The function that asks for a reservation inserts its pending row in the caller's transaction, together with the
-- request. The worker inserts the items when it holds them.

CREATE TABLE lastseat.limit_groups (
    id           text COLLATE "C" PRIMARY KEY CHECK (char_length(id) BETWEEN 1 AND 200),
    per_customer bigint CHECK (per_customer >= 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE lastseat.limit_groups IS
    'Resources of which one customer may have only so many together: the seats of a concert, four each.';
COMMENT ON COLUMN lastseat.limit_groups.id IS 'The group''s id, chosen by the caller.';
COMMENT ON COLUMN lastseat.limit_groups.per_customer IS
    'The sum of the quantities that a customer may hold and have confirmed at a time; null: no limit.';
COMMENT ON COLUMN lastseat.limit_groups.created_at IS 'When it was defined.';
COMMENT ON COLUMN lastseat.limit_groups.updated_at IS 'When its limit last changed.';

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
-- reservation_items_overlap tells resources apart by a hash. Whoever can compute it can make an id that has the hash of
-- somebody else's resource.
CREATE UNIQUE INDEX resources_told_apart ON lastseat.resources ((hashtextextended(id, 0) >> 1));
CREATE INDEX resources_grown ON lastseat.resources (id) WHERE grown;
CREATE INDEX resources_waiting ON lastseat.resources (limit_group) WHERE waiting > 0 AND limit_group IS NOT NULL;
COMMENT ON TABLE lastseat.resources IS
    'What can be reserved: a seat (capacity 1), the rooms of a type on one night, a room by the hour. Only the '
    'worker and define_resource change rows.';
COMMENT ON COLUMN lastseat.resources.id IS 'The resource''s id, chosen by the caller.';
COMMENT ON COLUMN lastseat.resources.capacity IS 'How many there are to reserve.';
COMMENT ON COLUMN lastseat.resources.overbook IS 'How many more than capacity may be reserved.';
COMMENT ON COLUMN lastseat.resources.held IS
    'The sum of the quantities of held items. Items with a time range are not counted.';
COMMENT ON COLUMN lastseat.resources.confirmed IS
    'The sum of the quantities of confirmed items. Items with a time range are not counted.';
COMMENT ON COLUMN lastseat.resources.waiting IS 'How many items wait for it.';
COMMENT ON COLUMN lastseat.resources.limit_group IS
    'The group under whose limit it counts for each customer; or null.';
COMMENT ON COLUMN lastseat.resources.grown IS
    'True: its capacity or a limit has grown, so a waiting reservation may fit now, and the worker has yet to look.';
COMMENT ON COLUMN lastseat.resources.version IS 'Goes up by one with every change: an optimistic lock for ORMs.';
COMMENT ON COLUMN lastseat.resources.created_at IS 'When it was defined.';
COMMENT ON COLUMN lastseat.resources.updated_at IS 'When it last changed.';
GRANT UPDATE (held, confirmed, waiting, grown, version, updated_at) ON lastseat.resources TO lastseat_worker;
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON lastseat.resources
    FOR EACH STATEMENT
    EXECUTE FUNCTION lastseat.refuse_change('Items refer to resources for ever. Set its capacity to 0.');
CREATE TRIGGER renamed BEFORE UPDATE OF id, limit_group ON lastseat.resources
    FOR EACH ROW WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.limit_group IS DISTINCT FROM NEW.limit_group)
    EXECUTE FUNCTION lastseat.refuse_change(
        'Items refer to the id, and customers are counted by the group. Define another resource.');

CREATE TRIGGER noted AFTER INSERT OR UPDATE ON lastseat.limit_groups
    FOR EACH ROW EXECUTE FUNCTION lastseat.note_definition('id', 'per_customer', 'created_at', 'updated_at');
CREATE TRIGGER noted AFTER INSERT OR UPDATE OF id, capacity, overbook, limit_group, created_at ON lastseat.resources
    FOR EACH ROW EXECUTE FUNCTION lastseat.note_definition('id', 'capacity', 'overbook', 'limit_group', 'created_at');

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
CREATE INDEX reservations_waiting ON lastseat.reservations (customer)
    WHERE status = 'waiting' AND customer IS NOT NULL;
-- For those who look up what a request made.
CREATE INDEX reservations_key ON lastseat.reservations USING hash (key);
COMMENT ON TABLE lastseat.reservations IS 'A reservation of one or more resources, all or nothing.';
COMMENT ON COLUMN lastseat.reservations.id IS 'The reservation''s id, chosen by the caller.';
COMMENT ON COLUMN lastseat.reservations.key IS 'The idempotency key of the request that holds or books it.';
COMMENT ON COLUMN lastseat.reservations.customer IS 'The customer, for limits; or null.';
COMMENT ON COLUMN lastseat.reservations.status IS
    'pending, held, confirmed, cancelled, rejected, expired or waiting.';
COMMENT ON COLUMN lastseat.reservations.expires_at IS
    'The worker releases a hold that is not confirmed by then, within two seconds, and ends the wait of one that '
    'waits.';
COMMENT ON COLUMN lastseat.reservations.waiting_number IS
    'Its place in the lines in which it waits or waited: lower numbers come first.';
COMMENT ON COLUMN lastseat.reservations.version IS 'Goes up by one with every change: an optimistic lock for ORMs.';
COMMENT ON COLUMN lastseat.reservations.created_at IS 'When it was asked for.';
COMMENT ON COLUMN lastseat.reservations.updated_at IS 'When it last changed.';
GRANT INSERT (id, key, customer, expires_at), UPDATE (status, expires_at, waiting_number, version, updated_at)
ON lastseat.reservations TO lastseat_worker;
CREATE TRIGGER first_status BEFORE INSERT ON lastseat.reservations
    FOR EACH ROW WHEN (NEW.status <> 'pending') EXECUTE FUNCTION lastseat.check_reservation_status();
CREATE TRIGGER next_status BEFORE UPDATE OF status ON lastseat.reservations
    -- Repeated here from the function: calling a function for every row is most of what the check costs.
    FOR EACH ROW WHEN (OLD.status <> NEW.status
        AND (OLD.status <> 'pending' OR NEW.status <> 'held')
        AND (OLD.status <> 'held' OR NEW.status <> 'confirmed')
        AND (OLD.status <> 'held' OR NEW.status <> 'cancelled')
        AND (OLD.status <> 'confirmed' OR NEW.status <> 'cancelled'))
    EXECUTE FUNCTION lastseat.check_reservation_status();
CREATE TRIGGER fixed BEFORE UPDATE ON lastseat.reservations
    FOR EACH ROW WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.key IS DISTINCT FROM NEW.key
                       OR OLD.customer IS DISTINCT FROM NEW.customer
                       OR OLD.expires_at <> NEW.expires_at AND OLD.status NOT IN ('held', 'waiting'))
    EXECUTE FUNCTION lastseat.refuse_change('A reservation keeps its terms; only a hold''s expiry can be extended.');
CREATE TRIGGER kept BEFORE TRUNCATE ON lastseat.reservations
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('Items refer to reservations for ever.');
CREATE TRIGGER removed AFTER DELETE ON lastseat.reservations REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.check_removal('Items refer to reservations.', 'g.id || ''@'' || g.version');
CREATE TRIGGER new_id AFTER INSERT ON lastseat.reservations
    FOR EACH ROW EXECUTE FUNCTION lastseat.check_new_id();

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
    -- "The same resource" for a GiST index without the extension btree_gist: a range that holds one number, a hash of
    -- 63 bits.
    CONSTRAINT reservation_items_overlap EXCLUDE USING gist
        (int8range(hashtextextended(resource_id, 0) >> 1, hashtextextended(resource_id, 0) >> 1, '[]') WITH &&,
         during WITH &&) WHERE (occupies)
);
COMMENT ON TABLE lastseat.reservation_items IS
    'What a reservation consists of; the worker inserts it when the reservation is held, or starts to wait.';
COMMENT ON COLUMN lastseat.reservation_items.reservation_id IS 'The reservation.';
COMMENT ON COLUMN lastseat.reservation_items.position IS '1, 2, 3 ... in the order of the request.';
COMMENT ON COLUMN lastseat.reservation_items.resource_id IS 'The resource.';
COMMENT ON COLUMN lastseat.reservation_items.quantity IS 'How many of it.';
COMMENT ON COLUMN lastseat.reservation_items.during IS
    'The time for which it takes the whole resource, end not included; null: it takes a quantity.';
COMMENT ON COLUMN lastseat.reservation_items.occupies IS
    'Whether it takes the time range now: while the reservation is held or confirmed. Null without a range.';
GRANT INSERT, UPDATE (occupies) ON lastseat.reservation_items TO lastseat_worker;
CREATE TRIGGER fixed BEFORE UPDATE ON lastseat.reservation_items
    FOR EACH ROW WHEN (
        OLD.reservation_id IS DISTINCT FROM NEW.reservation_id OR OLD.position IS DISTINCT FROM NEW.position
        OR OLD.resource_id IS DISTINCT FROM NEW.resource_id OR OLD.quantity IS DISTINCT FROM NEW.quantity
        OR OLD.during IS DISTINCT FROM NEW.during)
    EXECUTE FUNCTION lastseat.refuse_change('A reservation keeps the items that were asked for.');
CREATE TRIGGER kept BEFORE TRUNCATE ON lastseat.reservation_items
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('A reservation keeps the items that were asked for.');
CREATE TRIGGER removed AFTER DELETE ON lastseat.reservation_items REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT
    EXECUTE FUNCTION lastseat.check_removal('A reservation keeps the items that were asked for.',
        'g.reservation_id || ''#'' || g.position');

CREATE TABLE lastseat.waiting_items (
    resource_id    text COLLATE "C" NOT NULL,
    number         bigint NOT NULL,
    reservation_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (resource_id, number)
);
CREATE SEQUENCE lastseat.waiting_number_seq AS bigint OWNED BY lastseat.reservations.waiting_number;
COMMENT ON TABLE lastseat.waiting_items IS
    'The line for each resource, in order: one row for each resource of a waiting reservation. The worker '
    'deletes it when the reservation is granted, cancelled or expired.';
COMMENT ON COLUMN lastseat.waiting_items.resource_id IS 'The resource.';
COMMENT ON COLUMN lastseat.waiting_items.number IS 'The reservation''s waiting_number.';
COMMENT ON COLUMN lastseat.waiting_items.reservation_id IS 'The reservation that waits.';
GRANT INSERT, DELETE ON lastseat.waiting_items TO lastseat_worker;
GRANT USAGE ON SEQUENCE lastseat.waiting_number_seq TO lastseat_worker;

CREATE TABLE lastseat.customer_counts (
    limit_group text COLLATE "C" NOT NULL,
    customer    text COLLATE "C" NOT NULL,
    quantity    bigint NOT NULL CHECK (quantity >= 0),
    version     bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (limit_group, customer)
) WITH (fillfactor = 70);
COMMENT ON TABLE lastseat.customer_counts IS
    'What each customer holds and has confirmed of a group: a counter row that the worker locks, so that two '
    'concurrent holds cannot both slip past the limit.';
COMMENT ON COLUMN lastseat.customer_counts.limit_group IS 'The group of resources.';
COMMENT ON COLUMN lastseat.customer_counts.customer IS 'The customer.';
COMMENT ON COLUMN lastseat.customer_counts.quantity IS
    'The sum of the quantities of the customer''s held and confirmed items of the group.';
COMMENT ON COLUMN lastseat.customer_counts.version IS 'Goes up by one with every change.';
GRANT INSERT (limit_group, customer, quantity), UPDATE (quantity, version) ON lastseat.customer_counts TO lastseat_worker;
