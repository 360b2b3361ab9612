-- Outcomes: what came of requests, one by one and as a feed.

CREATE OR REPLACE FUNCTION lastseat.outcome(key text)
RETURNS SETOF lastseat.request_outcome
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
BEGIN ATOMIC
    SELECT r.key, r.kind, r.status, r.code, r.detail, r.attempts, r.job_id, r.requested_at, r.settled_at
    FROM lastseat.requests r WHERE r.key = outcome.key;
END;
COMMENT ON FUNCTION lastseat.outcome IS
'What came of the request with this key: one row, or none if the key was never used, or is no longer kept '
'(lastseat.retention()).

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
'What came of the requests with these keys, in the order of the keys. Keys that were never used, or are no longer kept, are left out.

keys: the idempotency keys.';
GRANT EXECUTE ON FUNCTION lastseat.outcomes TO lastseat_producer, lastseat_worker, lastseat_viewer;

-- Two databases in which the same transaction id may mean two transactions differ in this. The timeline of the
-- server is that of the WAL that it writes now: the control file has it only after the next checkpoint.
CREATE OR REPLACE FUNCTION lastseat.server_history()
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL; -- that of the server that it follows
    END IF;
    RETURN concat_ws('/', (SELECT c.system_identifier FROM pg_control_system() c),
                     left(pg_walfile_name(pg_current_wal_lsn()), 8),
                     (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()));
END $$;
COMMENT ON FUNCTION lastseat.server_history IS
'What tells this server''s transaction ids from those of others: its system identifier, its timeline and the '
'database''s oid; null on a standby. For worker doctor.';
GRANT EXECUTE ON FUNCTION lastseat.server_history TO lastseat_worker, lastseat_viewer;

CREATE OR REPLACE FUNCTION lastseat.current_timeline()
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    here  CONSTANT text := server_history();
    known timelines;
    ended outcome_log;
BEGIN
    SELECT * INTO known FROM timelines t ORDER BY t.number DESC LIMIT 1;
    IF known.server = here THEN
        RETURN known.number;
    END IF;
    -- Nothing can be added to the timeline before: its server is another one, or its transactions have ended.
    SELECT * INTO ended FROM outcome_log l WHERE l.timeline = known.number
    ORDER BY l.timeline DESC, l.xid DESC, l.number DESC LIMIT 1;
    INSERT INTO timelines (number, token, server, last_xid, last_number)
    VALUES (coalesce(known.number, 0) + 1, left(replace(gen_random_uuid()::text, '-', ''), 12), here,
            coalesce(ended.xid, '0'), coalesce(ended.number, 0))
    ON CONFLICT (number) DO NOTHING; -- another session of this server has just done the same
    RETURN coalesce(known.number, 0) + 1;
END $$;
COMMENT ON FUNCTION lastseat.current_timeline IS
'The timeline of what is settled now; begins a new one after a failover or a restore. For the worker.';
GRANT EXECUTE ON FUNCTION lastseat.current_timeline TO lastseat_worker;

-- Refuses a cursor whose reader has read what this database does not have.
CREATE OR REPLACE FUNCTION lastseat.check_cursor(since text, timeline integer, xid xid8, number bigint, place integer)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    next timelines;
    gone removed;
BEGIN
    SELECT * INTO gone FROM removed g WHERE g.what = 'outcome_log';
    IF (check_cursor.timeline, check_cursor.xid, check_cursor.number, check_cursor.place)
       < (gone.last_timeline, gone.last_xid, gone.last_number, gone.last_place) THEN
        RAISE EXCEPTION 'outcomes after the cursor "%" are no longer kept', since
            USING ERRCODE = 'LS002',
                  DETAIL = 'Outcomes are removed from the feed some time after they were settled: lastseat.retention() has '
                           'how long they are kept.',
                  HINT = 'Go on with the oldest that is kept, lastseat.outcomes_since(''''). For what came between, ask for '
                         'the keys that you wait for: lastseat.outcomes(keys).';
    END IF;
    IF check_cursor.number = 0 THEN
        IF check_cursor.xid > pg_snapshot_xmax(pg_current_snapshot()) AND NOT pg_is_in_recovery() AND EXISTS (
            SELECT FROM timelines t WHERE t.number = check_cursor.timeline AND t.server = server_history()) THEN
            RAISE EXCEPTION 'the cursor "%" is ahead of this database', since
                USING ERRCODE = 'LS002', HINT = 'Begin with lastseat.outcomes_cursor(), or at the beginning.';
        END IF;
        RETURN; -- nothing was read with it
    END IF;
    SELECT * INTO next FROM timelines t WHERE t.number = check_cursor.timeline + 1;
    IF FOUND THEN
        IF (check_cursor.xid, check_cursor.number) > (next.last_xid, next.last_number) THEN
            RAISE EXCEPTION 'you have read outcomes up to the cursor "%" that this database does not have', since
                USING ERRCODE = 'LS002',
                      DETAIL = 'It was restored, or a standby took over, as of an earlier time. What was settled after '
                               'that is lost here, and may be settled anew.',
                      HINT = format('Go on with lastseat.outcomes_since(%L), the last outcome that both have.',
                                    concat_ws('.', split_part(since, '.', 1), next.last_xid, next.last_number,
                                              999999999));
        END IF;
    ELSIF NOT pg_is_in_recovery() -- a standby may come after the server that it follows
          AND NOT EXISTS (SELECT FROM outcome_log l
                          WHERE (l.timeline, l.xid, l.number)
                                = (check_cursor.timeline, check_cursor.xid, check_cursor.number)
                            AND cardinality(l.keys) >= check_cursor.place)
          -- unless it was deleted, together with all that are older
          AND EXISTS (SELECT FROM outcome_log l
                      WHERE (l.timeline, l.xid, l.number)
                            < (check_cursor.timeline, check_cursor.xid, check_cursor.number)) THEN
        RAISE EXCEPTION 'you have read outcomes up to the cursor "%" that this database does not have', since
            USING ERRCODE = 'LS002',
                  DETAIL = 'It was restored, or a standby took over, as of an earlier time. What was settled after '
                           'that is lost here, and may be settled anew.',
                  HINT = 'Begin at the beginning, lastseat.outcomes_since(''''), and pass over the keys that you have.';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_cursor IS
'Refuses a cursor of outcomes that this database does not have, or that has outcomes behind it that are gone.

since: the cursor.
timeline: the number of its timeline.
xid: its transaction.
number: its number within the transaction.
place: its place in the row.

Errors: LS002.';

-- A cursor is opaque text: timeline, transaction, row of the log, place in the row. The loop reads the log row by row,
-- so that a page costs what is on it, whatever plan Postgres would choose for the rest.
CREATE OR REPLACE FUNCTION lastseat.outcomes_since(since text DEFAULT '', max_rows integer DEFAULT 1000)
RETURNS TABLE (
    cursor text, key text, kind text, status text, code text, detail jsonb, attempts integer, job_id bigint,
    requested_at timestamptz, settled_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    mark    CONSTANT text[] := regexp_match(coalesce(nullif(since, ''), '0.0.0.0'),
                                            '^([0-9a-f]{12}|0)[.]([0-9]{1,19})[.]([0-9]{1,18})[.]([0-9]{1,9})$');
    oldest  CONSTANT xid8 := pg_snapshot_xmin(pg_current_snapshot());
    begun   integer := 0; -- the cursor's timeline
    foreign_ids integer; -- up to this timeline, the transaction ids are another server's
    logged  record;
    passed  integer; -- keys of the row
    wanted  integer := max_rows;
    got     integer;
BEGIN
    IF mark IS NULL THEN
        RAISE EXCEPTION '"%" is no cursor', left(since, 50)
            USING ERRCODE = 'LS002',
                  HINT = 'Give the cursor of the last row that you have, or nothing to begin at the beginning.';
    ELSIF max_rows IS NULL OR max_rows < 1 THEN
        RAISE EXCEPTION 'max_rows is %', coalesce(max_rows::text, 'null')
            USING ERRCODE = 'LS002', HINT = 'Ask for 1 row or more.';
    ELSIF mark[1] <> '0' THEN
        SELECT t.number INTO begun FROM timelines t WHERE t.token = mark[1];
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the cursor "%" is of a database that this one does not come from', since
                USING ERRCODE = 'LS002',
                      DETAIL = 'Or of one that went on after this one was copied, restored or promoted from it.',
                      HINT = 'Begin at the beginning, lastseat.outcomes_since(''''), and pass over the keys that you '
                             'have; or with lastseat.outcomes_cursor(), for what is settled from now on.';
        END IF;
        PERFORM check_cursor(since, begun, mark[2]::xid8, mark[3]::bigint, mark[4]::integer);
    END IF;
    foreign_ids := (SELECT coalesce(max(t.number), 0) FROM timelines t
                    WHERE split_part(t.server, '/', 1) <> (SELECT c.system_identifier::text FROM pg_control_system() c));
    FOR logged IN
        SELECT t.token, l.timeline, l.xid, l.number, l.settled_at, l.keys
        FROM outcome_log l JOIN timelines t ON t.number = l.timeline
        WHERE (l.timeline, l.xid, l.number) >= (begun, mark[2]::xid8, mark[3]::bigint)
          AND (l.timeline <= foreign_ids OR l.xid < oldest)
        ORDER BY l.timeline, l.xid, l.number
    LOOP
        passed := CASE WHEN (logged.timeline, logged.xid, logged.number) = (begun, mark[2]::xid8, mark[3]::bigint)
                      THEN mark[4]::integer ELSE 0 END;
        WHILE passed < cardinality(logged.keys) LOOP
            RETURN QUERY
                SELECT concat_ws('.', logged.token, logged.xid, logged.number, passed + k.n),
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

since: the cursor of the last row that you have; empty: from the oldest outcome that is kept.
max_rows: at most so many.

Errors: LS002 not a cursor; or one of outcomes that this database does not have: it was restored, or a standby took '
'over, as of an earlier time; or outcomes after it are no longer kept. The hint says how to go on.';
GRANT EXECUTE ON FUNCTION lastseat.outcomes_since TO lastseat_producer, lastseat_worker, lastseat_viewer;

-- Whatever is settled from now on is settled by a transaction that is open now or begins later; after a restore or a
-- failover, in a timeline that is yet to begin.
CREATE OR REPLACE FUNCTION lastseat.outcomes_cursor()
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
DECLARE
    last record;
BEGIN
    SELECT t.token, t.server INTO last FROM timelines t ORDER BY t.number DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN ''; -- nothing was settled yet
    ELSIF last.server <> server_history() THEN
        RETURN concat_ws('.', last.token, '9223372036854775807', 0, 0);
    END IF;
    RETURN concat_ws('.', last.token, pg_snapshot_xmin(pg_current_snapshot()), 0, 0);
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
        INSERT INTO requests (key, kind, fingerprint, job_id, status, code, ordering, requested_at, settled_at)
        SELECT 'lastseat:' || record.kind || ':' || id, record.kind,
               fingerprint(record.kind, jsonb_build_object(record.argument, id)),
               0, 'applied', record.code, id, now(), now()
        FROM unnest(record.ids) AS id
        -- a key of a caller's, from before they were kept apart: what ran out is given back all the same
        ON CONFLICT (key) DO NOTHING
        RETURNING requests.key)
    -- written before the outcomes of the batch that brought it about, and to be read after them: a hold waits, and
    -- then is granted
    INSERT INTO outcome_log (timeline, number, settled_at, keys)
    SELECT current_timeline(), 100000000000000000 + nextval('outcome_log_number_seq'), now(), array_agg(r.key)
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

-- For what is settled, or made pending again, outside the lane.
CREATE OR REPLACE FUNCTION lastseat.note_request(key text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    INSERT INTO history_waiting (relation, key, columns)
    SELECT 'requests', r.key, ARRAY[
        r.key, r.kind, encode(r.fingerprint, 'hex'), r.job_id::text,
        (extract(epoch FROM r.requested_at) * 1000000)::bigint::text, r.status, r.code, r.detail::text,
        r.attempts::text, (extract(epoch FROM r.settled_at) * 1000000)::bigint::text]
    FROM requests r WHERE r.key = note_request.key;
END $$;
COMMENT ON FUNCTION lastseat.note_request IS 'Leaves a request as it is now to the history.

key: its key.';
