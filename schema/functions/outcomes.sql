-- Outcomes: what came of requests, one by one and as a feed.

CREATE OR REPLACE FUNCTION lastseat.outcome(key text)
RETURNS SETOF lastseat.request_outcome
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
BEGIN ATOMIC
    SELECT r.key, r.kind, r.status, r.code, r.detail, r.attempts, r.job_id, r.requested_at, r.settled_at
    FROM lastseat.requests r WHERE r.key = outcome.key;
END;
COMMENT ON FUNCTION lastseat.outcome IS
'What came of the request with this key: one row, or none if the key was never used.

key: the idempotency key.';
GRANT EXECUTE ON FUNCTION lastseat.outcome TO lastseat_producer, lastseat_worker, lastseat_viewer;

CREATE OR REPLACE FUNCTION lastseat.outcomes(keys text[])
RETURNS SETOF lastseat.request_outcome
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT r.key, r.kind, r.status, r.code, r.detail, r.attempts, r.job_id, r.requested_at, r.settled_at
        FROM unnest(outcomes.keys) WITH ORDINALITY AS asked(key, n)
        JOIN LATERAL (SELECT q.* FROM requests q WHERE q.key = asked.key OFFSET 0) r ON true ORDER BY asked.n;
END $$;
COMMENT ON FUNCTION lastseat.outcomes IS
'What came of the requests with these keys, in the order of the keys. Keys that were never used are left out.

keys: the idempotency keys.';
GRANT EXECUTE ON FUNCTION lastseat.outcomes TO lastseat_producer, lastseat_worker, lastseat_viewer;

-- A cursor is opaque text: transaction, row of the log, place in the row. The loop reads the log row by row, so
-- that a page costs what is on it, whatever plan Postgres would choose for the rest.
CREATE OR REPLACE FUNCTION lastseat.outcomes_since(since text DEFAULT '', max_rows integer DEFAULT 1000)
RETURNS TABLE (
    cursor text, key text, kind text, status text, code text, detail jsonb, attempts integer, job_id bigint,
    requested_at timestamptz, settled_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    mark     CONSTANT text[] := regexp_match(
        coalesce(nullif(since, ''), '0.0.0'), '^([0-9]{1,19})[.]([0-9]{1,18})[.]([0-9]{1,9})$');
    snapshot CONSTANT pg_snapshot := pg_current_snapshot();
    logged   record;
    passed   integer; -- keys of the row
    wanted   integer := max_rows;
    got      integer;
BEGIN
    IF mark IS NULL THEN
        RAISE EXCEPTION '"%" is no cursor', left(since, 50)
            USING ERRCODE = 'LS002',
                  HINT = 'Give the cursor of the last row that you have, or nothing to begin at the beginning.';
    ELSIF max_rows IS NULL OR max_rows < 1 THEN
        RAISE EXCEPTION 'max_rows is %', coalesce(max_rows::text, 'null')
            USING ERRCODE = 'LS002', HINT = 'Ask for 1 row or more.';
    ELSIF mark[1]::xid8 > pg_snapshot_xmax(snapshot) AND NOT pg_is_in_recovery() THEN
        RAISE EXCEPTION 'the cursor "%" is ahead of this database', since
            USING ERRCODE = 'LS002',
                  HINT = 'It is of another server, or of before a restore from a dump. Begin with '
                         'lastseat.outcomes_cursor(), or at the beginning.';
    END IF;
    FOR logged IN
        SELECT l.xid, l.number, l.settled_at, l.keys FROM outcome_log l
        WHERE (l.xid, l.number) >= (mark[1]::xid8, mark[2]::bigint) AND l.xid < pg_snapshot_xmin(snapshot)
        ORDER BY l.xid, l.number
    LOOP
        passed := CASE WHEN (logged.xid, logged.number) = (mark[1]::xid8, mark[2]::bigint) THEN mark[3]::integer
                 ELSE 0 END;
        WHILE passed < cardinality(logged.keys) LOOP
            RETURN QUERY
                SELECT concat_ws('.', logged.xid, logged.number, passed + k.n),
                       r.key, r.kind, r.status, r.code, r.detail, r.attempts, r.job_id, r.requested_at, r.settled_at
                FROM unnest(logged.keys[passed + 1 : passed::bigint + wanted]) WITH ORDINALITY AS k(key, n)
                -- one that was settled again since, by a retry, comes up later
                JOIN LATERAL (SELECT q.* FROM requests q WHERE q.key = k.key OFFSET 0) r
                  ON r.settled_at = logged.settled_at AND r.status <> 'pending'
                ORDER BY k.n;
            GET DIAGNOSTICS got = ROW_COUNT;
            passed := least(passed::bigint + wanted, cardinality(logged.keys));
            wanted := wanted - got;
            IF wanted = 0 THEN
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END $$;
COMMENT ON FUNCTION lastseat.outcomes_since IS
'The outcomes that were settled after a cursor, in the order in which they were settled, each with the cursor to '
'continue from. It misses none and repeats none: an outcome appears once every transaction that began to write '
'before its own has ended. A failed request that is retried gets another outcome later; if the first was not read '
'by then, only the later one appears. Read it at READ COMMITTED. To work on each outcome once, store the cursor in '
'the transaction that works on the rows.

since: the cursor of the last row that you have; empty: from the beginning.
max_rows: at most so many.

Errors: LS002 not a cursor, or one of another server.';
GRANT EXECUTE ON FUNCTION lastseat.outcomes_since TO lastseat_producer, lastseat_worker, lastseat_viewer;

-- Whatever is settled from now on is settled by a transaction that is open now or begins later.
CREATE OR REPLACE FUNCTION lastseat.outcomes_cursor()
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN concat_ws('.', pg_snapshot_xmin(pg_current_snapshot()), 0, 0);
END $$;
COMMENT ON FUNCTION lastseat.outcomes_cursor IS
'The cursor for a reader that wants only what is settled from now on. Outcomes of a transaction that overlaps with '
'this moment may appear too.';
GRANT EXECUTE ON FUNCTION lastseat.outcomes_cursor TO lastseat_producer, lastseat_worker, lastseat_viewer;

CREATE OR REPLACE FUNCTION lastseat.record(kind text, argument text, code text, ids text[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    WITH recorded AS (
        INSERT INTO requests (key, kind, fingerprint, job_id, status, code, requested_at, settled_at)
        SELECT 'lastseat:' || record.kind || ':' || id, record.kind,
               fingerprint(record.kind, jsonb_build_object(record.argument, id)),
               0, 'applied', record.code, now(), now()
        FROM unnest(record.ids) AS id
        -- a key of a caller's, from before they were kept apart: what ran out is given back all the same
        ON CONFLICT (key) DO NOTHING
        RETURNING requests.key)
    -- written before the outcomes of the batch that brought it about, and to be read after them: a hold waits, and
    -- then is granted
    INSERT INTO outcome_log (number, settled_at, keys)
    SELECT 100000000000000000 + nextval('outcome_log_number_seq'), now(), array_agg(r.key)
    FROM recorded r HAVING count(*) > 0;
END $$;
COMMENT ON FUNCTION lastseat.record IS
'Records what happened because time passed, without a request (an authorization that expired): an applied request '
'under a key of the worker''s own, lastseat:KIND:ID. For the worker.

kind: payment.expire, reservation.expire or reservation.grant.
argument: the name of the argument that holds the id.
code: the outcome''s code.
ids: the payments or reservations.';
GRANT EXECUTE ON FUNCTION lastseat.record TO lastseat_worker;

-- Transaction ids belong to a cluster. A dump that is restored into another one brings a log with ids of the old
-- cluster, which may be ahead of the new one's.
CREATE OR REPLACE FUNCTION lastseat.rebuild_outcome_log()
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    LOCK TABLE requests IN SHARE ROW EXCLUSIVE MODE; -- nothing is settled meanwhile
    DELETE FROM outcome_log;
    INSERT INTO outcome_log (settled_at, keys)
    SELECT r.settled_at, array_agg(r.key ORDER BY r.place, r.job_id, r.key) FROM requests r WHERE r.status <> 'pending'
    GROUP BY r.settled_at ORDER BY r.settled_at;
END $$;
COMMENT ON FUNCTION lastseat.rebuild_outcome_log IS
'Rebuilds the outcome log from the requests. For the owner, after a restore from a dump into another server; every '
'reader then begins anew.';
