-- Requests: what was asked for, once for every key, and what became of it. The job that carries a request's arguments
-- to the worker is a row of river_job and may be deleted when it is done; the request stays.

-- +goose Up

CREATE TABLE lastseat.requests (
    key          text COLLATE "C" PRIMARY KEY CHECK (char_length(key) BETWEEN 1 AND 200),
    kind         text COLLATE "C" NOT NULL CHECK (char_length(kind) BETWEEN 1 AND 127),
    fingerprint  bytea NOT NULL,
    job_id       bigint NOT NULL,
    status       text COLLATE "C" NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'applied', 'rejected', 'failed')),
    code         text COLLATE "C",
    detail       jsonb,
    attempts     integer NOT NULL DEFAULT 0,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at   timestamptz,
    CONSTRAINT requests_settled_with_code CHECK ((status = 'pending') = (code IS NULL) AND (status = 'pending') = (settled_at IS NULL))
    -- Half of every page is left free. A request is updated once, when it is settled; on its own page that touches no
    -- index, and a whole page of requests is often settled by one transaction.
) WITH (fillfactor = 50);
COMMENT ON TABLE lastseat.requests IS 'One row for every idempotency key, for ever: what was asked for and what became of it.';
COMMENT ON COLUMN lastseat.requests.key IS 'The caller''s idempotency key.';
COMMENT ON COLUMN lastseat.requests.fingerprint IS 'SHA-256 of kind and arguments: tells a repeated request from a reused key.';
COMMENT ON COLUMN lastseat.requests.job_id IS 'The row of river_job that carries it. The row may be gone when the request is settled.';
COMMENT ON COLUMN lastseat.requests.status IS 'pending, applied (done), rejected (a business refusal, final), failed (given up on after technical errors).';
COMMENT ON COLUMN lastseat.requests.code IS 'What exactly: transferred, insufficient_funds ...; null while pending.';
COMMENT ON COLUMN lastseat.requests.detail IS 'The figures behind the code, in minor units.';
COMMENT ON COLUMN lastseat.requests.attempts IS 'How often a worker took it up, conflicts with others not counted.';

-- A settled request stays as it is. The way back leads through lastseat.retry, for a failed one only.
-- +goose StatementBegin
CREATE FUNCTION lastseat.refuse_resettle() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF OLD.status = 'failed' AND NEW.status = 'pending' AND NEW.job_id = OLD.job_id AND NEW.requested_at = OLD.requested_at THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'request "%" is % (%) and stays so', OLD.key, OLD.status, OLD.code
        USING ERRCODE = 'integrity_constraint_violation', HINT = 'A new key tries again. A failed request can be retried.';
END $$;
-- +goose StatementEnd
CREATE TRIGGER settled_once BEFORE UPDATE ON lastseat.requests
    FOR EACH ROW WHEN (OLD.status <> 'pending') EXECUTE FUNCTION lastseat.refuse_resettle();
CREATE TRIGGER identity BEFORE UPDATE OF key, kind, fingerprint ON lastseat.requests
    FOR EACH ROW WHEN ((OLD.key, OLD.kind, OLD.fingerprint) IS DISTINCT FROM (NEW.key, NEW.kind, NEW.fingerprint))
    EXECUTE FUNCTION lastseat.refuse_change('A key stands for one request, and that for its arguments.');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON lastseat.requests
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('A key without its request could be used a second time.');

CREATE TYPE lastseat.receipt AS (key text, kind text, status text, duplicate boolean);
COMMENT ON TYPE lastseat.receipt IS 'The answer to a request: its key, its kind, its status now, and whether the key had been used for the same before.';

-- Not named outcome: outcome('key') would then be read as a cast to it.
CREATE TYPE lastseat.request_outcome AS (key text, kind text, status text, code text, detail jsonb, attempts integer,
                                 job_id bigint, requested_at timestamptz, settled_at timestamptz);
COMMENT ON TYPE lastseat.request_outcome IS 'What became of a request.';

-- Two requests are the same if their kinds and arguments are. An argument that is null is one that was left out. In
-- plpgsql, for it is called with every request: a function in SQL that can't be inlined costs ten times as much.
-- +goose StatementBegin
CREATE FUNCTION lastseat.fingerprint(kind text, args jsonb) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    -- a job that another client inserted may hold any JSON
    IF jsonb_typeof(args) = 'object' THEN
        args := args - 'key';
        IF args @? '$.* ? (@ == null)' OR args -> 'metadata' = '{}' THEN
            args := (SELECT coalesce(jsonb_object_agg(given.key, given.value), '{}') FROM jsonb_each(args) given
                     WHERE given.value <> 'null' AND (given.key, given.value) <> ('metadata', '{}'));
        END IF;
    END IF;
    RETURN sha256(convert_to(kind || ' ' || args::text, 'UTF8'));
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.fingerprint(text, jsonb) IS 'SHA-256 of a request''s kind and arguments, its key left out.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.check_key(key text) RETURNS void LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF key IS NULL OR key = '' THEN
        RAISE EXCEPTION 'the key is %', CASE WHEN key = '' THEN 'empty' ELSE 'null' END
            USING ERRCODE = 'LS002', HINT = 'A key has 1 to 200 characters.';
    ELSIF starts_with(key, 'river_job:') THEN
        RAISE EXCEPTION 'the key "%" begins with river_job:', left(key, 50)
            USING ERRCODE = 'LS002', HINT = 'Such keys stand for jobs that were inserted without one.';
    ELSIF char_length(key) > 200 THEN
        RAISE EXCEPTION 'the key "%..." is % characters long', left(key, 20), char_length(key)
            USING ERRCODE = 'LS002', HINT = 'A key has 1 to 200 characters.';
    END IF;
END $$;
-- +goose StatementEnd

-- The rules of each kind's arguments, for whoever asks for one through SQL. Replaced by the migrations that add kinds.
-- +goose StatementBegin
CREATE FUNCTION lastseat.check_args(kind text, args jsonb) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
END $$;
-- +goose StatementEnd

-- The rows of its own that a kind makes when it is asked for (a payment that is pending, say), in the caller's
-- transaction. No kind has any yet.
-- +goose StatementBegin
CREATE FUNCTION lastseat.begin_request(kind text, key text, args jsonb, asked timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
END $$;
-- +goose StatementEnd

-- The one way in. Everything that asks for something ends here: two rows, and a notification if the lane is idle.
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

-- Wakes the lane, if it sleeps. Commits that notify wait for each other (one lock for the whole cluster is held over
-- the commit's flush), so nobody notifies a lane that is at work. An idle lane says so by holding the doorbell, an
-- advisory lock, exclusively. Whoever finds it free holds it shared until his commit, and the lane can't go to sleep
-- meanwhile; so no commit is missed. docs/decisions/003 has the proof.
-- +goose StatementBegin
CREATE FUNCTION lastseat.ring(queue text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(doorbell(queue)) THEN
        PERFORM pg_notify('lastseat.river_insert', jsonb_build_object('queue', queue)::text);
    END IF;
END $$;
-- +goose StatementEnd

-- The advisory locks of this project are named here and nowhere else. 'lsdb' keeps them apart from an application's.
-- +goose StatementBegin
CREATE FUNCTION lastseat.doorbell(queue text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN hashtextextended('lastseat doorbell ' || queue, 0);
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION lastseat.lane_lock(queue text, lane integer, lanes integer) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN hashtextextended(format('lastseat lane %s %s/%s', queue, lane, lanes), 0);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION lastseat.outcome(key text) RETURNS SETOF lastseat.request_outcome
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
BEGIN ATOMIC
    SELECT r.key, r.kind, r.status, r.code, r.detail, r.attempts, r.job_id, r.requested_at, r.settled_at
    FROM lastseat.requests r WHERE r.key = outcome.key;
END;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.outcome(text) IS 'What became of the request with this key: one row, or none if the key was never used.';

-- +goose StatementBegin
CREATE FUNCTION lastseat.retry(key text) RETURNS lastseat.receipt
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
COMMENT ON FUNCTION lastseat.retry(text) IS 'Runs a failed request once more, under its key.';

-- A job that waits and is cancelled (in River UI, say) or discarded (by River, for a unique one) will never be settled:
-- its request says so at once, and can be retried. A job that waits can't be deleted, because its arguments are nowhere else. The worker says who it is and is let by.
-- +goose StatementBegin
CREATE FUNCTION lastseat.job_taken_away() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        IF EXISTS (SELECT FROM requests r WHERE r.status = 'pending') THEN
            RAISE EXCEPTION 'river_job carries pending requests'
                USING ERRCODE = 'integrity_constraint_violation', HINT = 'Delete the jobs that are finished instead.';
        END IF;
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM requests r WHERE r.job_id = OLD.id AND r.key = OLD.args ->> 'key' AND r.status = 'pending') THEN
            RAISE EXCEPTION 'job % carries the pending request "%"', OLD.id, OLD.args ->> 'key'
                USING ERRCODE = 'integrity_constraint_violation', HINT = 'Cancel the job instead: its request then fails, and can be retried.';
        END IF;
        RETURN OLD;
    END IF;
    UPDATE requests r SET status = 'failed', code = 'job_cancelled', settled_at = now()
    WHERE r.job_id = NEW.id AND r.key = NEW.args ->> 'key' AND r.status = 'pending';
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER lastseat_kept BEFORE DELETE ON lastseat.river_job FOR EACH ROW
    WHEN (OLD.state NOT IN ('completed', 'cancelled', 'discarded') AND current_setting('lastseat.lane', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION lastseat.job_taken_away();
CREATE TRIGGER lastseat_kept_whole BEFORE TRUNCATE ON lastseat.river_job FOR EACH STATEMENT
    EXECUTE FUNCTION lastseat.job_taken_away();
CREATE TRIGGER lastseat_cancelled AFTER UPDATE ON lastseat.river_job FOR EACH ROW
    WHEN (NEW.state IN ('cancelled', 'discarded') AND OLD.state NOT IN ('cancelled', 'discarded')
          AND current_setting('lastseat.lane', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION lastseat.job_taken_away();

-- +goose Down

-- +goose StatementBegin
DO $$ BEGIN
    IF EXISTS (SELECT FROM lastseat.requests) THEN
        RAISE EXCEPTION 'lastseat.requests is not empty: this migration does not take requests away'
            USING HINT = 'Dump it, then DROP SCHEMA lastseat CASCADE, if that is what you want.';
    END IF;
END $$;
-- +goose StatementEnd
DROP TRIGGER lastseat_kept_whole ON lastseat.river_job;
DROP TRIGGER lastseat_kept ON lastseat.river_job;
DROP TRIGGER lastseat_cancelled ON lastseat.river_job;
DROP FUNCTION lastseat.job_taken_away(), lastseat.retry(text), lastseat.outcome(text), lastseat.lane_lock(text, integer, integer),
    lastseat.doorbell(text), lastseat.enqueue(text, text, jsonb, timestamptz), lastseat.ring(text), lastseat.begin_request(text, text, jsonb, timestamptz),
    lastseat.check_args(text, jsonb), lastseat.check_key(text), lastseat.fingerprint(text, jsonb);
DROP TABLE lastseat.requests;
DROP FUNCTION lastseat.refuse_resettle();
DROP TYPE lastseat.request_outcome, lastseat.receipt;
