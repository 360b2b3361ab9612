-- Retention: how long what is settled is kept, and the removal of what is older (docs/decisions/020-retention.md). The one who
-- removes rows (lastseat_keeper) can't say what is old, and each removal is a link of the history in the same commit. Its
-- digests and hashes are made by the caller, as those of the lane are; worker audit proves them.

CREATE OR REPLACE FUNCTION lastseat.keep(what text, days integer)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF keep.what IS NULL
       OR keep.what NOT IN ('requests', 'outcome_log', 'taken_events', 'payments', 'reservations', 'transfers')
       AND keep.what !~ '^requests:.{1,127}$' THEN
        RAISE EXCEPTION 'there is no retention of %', coalesce('"' || left(keep.what, 150) || '"', 'null')
            USING ERRCODE = 'LS002', COLUMN = 'what',
                  HINT = 'requests, requests:KIND (requests:payment.transfer), outcome_log, taken_events, payments, '
                         'reservations or transfers.';
    ELSIF keep.days NOT BETWEEN 0 AND 36500 THEN
        RAISE EXCEPTION 'it is to be kept for % days', keep.days
            USING ERRCODE = 'LS002', COLUMN = 'days', HINT = '0 to 36500 days; null: for ever.';
    END IF;
    INSERT INTO retention AS r (what, days) VALUES (keep.what, keep.days)
    ON CONFLICT ON CONSTRAINT retention_pkey DO UPDATE SET days = keep.days WHERE r.days IS DISTINCT FROM keep.days;
END $$;
COMMENT ON FUNCTION lastseat.keep IS
'Says how long what is settled is kept. Whoever may act as lastseat_owner may call it: worker retain set does.

what: requests; requests:KIND for one kind, instead of what requests says; outcome_log, the feed of outcomes_since, '
'which goes no later than the first requests; taken_events, the ids of the events of others; payments and '
'reservations, those that have ended; transfers, with their entries, which are closed first.
days: how many days after it was settled or last changed, or the event was taken in; null: for ever.

Errors: LS002.';

CREATE OR REPLACE FUNCTION lastseat.retention()
RETURNS TABLE (what text, days integer, removed_before timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        -- What retention notes is a full hour, which may be to come.
        SELECT coalesce(r.what, g.what), r.days, CASE WHEN g.before > now() THEN now() ELSE g.before END
        FROM retention r FULL JOIN removed g ON g.what = r.what ORDER BY 1;
END $$;
COMMENT ON FUNCTION lastseat.retention IS
'How long what is settled is kept, and what may be gone by now. What is not listed is kept for ever. days: after it was '
'settled; null: for ever. removed_before: what was settled before this may be gone; null: nothing is.';
GRANT EXECUTE ON FUNCTION lastseat.retention TO lastseat_producer, lastseat_worker, lastseat_viewer, lastseat_keeper;

-- The feed goes with the first requests: a reader would pass over those that are gone, and not know it.
CREATE OR REPLACE FUNCTION lastseat.log_cutoff()
RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN (SELECT now() - make_interval(hours => 24 * min(r.days)) FROM retention r
            WHERE r.what = 'outcome_log' OR starts_with(r.what, 'requests'));
END $$;
COMMENT ON FUNCTION lastseat.log_cutoff IS 'Rows of outcome_log from before this are too old; null: none is.';

-- Two keepers would write files of the same name.
CREATE OR REPLACE FUNCTION lastseat.archive_lock()
RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN hashtextextended('lastseat archive', 0);
END $$;
COMMENT ON FUNCTION lastseat.archive_lock IS
'The advisory lock of whoever writes what is removed to files. For worker retain run.';
GRANT EXECUTE ON FUNCTION lastseat.archive_lock TO lastseat_keeper;

-- Where the slowest relay stands: what it has yet to deliver stays. One that was given up on holds nothing back.
CREATE OR REPLACE FUNCTION lastseat.log_held_by()
RETURNS TABLE (relay text, timeline integer, xid xid8, number bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT s.name, coalesce(t.number, 0), coalesce(s.mark[2]::xid8, '0'), coalesce(s.mark[3]::bigint, 0)
        FROM (SELECT r.name, string_to_array(nullif(r.cursor, ''), '.') AS mark FROM relays r
              WHERE r.disabled_at IS NULL) s
        LEFT JOIN timelines t ON t.token = s.mark[1]
        ORDER BY 2, 3, 4 LIMIT 1;
END $$;
COMMENT ON FUNCTION lastseat.log_held_by IS
'The relay that is behind all others, and where it stands: rows of outcome_log from there on stay.';
GRANT EXECUTE ON FUNCTION lastseat.log_held_by TO lastseat_keeper;

CREATE OR REPLACE FUNCTION lastseat.remove_outcomes(max_rows integer)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    cutoff  CONSTANT timestamptz := log_cutoff();
    oldest  CONSTANT xid8 := pg_snapshot_xmin(pg_current_snapshot());
    foreign_ids CONSTANT integer := (
        SELECT coalesce(max(t.number), 0) FROM timelines t
        WHERE split_part(t.server, '/', 1) <> (SELECT c.system_identifier::text FROM pg_control_system() c));
    held    record;
    logged  record;
    last    record;
    n       integer := 0;
BEGIN
    IF cutoff IS NULL THEN
        RETURN 0;
    END IF;
    SELECT * INTO held FROM log_held_by();
    -- In the order of the feed: so all that is gone comes before all that is left.
    FOR logged IN
        SELECT l.timeline, l.xid, l.number, l.settled_at, cardinality(l.keys) AS place
        FROM outcome_log l WHERE l.timeline <= foreign_ids OR l.xid < oldest
        ORDER BY l.timeline, l.xid, l.number LIMIT max_rows
    LOOP
        EXIT WHEN logged.settled_at >= cutoff
               OR held.relay IS NOT NULL
                  AND (logged.timeline, logged.xid, logged.number) >= (held.timeline, held.xid, held.number);
        last := logged;
        n := n + 1;
    END LOOP;
    IF n > 0 THEN
        INSERT INTO removed AS e (what, before, last_timeline, last_xid, last_number, last_place)
        VALUES ('outcome_log', '-infinity', last.timeline, last.xid, last.number, last.place)
        ON CONFLICT (what) DO UPDATE SET last_timeline = last.timeline, last_xid = last.xid,
            last_number = last.number, last_place = last.place;
        DELETE FROM outcome_log l WHERE (l.timeline, l.xid, l.number) <= (last.timeline, last.xid, last.number);
    END IF;
    IF n < max_rows THEN
        INSERT INTO removed AS e (what, before, last_timeline, last_xid, last_number, last_place)
        VALUES ('outcome_log', least(cutoff, (SELECT min(l.settled_at) FROM outcome_log l)), 0, '0', 0, 0)
        ON CONFLICT (what) DO UPDATE SET before = EXCLUDED.before WHERE e.before < EXCLUDED.before;
    END IF;
    RETURN n;
END $$;
COMMENT ON FUNCTION lastseat.remove_outcomes IS
'Removes the oldest rows of outcome_log that are too old, and that every relay has delivered; returns how many. For '
'worker retain run.

max_rows: at most so many.';
GRANT EXECUTE ON FUNCTION lastseat.remove_outcomes TO lastseat_keeper;

CREATE OR REPLACE FUNCTION lastseat.remove_events(max_rows integer)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    cutoff CONSTANT timestamptz := (SELECT now() - make_interval(hours => 24 * r.days) FROM retention r
                                    WHERE r.what = 'taken_events');
    n      integer;
BEGIN
    DELETE FROM taken_events e
    WHERE e.ctid = ANY (ARRAY(SELECT o.ctid FROM taken_events o WHERE o.taken_at < cutoff
                              ORDER BY o.taken_at LIMIT max_rows FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        INSERT INTO removed AS g (what, before) VALUES ('taken_events', cutoff)
        ON CONFLICT (what) DO UPDATE SET before = cutoff WHERE g.before < cutoff;
    END IF;
    RETURN n;
END $$;
COMMENT ON FUNCTION lastseat.remove_events IS
'Removes the oldest rows of taken_events that are too old; returns how many. For worker retain run.

max_rows: at most so many.';
GRANT EXECUTE ON FUNCTION lastseat.remove_events TO lastseat_keeper;

CREATE OR REPLACE FUNCTION lastseat.note_removal(
    relation text, keys text[], digests bytea[], number bigint, at timestamptz, hash bytea
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    -- A keeper's link is the next one, and of this moment: no link that a later one could not follow, and none from the
    -- future, before which everything would count as removed.
    IF note_removal.at IS DISTINCT FROM now() THEN
        RAISE EXCEPTION 'the time of a removal is %', coalesce(note_removal.at::text, 'null')
            USING ERRCODE = 'LS002', COLUMN = 'at', HINT = 'It is that of its transaction: now().';
    ELSIF note_removal.number IS DISTINCT FROM 1 + coalesce(
        (SELECT h.number FROM history h WHERE h.chain = 'retention' ORDER BY h.number DESC LIMIT 1), 0) THEN
        RAISE EXCEPTION 'link % of the chain retention is not the next one', coalesce(note_removal.number::text, 'null')
            USING ERRCODE = 'serialization_failure', HINT = 'Another keeper was quicker. Read the last one again.';
    END IF;
    -- Another keeper may add it in this moment: then the primary key refuses this one.
    INSERT INTO history (chain, number, at, relation, keys, digests, hash)
    VALUES ('retention', note_removal.number, note_removal.at, note_removal.relation, note_removal.keys,
            note_removal.digests, note_removal.hash);
END $$;
COMMENT ON FUNCTION lastseat.note_removal IS 'Adds a link to the chain retention of the history.

relation: the table, and .removed or .archived.
keys: the rows.
digests: of each of them.
number: the link''s number.
at: the time that its hash has: that of the transaction.
hash: its hash.

Errors: LS002; 40001 another keeper was quicker.';

CREATE OR REPLACE FUNCTION lastseat.remove_requests(
    keys text[], digests bytea[], number bigint, at timestamptz, hash bytea, archived boolean DEFAULT false
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    logged CONSTANT timestamptz := (SELECT e.before FROM removed e WHERE e.what = 'outcome_log');
    rows   tid[];
    youngest timestamptz;
    gone   bigint;
BEGIN
    SELECT array_agg(q.row), max(q.settled_at) INTO rows, youngest
    FROM unnest(remove_requests.keys) AS a(key)
    JOIN LATERAL (SELECT r.ctid AS row, r.key, r.settled_at, r.kind, r.job_id FROM requests r
                  WHERE r.key = a.key AND r.status <> 'pending' OFFSET 0) q ON true
    WHERE q.settled_at < logged
      AND q.settled_at < now() - make_interval(hours => 24 * coalesce(
          (SELECT p.days FROM retention p WHERE p.what = 'requests:' || q.kind AND p.days IS NOT NULL),
          CASE WHEN NOT EXISTS (SELECT FROM retention p WHERE p.what = 'requests:' || q.kind) THEN
              (SELECT p.days FROM retention p WHERE p.what = 'requests') END))
      -- a job that is still there would bring the request back when somebody retries it
      AND NOT EXISTS (SELECT FROM river_job j WHERE j.id = q.job_id)
      -- a call's key is made of the request's: a second use would be taken for the first by whoever is called
      AND NOT EXISTS (SELECT FROM calls c WHERE c.key = q.key);
    gone := coalesce(cardinality(rows), 0);
    IF gone = cardinality(remove_requests.keys) THEN
        PERFORM note_removal(CASE WHEN archived THEN 'requests.archived' ELSE 'requests.removed' END, remove_requests.keys, remove_requests.digests, remove_requests.number,
                             remove_requests.at, remove_requests.hash);
        INSERT INTO removed AS e (what, before) VALUES ('requests', date_trunc('hour', youngest) + interval '1 hour')
        ON CONFLICT (what) DO UPDATE SET before = EXCLUDED.before WHERE e.before < EXCLUDED.before;
        DELETE FROM requests r WHERE r.ctid = ANY (rows) AND r.status <> 'pending';
        GET DIAGNOSTICS gone = ROW_COUNT;
    END IF;
    IF gone <> cardinality(remove_requests.keys) THEN
        RAISE EXCEPTION '% of % requests may not be removed', cardinality(remove_requests.keys) - gone,
            cardinality(remove_requests.keys)
            USING ERRCODE = 'serialization_failure',
                  HINT = 'A failed one may have been retried meanwhile, or how long they are kept have changed. Look again.';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.remove_requests IS
'Removes settled requests that are too old, and notes that in the history: all of them, or none. For worker retain run.

keys: their keys.
digests: of each of them.
number: that of the link of the chain retention, the next one.
at: its time, now().
hash: its hash.
archived: whether a file has the rows.

Errors: LS002; 40001 another keeper was quicker, or one of them is not too old, or not there, or its feed or its job is.';
GRANT EXECUTE ON FUNCTION lastseat.remove_requests TO lastseat_keeper;

CREATE OR REPLACE FUNCTION lastseat.is_expired(key text)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp SET enable_seqscan = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM transfers t WHERE t.key = is_expired.key)
           OR EXISTS (SELECT FROM removed_ids r WHERE r.what = 'transfers' AND r.id = is_expired.key);
END $$;
COMMENT ON FUNCTION lastseat.is_expired IS 'Whether a key that is in no request has moved money.

key: the key.';

-- A key is free again once its request is gone. But where money has moved under it, and the ledger still has that, a
-- second use is refused: the same key could not move money twice anyway.
CREATE OR REPLACE FUNCTION lastseat.check_expired(keys text[])
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    moved transfers;
    gone  record;
BEGIN
    IF NOT EXISTS (SELECT FROM removed) THEN
        RETURN;
    END IF;
    SELECT t.* INTO moved
    FROM unnest(check_expired.keys) AS a(key)
    JOIN LATERAL (SELECT q.* FROM transfers q WHERE q.key = a.key LIMIT 1) t ON true LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'key "%" has moved money at %, and its request is no longer kept', moved.key,
            to_char(moved.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
            USING ERRCODE = 'LS001', COLUMN = 'key', DETAIL = format('Transfer %s: %s %s from "%s" to "%s".', moved.id, moved.amount,
                moved.currency, moved.from_account, moved.to_account),
                  HINT = 'If this is the same request, it is done. Take a new key for a new one.';
    END IF;
    -- after the transfers: what goes in this moment is seen here or there
    SELECT r.* INTO gone
    FROM unnest(check_expired.keys) AS a(key)
    JOIN LATERAL (SELECT q.id FROM removed_ids q WHERE q.what = 'transfers' AND q.id = a.key OFFSET 0) r ON true LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'key "%" has moved money, and its request is no longer kept', gone.id
            USING ERRCODE = 'LS001', COLUMN = 'key', DETAIL = 'Its transfer is no longer kept either.',
                  HINT = 'If this is the same request, it is done. Take a new key for a new one.';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_expired IS
'Refuses a key whose request is no longer kept if it has moved money.

keys: keys that are in no request but the caller''s own.

Errors: LS001.';
