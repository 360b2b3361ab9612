-- Retention of payments and reservations that have ended, as in retention.sql. The functions take the versions that the
-- keeper has read, as the history has them (ID@VERSION), and lock the rows: what has changed since stays.

-- In hours: a session's time zone could make a day shorter.
CREATE OR REPLACE FUNCTION lastseat.kept_since(what text)
RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN (SELECT now() - make_interval(hours => 24 * r.days) FROM retention r WHERE r.what = kept_since.what);
END $$;
COMMENT ON FUNCTION lastseat.kept_since IS 'The time before which rows are too old; null: none is.

what: payments or reservations.';
GRANT EXECUTE ON FUNCTION lastseat.kept_since TO lastseat_keeper;

CREATE OR REPLACE FUNCTION lastseat.note_removed_ids(what text, keys text[], youngest timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO removed_ids (what, id)
    SELECT note_removed_ids.what, regexp_replace(k.key, '@[0-9]+$', '') FROM unnest(note_removed_ids.keys) AS k(key);
    INSERT INTO removed AS e (what, before)
    VALUES (note_removed_ids.what, date_trunc('hour', note_removed_ids.youngest) + interval '1 hour')
    ON CONFLICT (what) DO UPDATE SET before = EXCLUDED.before WHERE e.before < EXCLUDED.before;
END $$;
COMMENT ON FUNCTION lastseat.note_removed_ids IS
'Notes that ids are not to be used again, and how far retention has come.

what: payments or reservations.
keys: ID@VERSION of each that is removed.
youngest: when the youngest of them last changed.';

CREATE OR REPLACE FUNCTION lastseat.refuse_removal(what text, asked bigint, free bigint)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% of % % may not be removed', asked - free, asked, what
        USING ERRCODE = 'serialization_failure',
              HINT = 'One may have changed meanwhile, or how long they are kept has. Look again.';
END $$;
COMMENT ON FUNCTION lastseat.refuse_removal IS 'Raises the error for rows that may not be removed, or not any more.

what: the table.
asked: how many were to be removed.
free: how many of them may be.

Errors: 40001.';

-- Of a payment that is pending or authorized money is held, or its request can be retried. One by card stays: its request
-- and its call do, and the processor knows it for ever.
CREATE OR REPLACE FUNCTION lastseat.remove_payments(
    keys text[], digests bytea[], number bigint, at timestamptz, hash bytea
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    cutoff   CONSTANT timestamptz := kept_since('payments');
    rows     tid[];
    youngest timestamptz;
BEGIN
    SELECT array_agg(p.row), max(p.updated_at) INTO rows, youngest
    FROM unnest(remove_payments.keys) AS a(key)
    JOIN LATERAL (SELECT q.ctid AS row, q.updated_at FROM payments q
                  WHERE q.id = regexp_replace(a.key, '@[0-9]+$', '') AND a.key = q.id || '@' || q.version
                    AND q.status IN ('declined', 'voided', 'expired', 'captured') AND q.processor IS NULL
                    AND q.updated_at < cutoff
                  FOR UPDATE SKIP LOCKED OFFSET 0) p ON true;
    IF cardinality(rows) IS DISTINCT FROM cardinality(remove_payments.keys) THEN
        PERFORM refuse_removal('payments', cardinality(remove_payments.keys), coalesce(cardinality(rows), 0));
    END IF;
    PERFORM note_removal('payments.removed', remove_payments.keys, remove_payments.digests, remove_payments.number,
                         remove_payments.at, remove_payments.hash);
    PERFORM note_removed_ids('payments', remove_payments.keys, youngest);
    DELETE FROM payments p WHERE p.ctid = ANY (rows);
END $$;
COMMENT ON FUNCTION lastseat.remove_payments IS
'Removes payments that have ended and are too old, and notes that in the history: all of them, or none. For worker '
'retain run.

keys: ID@VERSION of each.
digests: of each of them.
number: that of the link of the chain retention, the next one.
at: its time, now().
hash: its hash.

Errors: LS002; 40001 another keeper was quicker, or one of them is not too old, has not ended, is by card or has '
'changed.';
GRANT EXECUTE ON FUNCTION lastseat.remove_payments TO lastseat_keeper;

-- A confirmed one has ended when all its time ranges are over. Where it takes a quantity, or counts for a customer's
-- limit, it counts until it is cancelled, and stays.
CREATE OR REPLACE FUNCTION lastseat.remove_reservations(
    keys text[], digests bytea[], items text[], item_digests bytea[], number bigint, at timestamptz, hash bytea,
    item_hash bytea
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    cutoff   CONSTANT timestamptz := kept_since('reservations');
    rows     tid[];
    ids      text[];
    youngest timestamptz;
    gone     bigint;
BEGIN
    SELECT array_agg(v.row), array_agg(v.id), max(v.updated_at) INTO rows, ids, youngest
    FROM unnest(remove_reservations.keys) AS a(key)
    JOIN LATERAL (SELECT q.ctid AS row, q.id, q.updated_at FROM reservations q
                  WHERE q.id = regexp_replace(a.key, '@[0-9]+$', '') AND a.key = q.id || '@' || q.version
                    AND q.status IN ('rejected', 'cancelled', 'expired', 'confirmed') AND q.updated_at < cutoff
                    AND (q.status <> 'confirmed' OR NOT EXISTS (
                        SELECT FROM reservation_items i LEFT JOIN resources r ON r.id = i.resource_id
                        WHERE i.reservation_id = q.id
                          AND (coalesce(upper(i.during) >= cutoff, true)
                               OR q.customer IS NOT NULL AND r.limit_group IS NOT NULL)))
                  FOR UPDATE SKIP LOCKED OFFSET 0) v ON true;
    IF cardinality(rows) IS DISTINCT FROM cardinality(remove_reservations.keys) THEN
        PERFORM refuse_removal('reservations', cardinality(remove_reservations.keys), coalesce(cardinality(rows), 0));
    END IF;
    PERFORM note_removal('reservations.removed', remove_reservations.keys, remove_reservations.digests,
                         remove_reservations.number, remove_reservations.at, remove_reservations.hash);
    IF cardinality(remove_reservations.items) > 0 THEN
        PERFORM note_removal('reservation_items.removed', remove_reservations.items, remove_reservations.item_digests,
                             remove_reservations.number + 1, remove_reservations.at, remove_reservations.item_hash);
    END IF;
    PERFORM note_removed_ids('reservations', remove_reservations.keys, youngest);
    DELETE FROM reservation_items i WHERE i.reservation_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone <> cardinality(remove_reservations.items) THEN
        PERFORM refuse_removal('items', cardinality(remove_reservations.items), gone);
    END IF;
    DELETE FROM reservations v WHERE v.ctid = ANY (rows);
END $$;
COMMENT ON FUNCTION lastseat.remove_reservations IS
'Removes reservations that have ended and are too old, with their items, and notes that in the history: all of them, or '
'none. For worker retain run.

keys: ID@VERSION of each.
digests: of each of them.
items: ID#POSITION of each of their items.
item_digests: of each of these.
number: that of the link of the chain retention, the next one; that of the items is the one after it.
at: its time, now().
hash: its hash.
item_hash: that of the link of the items.

Errors: LS002; 40001 another keeper was quicker, or one of them is not too old, has not ended or has changed.';
GRANT EXECUTE ON FUNCTION lastseat.remove_reservations TO lastseat_keeper;
