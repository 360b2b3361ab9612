-- Resources: what can be reserved, and how much of it is left.

CREATE OR REPLACE FUNCTION lastseat.define_limit(limit_group text, per_customer bigint)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known limit_groups;
BEGIN
    PERFORM check_id_arg('limit_group', to_jsonb(define_limit.limit_group));
    IF define_limit.per_customer < 0 THEN
        RAISE EXCEPTION 'the limit of group "%" is %', define_limit.limit_group, define_limit.per_customer
            USING ERRCODE = 'LS002', HINT = 'A limit is 0 or more; null means without bound.';
    END IF;
    INSERT INTO limit_groups (id, per_customer) VALUES (define_limit.limit_group, define_limit.per_customer)
    ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
        RETURN ROW(define_limit.limit_group, 'limit.define', 'applied', false)::receipt;
    END IF;
    SELECT * INTO STRICT known FROM limit_groups g WHERE g.id = define_limit.limit_group FOR NO KEY UPDATE;
    IF known.per_customer IS NOT DISTINCT FROM define_limit.per_customer THEN
        RETURN ROW(known.id, 'limit.define', 'applied', true)::receipt;
    END IF;
    UPDATE limit_groups g SET per_customer = define_limit.per_customer, updated_at = now() WHERE g.id = known.id;
    IF coalesce(define_limit.per_customer > known.per_customer, define_limit.per_customer IS NULL) THEN
        -- a waiting customer may have more now
        UPDATE resources r SET grown = true, version = r.version + 1, updated_at = now()
        WHERE r.limit_group = known.id AND r.waiting > 0 AND NOT r.grown;
    END IF;
    RETURN ROW(known.id, 'limit.define', 'applied', false)::receipt;
END $$;
COMMENT ON FUNCTION lastseat.define_limit IS
'Sets how much of a group of resources one customer may hold and have confirmed at a time, immediately, in the '
'caller''s transaction. Customers keep what they have already.

limit_group: the group''s id, 1 to 200 characters.
per_customer: the sum of quantities; null: no limit.

Errors: LS002.';
GRANT EXECUTE ON FUNCTION lastseat.define_limit TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.check_capacity(id text, capacity bigint, overbook bigint)
RETURNS void
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF capacity IS NULL OR capacity < 0 OR overbook < 0 OR capacity > 9223372036854775807 - overbook THEN
        RAISE EXCEPTION 'resource "%" has a capacity of % and an overbooking allowance of %', id,
            coalesce(capacity::text, 'null'), overbook
            USING ERRCODE = 'LS002', HINT = 'Both are 0 or more, together at most 9223372036854775807.';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_capacity IS 'Refuses a capacity that no resource can have.

id: the resource''s id.
capacity: how many there are to reserve.
overbook: how many more may be reserved.

Errors: LS002.';

CREATE OR REPLACE FUNCTION lastseat.define_resource(
    id text, capacity bigint, overbook bigint DEFAULT NULL, limit_group text DEFAULT NULL
)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known resources;
BEGIN
    IF define_resource.id IS NULL OR char_length(define_resource.id) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'the resource id is %', CASE
            WHEN define_resource.id IS NULL THEN 'null' WHEN define_resource.id = '' THEN 'empty'
            ELSE format('%s characters long', char_length(define_resource.id)) END
            USING ERRCODE = 'LS002', HINT = 'A resource id has 1 to 200 characters.';
    END IF;
    PERFORM check_capacity(define_resource.id, define_resource.capacity, coalesce(define_resource.overbook, 0));
    IF define_resource.limit_group IS NOT NULL
          AND NOT EXISTS (SELECT FROM limit_groups g WHERE g.id = define_resource.limit_group) THEN
        RAISE EXCEPTION 'there is no limit group "%"', define_resource.limit_group
            USING ERRCODE = 'LS003',
                  HINT = format('Define it first: SELECT lastseat.define_limit(%L, 4).', define_resource.limit_group);
    END IF;
    PERFORM check_name('the resource id', define_resource.id);
    IF EXISTS (SELECT FROM resources r WHERE r.id <> define_resource.id
                 AND hashtextextended(r.id, 0) >> 1 = hashtextextended(define_resource.id, 0) >> 1) THEN
        RAISE EXCEPTION 'the resource id "%" has the hash of another resource''s id', define_resource.id
            USING ERRCODE = 'LS002', HINT = 'Take another id: time ranges could not tell the two apart.';
    END IF;
    INSERT INTO resources (id, capacity, overbook, limit_group)
    VALUES (define_resource.id, define_resource.capacity, coalesce(define_resource.overbook, 0),
            define_resource.limit_group)
    ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
        RETURN ROW(define_resource.id, 'resource.define', 'applied', false)::receipt;
    END IF;
    SELECT * INTO STRICT known FROM resources r WHERE r.id = define_resource.id;
    IF known.capacity = define_resource.capacity
       AND known.overbook = coalesce(define_resource.overbook, known.overbook)
       AND coalesce(define_resource.limit_group = known.limit_group, define_resource.limit_group IS NULL) THEN
        RETURN ROW(known.id, 'resource.define', 'applied', true)::receipt;
    END IF;
    SELECT * INTO STRICT known FROM resources r WHERE r.id = define_resource.id FOR NO KEY UPDATE;
    define_resource.overbook := coalesce(define_resource.overbook, known.overbook);
    PERFORM check_capacity(known.id, define_resource.capacity, define_resource.overbook);
    IF define_resource.limit_group IS DISTINCT FROM known.limit_group AND define_resource.limit_group IS NOT NULL THEN
        RAISE EXCEPTION 'resource "%" is in %',
            known.id, coalesce('the limit group "' || known.limit_group || '"', 'no limit group')
            USING ERRCODE = 'LS001',
                  HINT = 'A resource keeps its group, since customers are counted by it. Define another resource.';
    ELSIF define_resource.capacity + define_resource.overbook < known.held + known.confirmed THEN
        RAISE EXCEPTION 'of resource "%" % are held and % confirmed, more than % and % overbooked',
            known.id, known.held, known.confirmed, define_resource.capacity, define_resource.overbook
            USING ERRCODE = 'LS002', HINT = 'Cancel reservations first, or allow them by overbook.';
    END IF;
    UPDATE resources r SET capacity = define_resource.capacity, overbook = define_resource.overbook,
           version = r.version + 1, updated_at = now(),
           grown = r.waiting > 0 AND define_resource.capacity + define_resource.overbook > r.capacity + r.overbook
                   OR r.grown
    WHERE r.id = known.id;
    RETURN ROW(known.id, 'resource.define', 'applied', false)::receipt;
END $$;
COMMENT ON FUNCTION lastseat.define_resource IS
'Defines a resource, or changes its capacity, immediately, in the caller''s transaction.

id: the resource''s id, 1 to 200 characters: seat/A1, double/2026-12-24.
capacity: how many there are to reserve; a seat has 1.
overbook: how many more than capacity may be reserved; null: as before, 0 for a new resource.
limit_group: the group under whose limit it counts for each customer; null: none, or as before. It can''t be changed.

Errors: LS001 it is in another group; LS002 also if more is reserved than would be left; LS003 no such group.';
GRANT EXECUTE ON FUNCTION lastseat.define_resource TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.availability(resources text[])
RETURNS TABLE (
    resource text, available bigint, capacity bigint, overbook bigint, held bigint, confirmed bigint, waiting bigint
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT r.id, r.capacity + r.overbook - r.held - r.confirmed, r.capacity, r.overbook,
               r.held, r.confirmed, r.waiting
        FROM resources r WHERE r.id = ANY (availability.resources) ORDER BY r.id;
END $$;
COMMENT ON FUNCTION lastseat.availability(text[]) IS
'How many of each resource are still available. Resources that do not exist are left out.

resources: their ids.';
GRANT EXECUTE ON FUNCTION lastseat.availability(text[]) TO lastseat_producer, lastseat_worker, lastseat_viewer;

CREATE OR REPLACE FUNCTION lastseat.availability(prefix text, after text DEFAULT NULL, max_rows bigint DEFAULT NULL)
RETURNS TABLE (
    resource text, available bigint, capacity bigint, overbook bigint, held bigint, confirmed bigint, waiting bigint
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF max_rows < 0 THEN
        RAISE EXCEPTION '"max_rows" is %', max_rows
            USING ERRCODE = 'LS002', HINT = 'Give 0 or more, or null for all.', COLUMN = 'max_rows';
    END IF;
    RETURN QUERY
        SELECT r.id, r.capacity + r.overbook - r.held - r.confirmed, r.capacity, r.overbook,
               r.held, r.confirmed, r.waiting
        FROM resources r
    WHERE r.id >= availability.prefix AND r.id <= availability.prefix || repeat(chr(1114111), 200)
      AND r.id > coalesce(availability.after, '')
    ORDER BY r.id LIMIT availability.max_rows;
END $$;
COMMENT ON FUNCTION lastseat.availability(text, text, bigint) IS
'How many are still available of each resource whose id begins with a prefix, in the order of ids.

prefix: the beginning of the ids.
after: only ids after this one: the last of the previous page.
max_rows: at most so many; null: all.

Errors: LS002.';
GRANT EXECUTE ON FUNCTION lastseat.availability(text, text, bigint)
TO lastseat_producer, lastseat_worker, lastseat_viewer;

CREATE OR REPLACE FUNCTION lastseat.occupied(resource text, "from" timestamptz, "to" timestamptz)
RETURNS TABLE (during tstzrange, reservation text, status text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
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
COMMENT ON FUNCTION lastseat.occupied IS
'The time ranges for which a resource is held or confirmed, if they overlap with a period.

resource: the resource''s id.
from: the start of the period.
to: its end; not included.';
GRANT EXECUTE ON FUNCTION lastseat.occupied TO lastseat_producer, lastseat_worker, lastseat_viewer;
