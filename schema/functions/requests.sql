-- Requests: how a request comes in, whatever its kind. Kinds are in the files of their families; dispatch.sql finds
-- their functions by name.

CREATE OR REPLACE FUNCTION lastseat.check_key(key text)
RETURNS void
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF key IS NULL OR key = '' THEN
        RAISE EXCEPTION 'the key is %', CASE WHEN key = '' THEN 'empty' ELSE 'null' END
            USING ERRCODE = 'LS002', COLUMN = 'key', HINT = 'A key has 1 to 200 characters.';
    ELSIF starts_with(key, 'river_job:') OR starts_with(key, 'lastseat:') THEN
        RAISE EXCEPTION 'the key "%" begins with %:', left(key, 50), split_part(key, ':', 1)
            USING ERRCODE = 'LS002', COLUMN = 'key',
                  HINT = 'Such keys are the worker''s own: they stand for jobs that were inserted without one, '
                         'and for what has run out.';
    ELSIF char_length(key) > 200 THEN
        RAISE EXCEPTION 'the key "%..." is % characters long', left(key, 20), char_length(key)
            USING ERRCODE = 'LS002', COLUMN = 'key', HINT = 'A key has 1 to 200 characters.';
    ELSIF key ~ '[^!-~]' THEN
        PERFORM check_name('the key', key);
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_key IS 'Refuses a key that is missing, too long, or reserved for the worker, or has characters that can''t be seen.

key: the key.

Errors: LS002.';

-- What every request has to obey, whatever its kind and whichever function it comes through; check_args has the rest.
CREATE OR REPLACE FUNCTION lastseat.check_request(
    kind text, key text, args jsonb, scheduled_at timestamptz, queue text
)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_key(check_request.key);
    IF check_request.kind IS NULL OR char_length(check_request.kind) NOT BETWEEN 1 AND 127 THEN
        RAISE EXCEPTION 'the kind is %', coalesce('"' || left(check_request.kind, 150) || '"', 'null')
            USING ERRCODE = 'LS002', COLUMN = 'kind',
                  HINT = 'A kind has 1 to 127 characters: payment.transfer, for example.';
    END IF;
    IF check_request.args IS NULL OR jsonb_typeof(check_request.args) <> 'object' THEN
        RAISE EXCEPTION 'the arguments of request "%" are %',
            check_request.key, coalesce('a JSON ' || jsonb_typeof(check_request.args), 'null')
            USING ERRCODE = 'LS002', COLUMN = 'args',
                  HINT = 'Arguments are a JSON object: {"from": "a", "to": "b", ...}.';
    END IF;
    IF octet_length((check_request.args - 'key')::text) > 65536 THEN
        RAISE EXCEPTION 'the arguments of request "%" are % bytes',
            check_request.key, octet_length((check_request.args - 'key')::text)
            USING ERRCODE = 'LS004', COLUMN = 'args',
                  HINT = 'At most 65536 bytes (64 KiB). Keep what is larger in a table of your own and pass its id.';
    END IF;
    IF check_request.scheduled_at >= '10000-01-01 00:00:00Z' THEN -- infinity too
        RAISE EXCEPTION 'request "%" is scheduled for %', check_request.key, check_request.scheduled_at
            USING ERRCODE = 'LS002', COLUMN = 'scheduled_at',
                  HINT = 'Give the time at which it may be done, before the year 10000, or none.';
    END IF;
    IF check_request.args ? 'key' AND check_request.args ->> 'key' IS DISTINCT FROM check_request.key THEN
        RAISE EXCEPTION 'the arguments of request "%" hold another key, %',
            check_request.key, check_request.args -> 'key'
            USING ERRCODE = 'LS002', COLUMN = 'args', HINT = 'Leave "key" out of the arguments, or give the same.';
    END IF;
    IF check_request.queue IS DISTINCT FROM 'lastseat' THEN
        IF check_request.queue IS NULL
           OR check_request.queue !~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$' THEN -- River's rule
            RAISE EXCEPTION 'the queue is %', coalesce('"' || left(check_request.queue, 80) || '"', 'null')
                USING ERRCODE = 'LS002', COLUMN = 'queue',
                      HINT = 'A queue has 1 to 64 letters, digits, hyphens and underscores.';
        ELSIF starts_with(check_request.queue, 'lastseat') THEN
            RAISE EXCEPTION 'the queue "%" is the worker''s own', check_request.queue
                USING ERRCODE = 'LS002', COLUMN = 'queue',
                      HINT = 'Queues whose names begin with lastseat are reserved. Take another name.';
        ELSIF check_request.kind ~ '^(payment|reservation|booking)[.]' THEN
            RAISE EXCEPTION 'a % request can''t go to the queue "%"', check_request.kind, check_request.queue
                USING ERRCODE = 'LS002', COLUMN = 'queue',
                      HINT = 'Payments, reservations and bookings share one queue, so that they have one order.';
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.check_request IS 'Refuses a request whose key, kind, size, time or queue is not allowed.

kind: its kind.
key: its key.
args: its arguments.
scheduled_at: its time.
queue: its queue.

Errors: LS002, LS004.';

CREATE OR REPLACE FUNCTION lastseat.refuse_removed(key text)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the request with the key "%" was removed in this moment, for it is no longer kept', key
        USING ERRCODE = 'serialization_failure', HINT = 'Repeat the transaction.';
END $$;
COMMENT ON FUNCTION lastseat.refuse_removed IS 'Raises the error for a key that was there a moment ago.

key: the key.

Errors: 40001.';

CREATE OR REPLACE FUNCTION lastseat.refuse_reuse(known lastseat.requests)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'key "%" was used at % for another % request',
        known.key, to_char(known.requested_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), known.kind
        USING ERRCODE = 'LS001', COLUMN = 'key',
              DETAIL = format('It is %s.', concat_ws(', ', known.status, known.code)),
              HINT = 'A key stands for one request. Take a new key for a new one, or send the same arguments again.';
END $$;
COMMENT ON FUNCTION lastseat.refuse_reuse IS 'Raises the error for a key that was used for something else.

known: the request that has the key.

Errors: LS001.';

-- The one way in: every single request ends here, but for plain transfers (transfer). It inserts two rows, and notifies
-- the lane if the lane is idle.
CREATE OR REPLACE FUNCTION lastseat.enqueue(
    kind text, key text, args jsonb, scheduled_at timestamptz DEFAULT now(), queue text DEFAULT 'lastseat'
)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    -- Now is no later time, even if somebody has set the clock back since the transaction began.
    later  CONSTANT timestamptz := nullif(enqueue.scheduled_at, now());
    job    CONSTANT bigint := nextval('river_job_id_seq');
    mark   bytea;
    -- Not now(): a transaction that began early and asks late would be scheduled before what was committed meanwhile.
    -- The transaction gets its number before that: the lane proves by it what it need not read (docs/decisions/015).
    asked  CONSTANT timestamptz := CASE WHEN pg_current_xact_id() IS NOT NULL THEN clock_timestamp() END;
    known  requests;
BEGIN
    IF enqueue.queue = 'lastseat' AND plain_key(enqueue.key) AND plain_args(enqueue.kind, enqueue.args)
       AND (later < '10000-01-01 00:00:00Z' OR later IS NULL) THEN
        -- The two rows as below, and as transfer writes them.
        INSERT INTO requests (key, kind, fingerprint, job_id, requested_at)
        SELECT enqueue.key, enqueue.kind, mark_of(enqueue.kind, enqueue.args), job, asked
        WHERE EXISTS (SELECT FROM accounts a WHERE a.id = enqueue.args ->> 'from'
                        AND a.currency = enqueue.args ->> 'currency')
          AND EXISTS (SELECT FROM accounts a WHERE a.id = enqueue.args ->> 'to')
          AND NOT (EXISTS (SELECT FROM removed) AND is_expired(enqueue.key))
        ON CONFLICT (key) DO NOTHING;
        IF FOUND THEN
            INSERT INTO river_job (id, kind, queue, args, state, scheduled_at, metadata)
            VALUES (job, enqueue.kind, 'lastseat', enqueue.args || jsonb_build_object('key', enqueue.key),
                    CASE WHEN later > asked THEN 'scheduled'::river_job_state ELSE 'available'::river_job_state END,
                    greatest(later, asked), trace_metadata());
            IF NOT pg_try_advisory_xact_lock_shared(doorbell('lastseat')) THEN
                PERFORM ring('lastseat');
            END IF;
            RETURN ROW(enqueue.key, enqueue.kind, 'pending', false)::receipt;
        END IF;
    END IF;

    PERFORM check_request(enqueue.kind, enqueue.key, enqueue.args, enqueue.scheduled_at, enqueue.queue);
    PERFORM check_args(enqueue.kind, enqueue.args);
    mark := fingerprint(enqueue.kind, enqueue.args);
    INSERT INTO requests (key, kind, fingerprint, spelled, job_id, requested_at)
    VALUES (enqueue.key, enqueue.kind, mark,
            nullif(sha256(convert_to(enqueue.kind || ' ' || (enqueue.args - 'key')::text, 'UTF8')), mark), job, asked)
    ON CONFLICT (key) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO known FROM requests r WHERE r.key = enqueue.key;
        IF NOT FOUND THEN
            PERFORM refuse_removed(enqueue.key);
        END IF;
        IF known.kind <> enqueue.kind OR known.fingerprint <> mark THEN
            PERFORM refuse_reuse(known);
        END IF;
        RETURN ROW(known.key, known.kind, known.status, true)::receipt;
    END IF;
    PERFORM check_expired(ARRAY[enqueue.key]);
    -- The default time at which something runs out is reckoned from when it may be done.
    PERFORM begin_request(enqueue.kind, enqueue.key, enqueue.args, greatest(later, asked));

    INSERT INTO river_job (id, kind, queue, args, state, scheduled_at, metadata)
    VALUES (job, enqueue.kind, enqueue.queue, enqueue.args || jsonb_build_object('key', enqueue.key),
            CASE WHEN later > asked THEN 'scheduled'::river_job_state ELSE 'available'::river_job_state END,
            greatest(later, asked), trace_metadata());
    PERFORM ring(enqueue.queue);
    RETURN ROW(enqueue.key, enqueue.kind, 'pending', false)::receipt;
END $$;
COMMENT ON FUNCTION lastseat.enqueue IS
'Asks for a request of any kind, in the caller''s transaction. A worker settles it once, in the order of asking.

kind: what to do, 1 to 127 characters: payment.transfer, say, or a kind of your own.
key: the caller''s idempotency key, 1 to 200 characters. The same key with the same arguments is a duplicate and '
'changes nothing.
args: its arguments, a JSON object of at most 64 KiB; docs/sql.md lists those of each kind.
scheduled_at: not before this time; null or a time in the past: as soon as it is its turn.
queue: the queue whose worker settles it. Payments, reservations and bookings share lastseat; a worker of your own '
'may have another.

Errors: LS001 the key was used for something else, or the payment or reservation was asked for before; LS002 an '
'argument is invalid; LS003 no such account, payment, reservation, resource or transfer; LS004 too large.';
GRANT EXECUTE ON FUNCTION lastseat.enqueue TO lastseat_producer, lastseat_worker;

-- Looks each name up once, however many arguments hold it. Mostly none is missing.
CREATE OR REPLACE FUNCTION lastseat.missing_names(args jsonb[], plain boolean[], ids text[])
RETURNS boolean[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off AS $$ -- plans are cached while the tables are small
DECLARE
    no_account text[];
    no_money   text[];
BEGIN
    no_money := ARRAY(
        SELECT named.currency
        FROM (SELECT DISTINCT a.args ->> 'currency' AS currency FROM unnest(args, plain) AS a(args, plain)
              WHERE a.plain) named
        WHERE NOT EXISTS (SELECT FROM currencies c WHERE c.code = named.currency OFFSET 0));
    no_account := ARRAY(
        SELECT named.id
        FROM (SELECT DISTINCT a.id FROM unnest(ids) AS a(id)) named
        WHERE NOT EXISTS (SELECT FROM accounts q WHERE q.id = named.id OFFSET 0));
    IF no_account = '{}' AND no_money = '{}' THEN
        RETURN array_fill(false, ARRAY[cardinality(args)]);
    END IF;
    RETURN ARRAY(SELECT a.plain AND (a.args ->> 'from' = ANY (no_account) OR a.args ->> 'to' = ANY (no_account)
                                     OR a.args ->> 'currency' = ANY (no_money))
                 FROM unnest(args, plain) WITH ORDINALITY AS a(args, plain, n) ORDER BY a.n);
END $$;
COMMENT ON FUNCTION lastseat.missing_names IS 'Which plain arguments name an account or a currency that does not exist.

args: the arguments of several requests.
plain: which of them are plain (plain_args).
ids: the accounts of the plain ones.';

-- Each statement here handles all requests at once. Those that are plain (plain.sql) are looked at one by one only if
-- something is wrong with them or their keys were used before; the others always. Every request is in its table before
-- the first one's arguments are checked, because a capture may follow its authorization in the same array. The requests
-- are inserted in the order of their keys, so that two callers with the same keys wait for each other instead of
-- deadlocking.
--
-- Mostly all keys are new, and looking each of them up would be a tenth of the work. So they are inserted without that.
-- If one was used, the whole block is rolled back and runs again with ON CONFLICT. A block around the INSERT alone would
-- be a second subtransaction in each call.
CREATE OR REPLACE FUNCTION lastseat.enqueue_many(requests jsonb)
RETURNS SETOF lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$ -- plans are cached while the tables are small
#variable_conflict use_column
DECLARE
    writer  CONSTANT xid8 := pg_current_xact_id(); -- before the time, as in enqueue
    asked   CONSTANT timestamptz := clock_timestamp();
    names   CONSTANT text[] := '{kind,key,args,scheduled_at,queue}';
    traced  CONSTANT jsonb := trace_metadata();
    element jsonb;
    n       integer; -- of the element that is looked at
    total   bigint;
    added   bigint;
    kinds   text[];
    keys    text[];
    queues  text[];
    args    jsonb[];
    times   timestamptz[];
    jobs    bigint[];
    marks   bytea[];
    spelled bytea[];
    ids     text[]; -- the accounts of the plain ones
    plain   boolean[];
    fresh   boolean[];
    missing boolean[]; -- an account or currency of a plain one
    known   requests;
    state   text;
    message text;
    detail  text;
    hint    text;
    field   text;
    named   text;
    repeated boolean; -- a key was there before, or is there twice
BEGIN
    IF enqueue_many.requests IS NULL OR jsonb_typeof(enqueue_many.requests) <> 'array' THEN
        RAISE EXCEPTION 'the requests are %', coalesce('a JSON ' || jsonb_typeof(enqueue_many.requests), 'null')
            USING ERRCODE = 'LS002',
                  HINT = 'Requests are a JSON array: [{"kind": "payment.transfer", "key": "k1", "args": {...}}, ...].';
    END IF;
    FOREACH repeated IN ARRAY '{false,true}'::boolean[] LOOP BEGIN
        n := 0;
        -- OFFSET 0 keeps Postgres from computing plain, and what it is made of, again for each use.
        SELECT count(*), array_agg(e.kind), array_agg(e.key), array_agg(e.args), array_agg(nextval('river_job_id_seq')),
               array_agg(e.plain), array_agg(CASE WHEN e.plain THEN mark_of(e.kind, e.args) END),
               array_agg(e.args ->> 'from') FILTER (WHERE e.plain) || array_agg(e.args ->> 'to') FILTER (WHERE e.plain)
        INTO total, kinds, keys, args, jobs, plain, marks, ids
        FROM (SELECT a.*, CASE WHEN jsonb_typeof(a.value) = 'object' THEN
                     coalesce(a.value - '{kind,key,args}'::text[] = '{}' AND jsonb_typeof(a.value -> 'kind') = 'string'
                              AND jsonb_typeof(a.value -> 'key') = 'string'
                              AND plain_key(a.key) AND plain_args(a.kind, a.args), false)
                     ELSE false END AS plain
              FROM (SELECT value, value ->> 'kind' AS kind, value ->> 'key' AS key, value -> 'args' AS args
                    FROM jsonb_array_elements(enqueue_many.requests) OFFSET 0) a OFFSET 0) e;
        IF total = 0 THEN
            RETURN;
        END IF;
        queues := array_fill('lastseat'::text, ARRAY[total::integer]);
        times := array_fill(asked, ARRAY[total::integer]);
        spelled := array_fill(NULL::bytea, ARRAY[total::integer]);
        FOR n IN SELECT p.n FROM unnest(plain) WITH ORDINALITY AS p(plain, n) WHERE NOT p.plain ORDER BY p.n LOOP
            element := enqueue_many.requests -> (n - 1);
            IF jsonb_typeof(element) <> 'object' OR element - names <> '{}' THEN
                RAISE EXCEPTION 'it is %', left(element::text, 100)
                    USING ERRCODE = 'LS002',
                          HINT = 'A request is an object of kind, key, args, and scheduled_at and queue if need be.';
            ELSIF jsonb_typeof(element -> 'kind') NOT IN ('string', 'null')
                  OR jsonb_typeof(element -> 'key') NOT IN ('string', 'null')
                  OR jsonb_typeof(element -> 'queue') NOT IN ('string', 'null') THEN
                RAISE EXCEPTION 'it is %', left((element - '{args,scheduled_at}'::text[])::text, 100)
                    USING ERRCODE = 'LS002', HINT = 'Kind, key and queue are text.';
            END IF;
            queues[n] := coalesce(element ->> 'queue', 'lastseat');
            PERFORM check_time_arg('scheduled_at', element -> 'scheduled_at');
            times[n] := greatest(time_of(element ->> 'scheduled_at'), asked);
            PERFORM check_request(kinds[n], keys[n], args[n], times[n], queues[n]);
            marks[n] := fingerprint(kinds[n], args[n]);
            spelled[n] := nullif(sha256(convert_to(kinds[n] || ' ' || (args[n] - 'key')::text, 'UTF8')), marks[n]);
        END LOOP;

        IF repeated THEN
            INSERT INTO requests (key, kind, fingerprint, spelled, job_id, requested_at)
            SELECT a.key, a.kind, a.mark, a.spelled, a.job, asked
            FROM unnest(keys, kinds, marks, spelled, jobs) AS a(key, kind, mark, spelled, job)
            ORDER BY a.key COLLATE "C", a.job
            ON CONFLICT (key) DO NOTHING;
        ELSE
            INSERT INTO requests (key, kind, fingerprint, spelled, job_id, requested_at)
            SELECT a.key, a.kind, a.mark, a.spelled, a.job, asked
            FROM unnest(keys, kinds, marks, spelled, jobs) AS a(key, kind, mark, spelled, job)
            ORDER BY a.key COLLATE "C", a.job;
        END IF;
        GET DIAGNOSTICS added = ROW_COUNT;
        fresh := CASE WHEN added = total THEN array_fill(true, ARRAY[total::integer]) ELSE
            ARRAY(SELECT r.job_id = a.job FROM unnest(keys, jobs) WITH ORDINALITY AS a(key, job, n)
                  LEFT JOIN LATERAL (SELECT q.job_id FROM requests q WHERE q.key = a.key OFFSET 0) r ON true
                  ORDER BY a.n) END;
        n := 0;
        PERFORM refuse_removed(a.key) FROM unnest(keys, fresh) AS a(key, fresh) WHERE a.fresh IS NULL;
        PERFORM check_expired(ARRAY(SELECT a.key FROM unnest(keys, fresh) AS a(key, fresh) WHERE a.fresh));
        missing := missing_names(args, plain, ids);

        FOR n IN SELECT p.n FROM unnest(plain, fresh, missing) WITH ORDINALITY AS p(plain, fresh, missing, n)
                 WHERE NOT p.plain OR NOT p.fresh OR p.missing ORDER BY p.n LOOP
            IF NOT fresh[n] THEN
                SELECT * INTO known FROM requests r WHERE r.key = keys[n];
                IF NOT FOUND THEN
                    PERFORM refuse_removed(keys[n]);
                END IF;
                IF known.kind <> kinds[n] OR known.fingerprint <> marks[n] THEN
                    PERFORM refuse_reuse(known);
                END IF;
            END IF;
            PERFORM check_args(kinds[n], args[n]);
            IF kinds[n] = 'payment.reverse' AND EXISTS (
                SELECT FROM requests r WHERE r.key = args[n] ->> 'transfer' AND r.job_id > jobs[n]) THEN
                RAISE EXCEPTION 'no transfer was asked for with the key "%" before', args[n] ->> 'transfer'
                    USING ERRCODE = 'LS003', COLUMN = 'transfer', HINT = 'Put the transfer before its reversal.';
            ELSIF fresh[n] THEN
                PERFORM begin_request(kinds[n], keys[n], args[n], times[n]);
            END IF;
        END LOOP;

        INSERT INTO river_job (id, kind, queue, args, state, scheduled_at, metadata)
        SELECT a.job, a.kind, a.queue, a.args || jsonb_build_object('key', a.key),
               CASE WHEN a.at > asked THEN 'scheduled'::river_job_state ELSE 'available'::river_job_state END, a.at,
               traced
        FROM unnest(jobs, kinds, queues, args, keys, times, fresh) AS a(job, kind, queue, args, key, at, fresh)
        WHERE a.fresh; -- they are in the order of their numbers
        PERFORM ring(rung.queue)
        FROM (SELECT DISTINCT a.queue FROM unnest(queues, fresh) AS a(queue, fresh) WHERE a.fresh) rung;
        IF added = total THEN
            RETURN QUERY SELECT a.key, a.kind, 'pending', false FROM unnest(keys, kinds) AS a(key, kind);
            RETURN;
        END IF;
        RETURN QUERY
            SELECT r.key, r.kind, r.status, NOT a.fresh FROM unnest(keys, fresh) WITH ORDINALITY AS a(key, fresh, n)
            JOIN LATERAL (SELECT q.* FROM requests q WHERE q.key = a.key OFFSET 0) r ON true ORDER BY a.n;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, field = COLUMN_NAME;
        IF state = '23505' AND NOT repeated THEN -- unique_violation
            CONTINUE;
        ELSIF state NOT LIKE 'LS%' OR n = 0 THEN
            RAISE;
        END IF;
        named := CASE WHEN name_fault(left(enqueue_many.requests -> (n - 1) ->> 'key', 50)) IS NOT NULL THEN 'bad key'
                 ELSE coalesce('key "' || left(enqueue_many.requests -> (n - 1) ->> 'key', 50) || '"', 'no key') END;
        RAISE EXCEPTION 'request % (%): %', n, named, message
            USING ERRCODE = state, HINT = hint, COLUMN = field,
                  DETAIL = concat_ws(' ', format('Request %s, %s', n, named)
                                     || CASE WHEN field <> '' THEN format(', field "%s"', field) ELSE '' END || '.',
                                     nullif(detail, ''));
    END; END LOOP;
END $$;
COMMENT ON FUNCTION lastseat.enqueue_many IS
'Asks for many requests at once, in the caller''s transaction: all of them or, with an error, none. Returns a receipt '
'for each, in their order. Several times as fast as one by one.

requests: a JSON array of objects with kind, key, args and, optionally, scheduled_at (RFC 3339) and queue; they mean '
'what they mean to enqueue. They are settled in the order of the array.

Errors: those of enqueue, as "request 3 (key "k3"): ...", counted from 1. DETAIL has the number, the key and the name '
'of the argument, and the error''s COLUMN the name alone, as in the errors of single requests. Each call is a '
'subtransaction: more than 64 in one transaction slow others down, so pass many requests per call.';
GRANT EXECUTE ON FUNCTION lastseat.enqueue_many TO lastseat_producer, lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.retry(key text)
RETURNS lastseat.receipt
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known requests;
BEGIN
    IF starts_with(retry.key, 'lastseat:') IS NOT TRUE THEN -- the worker's own requests may fail, too
        PERFORM check_key(retry.key);
    END IF;
    -- Locked only if it is failed: the worker has to get at a pending one.
    SELECT * INTO known FROM requests r WHERE r.key = retry.key;
    IF known.status = 'failed' THEN
        SELECT * INTO known FROM requests r WHERE r.key = retry.key FOR UPDATE;
    END IF;
    IF known.key IS NULL THEN
        RAISE EXCEPTION 'no request has the key "%"', retry.key
            USING ERRCODE = 'LS003', COLUMN = 'key', HINT = 'Keys are compared to the letter.';
    ELSIF known.status = 'pending' THEN
        RETURN ROW(known.key, known.kind, known.status, true)::receipt;
    ELSIF known.status <> 'failed' THEN
        RAISE EXCEPTION 'request "%" is % (%)', known.key, known.status, known.code
            USING ERRCODE = 'LS002', HINT = 'Only a failed request can be retried. A new key asks anew.';
    END IF;
    -- What River's own retry does to a job: available now, with one attempt more if it has used them all.
    UPDATE river_job j SET state = 'available', scheduled_at = clock_timestamp(), finalized_at = NULL,
           max_attempts = CASE WHEN j.attempt >= j.max_attempts THEN least(j.attempt::int + 1, 32767)
                               ELSE j.max_attempts END
    WHERE j.id = known.job_id AND j.state IN ('cancelled', 'discarded');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the job of request "%" is gone, and its arguments with it', known.key
            USING ERRCODE = 'LS003', DETAIL = format('Job %s was deleted after its retention time.', known.job_id),
                  HINT = 'Ask again with a new key.';
    END IF;
    UPDATE requests r SET status = 'pending', code = NULL, detail = NULL, settled_at = NULL WHERE r.key = known.key;
    PERFORM note_request(known.key);
    PERFORM ring((SELECT j.queue FROM river_job j WHERE j.id = known.job_id));
    RETURN ROW(known.key, known.kind, 'pending', false)::receipt;
END $$;
COMMENT ON FUNCTION lastseat.retry IS
'Runs a failed request again, under its key, in the caller''s transaction. A pending request is left as it is (a '
'duplicate).

key: the request''s key.

Errors: LS002 it has not failed; LS003 there is no such request, or its job and arguments were deleted.';
GRANT EXECUTE ON FUNCTION lastseat.retry TO lastseat_producer, lastseat_worker;

-- Wakes the lane if it sleeps. Commits that notify wait for each other (one lock for the whole cluster is held over
-- the commit's flush), so nobody notifies a busy lane. An idle lane holds the doorbell, an advisory lock,
-- exclusively. A producer that gets the lock holds it shared until its commit, and the lane can't go to sleep
-- meanwhile, so no commit is missed. docs/decisions/003 has the proof.
CREATE OR REPLACE FUNCTION lastseat.ring(queue text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    -- A full notification queue would fail the commit. The lane looks by itself, within LASTSEAT_POLL.
    IF NOT pg_try_advisory_xact_lock_shared(doorbell(queue)) AND pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify('lastseat.river_insert', jsonb_build_object('queue', queue)::text);
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.ring IS 'Wakes a queue''s lane when the transaction commits, if the lane sleeps.

queue: the queue.';

-- The advisory locks of this project are named here and nowhere else; the text keeps them apart from an
-- application's.
CREATE OR REPLACE FUNCTION lastseat.doorbell(queue text)
RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN hashtextextended('lastseat doorbell ' || queue, 0);
END $$;
COMMENT ON FUNCTION lastseat.doorbell IS
'The advisory lock that an idle lane holds, so that producers know whom to wake. For the worker.

queue: the lane''s queue.';
GRANT EXECUTE ON FUNCTION lastseat.doorbell TO lastseat_worker;

CREATE OR REPLACE FUNCTION lastseat.lane_lock(queue text, lane integer, lanes integer)
RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN hashtextextended(format('lastseat lane %s %s/%s', queue, lane, lanes), 0);
END $$;
COMMENT ON FUNCTION lastseat.lane_lock IS 'The advisory lock of a lane: its holder settles. For the worker.

queue: the lane''s queue.
lane: its number, from 0.
lanes: the number of lanes of the queue.';
GRANT EXECUTE ON FUNCTION lastseat.lane_lock TO lastseat_worker, lastseat_viewer;

CREATE OR REPLACE FUNCTION lastseat.schema_version(
    OUT own bigint, OUT river bigint, OUT functions bigint, OUT digest text
)
RETURNS record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
BEGIN ATOMIC
    SELECT (SELECT max(m.version) FROM lastseat.schema_migrations m),
           (SELECT max(m.version) FROM lastseat.river_migration m WHERE m.line = 'main'),
           (SELECT f.version FROM lastseat.schema_functions f),
           (SELECT f.digest FROM lastseat.schema_functions f);
END;
COMMENT ON FUNCTION lastseat.schema_version IS
'The versions of the schema: the newest migrations that were applied, Lastseat''s and River''s, and the set of '
'functions.

own: the number of Lastseat''s newest migration.
river: the number of River''s newest migration.
functions: the number of the set of functions.
digest: SHA-256 of the set''s files.';
GRANT EXECUTE ON FUNCTION lastseat.schema_version
TO lastseat_producer, lastseat_worker, lastseat_viewer, lastseat_keeper;
