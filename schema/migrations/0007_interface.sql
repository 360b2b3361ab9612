-- The shared database as an interface: many requests in one call, a queue of one's own, outcomes in the order in which they
-- were settled.

-- +goose Up

-- A cursor over outcomes has to miss nothing. Numbers that are given out before a commit don't do: a later one may be
-- committed first. So each transaction that settles leaves its id here, and a reader goes no further than the oldest
-- transaction that is still open. A row for each batch and not for each request, and no index on requests: the update that
-- settles them touches no index as it is.
CREATE TABLE lastseat.outcome_log (
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    number     bigint GENERATED ALWAYS AS IDENTITY,
    settled_at timestamptz NOT NULL,
    keys       text[] COLLATE "C" NOT NULL,
    PRIMARY KEY (xid, number)
);
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON lastseat.outcome_log
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('Readers rely on it. Rows that all of them have read may be deleted.');

-- +goose StatementBegin
CREATE FUNCTION lastseat.log_outcomes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    -- What is settled now was pending before: nothing else is let by (settled_once).
    INSERT INTO outcome_log (settled_at, keys)
    SELECT n.settled_at, array_agg(n.key) FROM settled n WHERE n.status <> 'pending' GROUP BY n.settled_at;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER logged AFTER UPDATE ON lastseat.requests REFERENCING NEW TABLE AS settled
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.log_outcomes();
-- What was settled before there was a log.
INSERT INTO lastseat.outcome_log (settled_at, keys)
SELECT settled_at, array_agg(key ORDER BY job_id, key) FROM lastseat.requests WHERE status <> 'pending' GROUP BY settled_at ORDER BY settled_at;

-- +goose StatementBegin
CREATE FUNCTION lastseat.record(kind text, argument text, code text, ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    WITH recorded AS (
        INSERT INTO requests (key, kind, fingerprint, job_id, status, code, requested_at, settled_at)
        SELECT 'lastseat:' || record.kind || ':' || id, record.kind, fingerprint(record.kind, jsonb_build_object(record.argument, id)), 0, 'applied', record.code, now(), now()
        FROM unnest(record.ids) AS id
        -- a key of a caller's, from before they were kept apart: what ran out is given back all the same
        ON CONFLICT (key) DO NOTHING
        RETURNING requests.key)
    INSERT INTO outcome_log (settled_at, keys) SELECT now(), array_agg(r.key) FROM recorded r HAVING count(*) > 0;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.outcomes(keys text[]) RETURNS SETOF lastseat.request_outcome
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT r.key, r.kind, r.status, r.code, r.detail, r.attempts, r.job_id, r.requested_at, r.settled_at
        FROM unnest(outcomes.keys) WITH ORDINALITY AS asked(key, n) JOIN requests r ON r.key = asked.key ORDER BY asked.n;
END $$;
-- +goose StatementEnd

-- A cursor is text that means nothing to its reader: transaction, row of the log, place in the row.
-- +goose StatementBegin
CREATE FUNCTION lastseat.outcomes_since(since text DEFAULT '', max_rows integer DEFAULT 1000)
RETURNS TABLE (cursor text, key text, kind text, status text, code text, detail jsonb, attempts integer, job_id bigint, requested_at timestamptz, settled_at timestamptz) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    mark text[] := regexp_match(coalesce(nullif(since, ''), '0.0.0'), '^([0-9]{1,19})[.]([0-9]{1,18})[.]([0-9]{1,18})$');
BEGIN
    IF mark IS NULL THEN
        RAISE EXCEPTION '"%" is no cursor', left(since, 50) USING ERRCODE = 'LS002', HINT = 'Give the cursor of the last row that you have, or nothing to begin at the beginning.';
    ELSIF max_rows IS NULL OR max_rows < 1 THEN
        RAISE EXCEPTION 'max_rows is %', coalesce(max_rows::text, 'null') USING ERRCODE = 'LS002', HINT = 'Ask for 1 row or more.';
    END IF;
    RETURN QUERY
        SELECT concat_ws('.', l.xid, l.number, k.place), r.key, r.kind, r.status, r.code, r.detail, r.attempts, r.job_id, r.requested_at, r.settled_at
        FROM outcome_log l
        CROSS JOIN LATERAL unnest(l.keys) WITH ORDINALITY AS k(key, place)
        -- one that was settled again since, by a retry, comes up later
        JOIN requests r ON r.key = k.key AND r.settled_at = l.settled_at AND r.status <> 'pending'
        WHERE (l.xid, l.number) >= (mark[1]::xid8, mark[2]::bigint)
          AND (l.xid, l.number, k.place) > (mark[1]::xid8, mark[2]::bigint, mark[3]::bigint)
          AND l.xid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY l.xid, l.number, k.place
        LIMIT max_rows;
END $$;
-- +goose StatementEnd

-- Where a reader begins that wants only what is settled from now on.
-- +goose StatementBegin
CREATE FUNCTION lastseat.outcomes_cursor()
RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT concat_ws('.', l.xid, l.number, cardinality(l.keys)) FROM outcome_log l
                     WHERE l.xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY l.xid DESC, l.number DESC LIMIT 1), '0.0.0');
END $$;
-- +goose StatementEnd

-- What every request has to obey, whichever function it comes through.
-- +goose StatementBegin
CREATE FUNCTION lastseat.check_request(kind text, key text, args jsonb, scheduled_at timestamptz, queue text)
RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_key(check_request.key);
    IF check_request.kind IS NULL OR char_length(check_request.kind) NOT BETWEEN 1 AND 127 THEN
        RAISE EXCEPTION 'the kind is %', coalesce('"' || check_request.kind || '"', 'null')
            USING ERRCODE = 'LS002', HINT = 'A kind has 1 to 127 characters: payment.transfer, for example.';
    END IF;
    IF check_request.args IS NULL OR jsonb_typeof(check_request.args) <> 'object' THEN
        RAISE EXCEPTION 'the arguments of request "%" are %', check_request.key, coalesce('a JSON ' || jsonb_typeof(check_request.args), 'null')
            USING ERRCODE = 'LS002', HINT = 'Arguments are a JSON object: {"from": "a", "to": "b", ...}.';
    END IF;
    IF octet_length((check_request.args - 'key')::text) > 65536 THEN
        RAISE EXCEPTION 'the arguments of request "%" are % bytes', check_request.key, octet_length((check_request.args - 'key')::text)
            USING ERRCODE = 'LS004', HINT = 'At most 65536 bytes (64 KiB). Keep what is larger in a table of your own and pass its id.';
    END IF;
    IF check_request.scheduled_at = 'infinity' THEN
        RAISE EXCEPTION 'request "%" is scheduled for infinity', check_request.key
            USING ERRCODE = 'LS002', HINT = 'Give the time at which it may be done, or none.';
    END IF;
    IF check_request.args ? 'key' AND check_request.args ->> 'key' IS DISTINCT FROM check_request.key THEN
        RAISE EXCEPTION 'the arguments of request "%" hold another key, %', check_request.key, check_request.args -> 'key'
            USING ERRCODE = 'LS002', HINT = 'Leave "key" out of the arguments, or give the same.';
    END IF;
    PERFORM check_args(check_request.kind, check_request.args);
    IF check_request.queue IS DISTINCT FROM 'lastseat' THEN
        IF check_request.queue IS NULL OR check_request.queue !~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$' THEN -- River's rule
            RAISE EXCEPTION 'the queue is %', coalesce('"' || left(check_request.queue, 80) || '"', 'null')
                USING ERRCODE = 'LS002', HINT = 'A queue has 1 to 64 letters, digits, hyphens and underscores.';
        ELSIF check_request.kind ~ '^(payment|reservation|booking)[.]' THEN
            RAISE EXCEPTION 'a % request can''t go to the queue "%"', check_request.kind, check_request.queue
                USING ERRCODE = 'LS002', HINT = 'Payments, reservations and bookings share one queue, so that they have one order.';
        END IF;
    END IF;
END $$;
-- +goose StatementEnd

DROP FUNCTION lastseat.enqueue(text, text, jsonb, timestamptz);
-- +goose StatementBegin
CREATE FUNCTION lastseat.enqueue(kind text, key text, args jsonb, scheduled_at timestamptz DEFAULT now(), queue text DEFAULT 'lastseat') RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    job    bigint;
    mark   bytea;
    asked  timestamptz;
    known  requests;
BEGIN
    PERFORM check_request(enqueue.kind, enqueue.key, enqueue.args, enqueue.scheduled_at, enqueue.queue);

    -- Not now(): a transaction that began early and asks late would be scheduled before what was committed meanwhile.
    asked := clock_timestamp();
    mark := fingerprint(enqueue.kind, enqueue.args);
    job := nextval('river_job_id_seq');
    INSERT INTO requests (key, kind, fingerprint, job_id, requested_at) VALUES (enqueue.key, enqueue.kind, mark, job, asked)
    ON CONFLICT (key) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO STRICT known FROM requests r WHERE r.key = enqueue.key;
        IF known.kind <> enqueue.kind OR known.fingerprint <> mark THEN
            RAISE EXCEPTION 'key "%" was used at % for another % request', enqueue.key, to_char(known.requested_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), known.kind
                USING ERRCODE = 'LS001', DETAIL = format('It is %s.', concat_ws(', ', known.status, known.code)),
                      HINT = 'A key stands for one request. Take a new key for a new one, or send the same arguments again.';
        END IF;
        RETURN ROW(known.key, known.kind, known.status, true)::receipt;
    END IF;

    PERFORM begin_request(enqueue.kind, enqueue.key, enqueue.args, asked);
    INSERT INTO river_job (id, kind, queue, args, state, scheduled_at)
    VALUES (job, enqueue.kind, enqueue.queue, enqueue.args || jsonb_build_object('key', enqueue.key),
            CASE WHEN enqueue.scheduled_at > asked THEN 'scheduled' ELSE 'available' END::river_job_state,
            greatest(enqueue.scheduled_at, asked));
    PERFORM ring(enqueue.queue);
    RETURN ROW(enqueue.key, enqueue.kind, 'pending', false)::receipt;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.enqueue(text, text, jsonb, timestamptz, text) IS
    'Asks for a request of any kind inside the caller''s transaction. The same key with the same kind and arguments is a duplicate and changes nothing; with anything else it is error LS001. queue: where a worker of your own settles it.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.enqueue_many(requests jsonb)
RETURNS SETOF lastseat.receipt LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    asked   CONSTANT timestamptz := clock_timestamp();
    element jsonb;
    n       integer := 0;
    names   CONSTANT text[] := '{kind,key,args,scheduled_at,queue}';
    message text;
    detail  text;
    hint    text;
    state   text;
BEGIN
    IF enqueue_many.requests IS NULL OR jsonb_typeof(enqueue_many.requests) <> 'array' THEN
        RAISE EXCEPTION 'the requests are %', coalesce('a JSON ' || jsonb_typeof(enqueue_many.requests), 'null')
            USING ERRCODE = 'LS002', HINT = 'Requests are a JSON array: [{"kind": "payment.transfer", "key": "k1", "args": {...}}, ...].';
    END IF;
    FOR element IN SELECT value FROM jsonb_array_elements(enqueue_many.requests) LOOP
        n := n + 1;
        IF jsonb_typeof(element) <> 'object' OR element - names <> '{}' THEN
            RAISE EXCEPTION 'it is %', left(element::text, 100) USING ERRCODE = 'LS002', HINT = 'A request is an object of kind, key, args, and scheduled_at and queue if need be.';
        END IF;
        PERFORM check_time_arg('scheduled_at', element -> 'scheduled_at');
        RETURN NEXT enqueue(element ->> 'kind', element ->> 'key', element -> 'args', coalesce(time_of(element ->> 'scheduled_at'), asked), coalesce(element ->> 'queue', 'lastseat'));
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    IF state NOT LIKE 'LS%' OR n = 0 THEN
        RAISE;
    END IF;
    RAISE EXCEPTION 'request % (key %): %', n, coalesce(quote_ident(left(element ->> 'key', 50)), 'null'), message USING ERRCODE = state, DETAIL = detail, HINT = hint;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.enqueue_many(jsonb) IS
    'Asks for many requests inside the caller''s transaction, all or none: [{"kind", "key", "args", "scheduled_at", "queue"}]. One receipt for each, in their order. An error names the element, from 1.';

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.retry(key text) RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known requests;
BEGIN
    PERFORM check_key(retry.key);
    -- Locked only if it is failed: the worker has to get at a pending one.
    SELECT * INTO known FROM requests r WHERE r.key = retry.key;
    IF known.status = 'failed' THEN
        SELECT * INTO known FROM requests r WHERE r.key = retry.key FOR UPDATE;
    END IF;
    IF known.key IS NULL THEN
        RAISE EXCEPTION 'no request has the key "%"', retry.key USING ERRCODE = 'LS003', HINT = 'Keys are compared to the letter.';
    ELSIF known.status = 'pending' THEN
        RETURN ROW(known.key, known.kind, known.status, true)::receipt;
    ELSIF known.status <> 'failed' THEN
        RAISE EXCEPTION 'request "%" is % (%)', known.key, known.status, known.code
            USING ERRCODE = 'LS002', HINT = 'Only a failed request can be retried. A new key asks anew.';
    END IF;
    -- What River's own retry does to a job: available now, with one attempt more if it has used them all.
    UPDATE river_job j SET state = 'available', scheduled_at = clock_timestamp(), finalized_at = NULL,
           max_attempts = CASE WHEN j.attempt >= j.max_attempts THEN least(j.attempt::int + 1, 32767) ELSE j.max_attempts END
    WHERE j.id = known.job_id AND j.state IN ('cancelled', 'discarded');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the job of request "%" is gone, and its arguments with it', known.key
            USING ERRCODE = 'LS003', DETAIL = format('Job %s was deleted after its retention time.', known.job_id), HINT = 'Ask again with a new key.';
    END IF;
    UPDATE requests r SET status = 'pending', code = NULL, detail = NULL, settled_at = NULL WHERE r.key = known.key;
    PERFORM ring((SELECT j.queue FROM river_job j WHERE j.id = known.job_id));
    RETURN ROW(known.key, known.kind, 'pending', false)::receipt;
END $$;
-- +goose StatementEnd

GRANT EXECUTE ON FUNCTION
    lastseat.enqueue(text, text, jsonb, timestamptz, text), lastseat.enqueue_many(jsonb)
TO lastseat_producer, lastseat_worker;
GRANT EXECUTE ON FUNCTION lastseat.outcomes(text[]), lastseat.outcomes_since(text, integer), lastseat.outcomes_cursor()
TO lastseat_producer, lastseat_worker, lastseat_viewer;
GRANT EXECUTE ON FUNCTION lastseat.record(text, text, text, text[]) TO lastseat_worker;

-- +goose Down

DROP TRIGGER logged ON lastseat.requests;
DROP FUNCTION lastseat.enqueue_many(jsonb), lastseat.outcomes_cursor(), lastseat.outcomes_since(text, integer), lastseat.outcomes(text[]),
    lastseat.record(text, text, text, text[]), lastseat.log_outcomes(), lastseat.enqueue(text, text, jsonb, timestamptz, text),
    lastseat.check_request(text, text, jsonb, timestamptz, text);
DROP TABLE lastseat.outcome_log;
-- +goose StatementBegin
CREATE FUNCTION lastseat.enqueue(kind text, key text, args jsonb, scheduled_at timestamptz DEFAULT now()) RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    lane   CONSTANT text := 'lastseat';
    job    bigint;
    mark   bytea;
    asked  timestamptz;
    known  requests;
BEGIN
    PERFORM check_key(enqueue.key);
    IF enqueue.kind IS NULL OR char_length(enqueue.kind) NOT BETWEEN 1 AND 127 THEN
        RAISE EXCEPTION 'the kind is %', coalesce('"' || enqueue.kind || '"', 'null')
            USING ERRCODE = 'LS002', HINT = 'A kind has 1 to 127 characters: payment.transfer, for example.';
    END IF;
    IF enqueue.args IS NULL OR jsonb_typeof(enqueue.args) <> 'object' THEN
        RAISE EXCEPTION 'the arguments of request "%" are %', enqueue.key, coalesce('a JSON ' || jsonb_typeof(enqueue.args), 'null')
            USING ERRCODE = 'LS002', HINT = 'Arguments are a JSON object: {"from": "a", "to": "b", ...}.';
    END IF;
    IF octet_length((enqueue.args - 'key')::text) > 65536 THEN
        RAISE EXCEPTION 'the arguments of request "%" are % bytes', enqueue.key, octet_length((enqueue.args - 'key')::text)
            USING ERRCODE = 'LS004', HINT = 'At most 65536 bytes (64 KiB). Keep what is larger in a table of your own and pass its id.';
    END IF;
    IF enqueue.scheduled_at = 'infinity' THEN
        RAISE EXCEPTION 'request "%" is scheduled for infinity', enqueue.key
            USING ERRCODE = 'LS002', HINT = 'Give the time at which it may be done, or none.';
    END IF;
    IF enqueue.args ? 'key' AND enqueue.args ->> 'key' IS DISTINCT FROM enqueue.key THEN
        RAISE EXCEPTION 'the arguments of request "%" hold another key, %', enqueue.key, enqueue.args -> 'key'
            USING ERRCODE = 'LS002', HINT = 'Leave "key" out of the arguments, or give the same.';
    END IF;
    PERFORM check_args(enqueue.kind, enqueue.args);

    -- Not now(): a transaction that began early and asks late would be scheduled before what was committed meanwhile.
    asked := clock_timestamp();
    mark := fingerprint(enqueue.kind, enqueue.args);
    job := nextval('river_job_id_seq');
    INSERT INTO requests (key, kind, fingerprint, job_id, requested_at) VALUES (enqueue.key, enqueue.kind, mark, job, asked)
    ON CONFLICT (key) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO STRICT known FROM requests r WHERE r.key = enqueue.key;
        IF known.kind <> enqueue.kind OR known.fingerprint <> mark THEN
            RAISE EXCEPTION 'key "%" was used at % for another % request', enqueue.key, to_char(known.requested_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), known.kind
                USING ERRCODE = 'LS001', DETAIL = format('It is %s.', concat_ws(', ', known.status, known.code)),
                      HINT = 'A key stands for one request. Take a new key for a new one, or send the same arguments again.';
        END IF;
        RETURN ROW(known.key, known.kind, known.status, true)::receipt;
    END IF;

    PERFORM begin_request(enqueue.kind, enqueue.key, enqueue.args, asked);
    INSERT INTO river_job (id, kind, queue, args, state, scheduled_at)
    VALUES (job, enqueue.kind, lane, enqueue.args || jsonb_build_object('key', enqueue.key),
            CASE WHEN enqueue.scheduled_at > asked THEN 'scheduled' ELSE 'available' END::river_job_state,
            greatest(enqueue.scheduled_at, asked));
    PERFORM ring(lane);
    RETURN ROW(enqueue.key, enqueue.kind, 'pending', false)::receipt;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.enqueue(text, text, jsonb, timestamptz) IS
    'Asks for a request of any kind inside the caller''s transaction. The same key with the same kind and arguments is a duplicate and changes nothing; with anything else it is error LS001.';
GRANT EXECUTE ON FUNCTION lastseat.enqueue(text, text, jsonb, timestamptz) TO lastseat_producer, lastseat_worker;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION lastseat.retry(key text) RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known requests;
BEGIN
    PERFORM check_key(retry.key);
    -- Locked only if it is failed: the worker has to get at a pending one.
    SELECT * INTO known FROM requests r WHERE r.key = retry.key;
    IF known.status = 'failed' THEN
        SELECT * INTO known FROM requests r WHERE r.key = retry.key FOR UPDATE;
    END IF;
    IF known.key IS NULL THEN
        RAISE EXCEPTION 'no request has the key "%"', retry.key USING ERRCODE = 'LS003', HINT = 'Keys are compared to the letter.';
    ELSIF known.status = 'pending' THEN
        RETURN ROW(known.key, known.kind, known.status, true)::receipt;
    ELSIF known.status <> 'failed' THEN
        RAISE EXCEPTION 'request "%" is % (%)', known.key, known.status, known.code
            USING ERRCODE = 'LS002', HINT = 'Only a failed request can be retried. A new key asks anew.';
    END IF;
    -- What River's own retry does to a job: available now, with one attempt more if it has used them all.
    UPDATE river_job j SET state = 'available', scheduled_at = clock_timestamp(), finalized_at = NULL,
           max_attempts = CASE WHEN j.attempt >= j.max_attempts THEN least(j.attempt::int + 1, 32767) ELSE j.max_attempts END
    WHERE j.id = known.job_id AND j.state IN ('cancelled', 'discarded');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the job of request "%" is gone, and its arguments with it', known.key
            USING ERRCODE = 'LS003', DETAIL = format('Job %s was deleted after its retention time.', known.job_id), HINT = 'Ask again with a new key.';
    END IF;
    UPDATE requests r SET status = 'pending', code = NULL, detail = NULL, settled_at = NULL WHERE r.key = known.key;
    PERFORM ring('lastseat');
    RETURN ROW(known.key, known.kind, 'pending', false)::receipt;
END $$;
-- +goose StatementEnd
