-- Requests: what callers asked for, one row for each key, and what came of it. The job that carries a request's
-- arguments to the worker is a row of river_job, which may be deleted when it is done. The request stays.
--
-- Text keys are COLLATE "C": nobody sorts them for reading, and byte order makes index probes cheaper and equal to
-- Go's own string order, in which the worker locks rows.

-- Locks lastseat.river_job: it gets a trigger and loses two indexes, for a moment. No producer of ours is there yet.

-- PUBLIC may execute every new function unless that right is revoked in the same transaction. The second statement
-- covers all functions that are created from now on.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA lastseat FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

GRANT USAGE ON SCHEMA lastseat TO lastseat_worker, lastseat_producer, lastseat_viewer, lastseat_keeper;
GRANT SELECT ON ALL TABLES IN SCHEMA lastseat TO lastseat_viewer, lastseat_worker, lastseat_keeper;
ALTER DEFAULT PRIVILEGES IN SCHEMA lastseat GRANT SELECT ON TABLES TO lastseat_viewer, lastseat_worker, lastseat_keeper;
-- worker audit looks whether a sequence was set back.
GRANT SELECT ON ALL SEQUENCES IN SCHEMA lastseat TO lastseat_viewer, lastseat_worker, lastseat_keeper;
ALTER DEFAULT PRIVILEGES IN SCHEMA lastseat GRANT SELECT ON SEQUENCES TO lastseat_viewer, lastseat_worker, lastseat_keeper;

-- River's client does its housekeeping in the worker's name. Nobody rewrites what a job asks for. River's insertion of
-- a unique job needs the right to change its kind, and sets it to what it is.
GRANT INSERT, UPDATE, DELETE ON lastseat.river_leader, lastseat.river_queue, lastseat.river_notification
TO lastseat_worker;
GRANT INSERT, DELETE,
    UPDATE (state, attempt, max_attempts, attempted_at, attempted_by, errors, finalized_at, scheduled_at, metadata, kind)
ON lastseat.river_job TO lastseat_worker;
CREATE TRIGGER lastseat_kind BEFORE UPDATE OF kind ON lastseat.river_job
    FOR EACH ROW WHEN (OLD.kind IS DISTINCT FROM NEW.kind)
    EXECUTE FUNCTION lastseat.refuse_change('A job keeps its kind. Cancel it, and ask again.');
GRANT USAGE ON SEQUENCE lastseat.river_job_id_seq, lastseat.river_notification_id_seq TO lastseat_worker;
GRANT EXECUTE ON FUNCTION lastseat.river_job_state_in_bitmask(bit, lastseat.river_job_state) TO lastseat_worker;

-- River makes these, and none of its statements reads the first one. The second one serves lists of jobs that are filtered
-- by metadata, which only a client's own code asks for; our table holds the jobs that wait or have failed, so a scan will
-- do. Every job that is inserted would pay for both, and their pending lists would stall bulk inserts for 240 ms at a
-- time (docs/decisions/018-river-indexes.md).
DROP INDEX lastseat.river_job_args_index, lastseat.river_job_metadata_index;

CREATE TABLE lastseat.requests (
    key          text COLLATE "C" PRIMARY KEY
                 -- The worker's own keys hold a kind and an id of up to 200 characters, so they may be longer.
                 CHECK (char_length(key) BETWEEN 1 AND CASE WHEN starts_with(key, 'lastseat:') THEN 250 ELSE 200 END),
    kind         text COLLATE "C" NOT NULL CHECK (char_length(kind) BETWEEN 1 AND 127),
    fingerprint  bytea NOT NULL,
    spelled      bytea,
    job_id       bigint NOT NULL,
    status       text COLLATE "C" NOT NULL DEFAULT 'pending'
                 CHECK (status IN ('pending', 'applied', 'rejected', 'failed')),
    code         text COLLATE "C",
    detail       jsonb,
    attempts     integer NOT NULL DEFAULT 0,
    place        integer,
    ordering     text COLLATE "C",
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at   timestamptz,
    CONSTRAINT requests_settled_with_code
        CHECK ((status = 'pending') = (code IS NULL) AND (status = 'pending') = (settled_at IS NULL))
    -- Half of every page is left free. A request is updated once, when it is settled. On its own page that update
    -- touches no index, and one transaction often settles a whole page of requests.
) WITH (fillfactor = 50);
COMMENT ON TABLE lastseat.requests IS
    'One row for every idempotency key, kept as long as lastseat.retention says: what was asked for and what came of it.';
COMMENT ON COLUMN lastseat.requests.key IS 'The caller''s idempotency key.';
COMMENT ON COLUMN lastseat.requests.kind IS 'What was asked for: payment.transfer, for example.';
COMMENT ON COLUMN lastseat.requests.fingerprint IS
    'SHA-256 of kind and arguments: tells a repeated request from a reused key.';
COMMENT ON COLUMN lastseat.requests.spelled IS
    'SHA-256 of kind and arguments as they were spelled; null: that is the fingerprint. The worker settles no other.';
COMMENT ON COLUMN lastseat.requests.job_id IS
    'The row of river_job that carries the request. It may be gone once the request is settled.';
COMMENT ON COLUMN lastseat.requests.status IS
    'pending, applied (done), rejected (a business refusal, final), failed (given up on after technical errors).';
COMMENT ON COLUMN lastseat.requests.code IS
    'What exactly happened: transferred, insufficient_funds ...; null while pending.';
COMMENT ON COLUMN lastseat.requests.detail IS
    'The figures behind the code, in minor units. Integers beyond 2^53 - 1, either way, are text.';
COMMENT ON COLUMN lastseat.requests.attempts IS
    'How often a worker took it up. Repeats because of a conflict with another transaction do not count.';
COMMENT ON COLUMN lastseat.requests.place IS
    'Its place among the requests that were settled in one statement, from 1; null: unknown, or it was the only one.';
COMMENT ON COLUMN lastseat.requests.ordering IS
    'The argument by which its kind is ordered, such as the account that pays; written when it is settled, for relays. '
    'Null: its kind has none.';
COMMENT ON COLUMN lastseat.requests.requested_at IS 'When it was asked for.';
COMMENT ON COLUMN lastseat.requests.settled_at IS 'When it was settled; null while pending.';
GRANT INSERT (key, kind, fingerprint, spelled, job_id, requested_at),
    UPDATE (status, code, detail, attempts, place, ordering, settled_at)
ON lastseat.requests TO lastseat_worker;

-- AFTER: for a trigger BEFORE an update Postgres locks each row first, and writes the lock to the log.
CREATE TRIGGER settled_once AFTER UPDATE ON lastseat.requests
    FOR EACH ROW WHEN (OLD.status <> 'pending') EXECUTE FUNCTION lastseat.refuse_resettle();
-- Conditions of triggers compare columns one by one, here and below: of two rows that are compared, a dump makes another
-- text, and worker audit compares texts.
CREATE TRIGGER identity AFTER UPDATE OF key, kind, fingerprint, spelled ON lastseat.requests
    FOR EACH ROW
    WHEN (OLD.key IS DISTINCT FROM NEW.key OR OLD.kind IS DISTINCT FROM NEW.kind
          OR OLD.fingerprint IS DISTINCT FROM NEW.fingerprint OR OLD.spelled IS DISTINCT FROM NEW.spelled)
    EXECUTE FUNCTION lastseat.refuse_change('A key stands for one request with its arguments.');
CREATE TRIGGER kept BEFORE TRUNCATE ON lastseat.requests
    FOR EACH STATEMENT
    EXECUTE FUNCTION lastseat.refuse_change('If a request were deleted, its key could be used a second time.');
-- Retention alone gets past this: it notes in the history what it removes, in the same transaction.
CREATE TRIGGER removed AFTER DELETE ON lastseat.requests REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT
    EXECUTE FUNCTION lastseat.check_removal('If a request were deleted, its key could be used a second time.', 'g.key');

CREATE TYPE lastseat.receipt AS (key text, kind text, status text, duplicate boolean);
COMMENT ON TYPE lastseat.receipt IS
    'The answer to a request: its key, kind and current status, and whether the same was asked for before.';
COMMENT ON COLUMN lastseat.receipt.key IS 'The request''s key.';
COMMENT ON COLUMN lastseat.receipt.kind IS 'Its kind.';
COMMENT ON COLUMN lastseat.receipt.status IS 'pending, or its status by now.';
COMMENT ON COLUMN lastseat.receipt.duplicate IS 'True: it was asked for before, and this call changed nothing.';

-- Not named outcome: Postgres would read outcome('key') as a cast to it.
CREATE TYPE lastseat.request_outcome AS (
    key text, kind text, status text, code text, detail jsonb, attempts integer, job_id bigint,
    requested_at timestamptz, settled_at timestamptz
);
COMMENT ON TYPE lastseat.request_outcome IS 'A request and what came of it.';
COMMENT ON COLUMN lastseat.request_outcome.key IS 'The request''s key.';
COMMENT ON COLUMN lastseat.request_outcome.kind IS 'Its kind.';
COMMENT ON COLUMN lastseat.request_outcome.status IS 'pending, applied, rejected or failed.';
COMMENT ON COLUMN lastseat.request_outcome.code IS 'What exactly happened; null while pending.';
COMMENT ON COLUMN lastseat.request_outcome.detail IS
    'The figures behind the code, in minor units. Integers beyond 2^53 - 1, either way, are text.';
COMMENT ON COLUMN lastseat.request_outcome.attempts IS 'How often a worker took it up.';
COMMENT ON COLUMN lastseat.request_outcome.job_id IS 'The row of river_job that carries or carried it.';
COMMENT ON COLUMN lastseat.request_outcome.requested_at IS 'When it was asked for.';
COMMENT ON COLUMN lastseat.request_outcome.settled_at IS 'When it was settled; null while pending.';

-- A reader's cursor must miss nothing. Numbers that are drawn before the commit would not do, because a later
-- number may be committed first. So each transaction that settles leaves its id here, and a reader stops at the
-- oldest transaction that is still open. The log has a row for each batch and requests has no index for it: the
-- update that settles a request touches no index (docs/decisions/009).
--
-- Transaction ids belong to one history of one server. A standby that takes over, a backup that is rolled forward to an
-- earlier time, and a dump in another database each begin another history, in which the same ids are given out again.
-- So the log is divided into timelines, and the first transaction that settles in another history begins the next one.
CREATE TABLE lastseat.timelines (
    number      integer PRIMARY KEY CHECK (number > 0),
    token       text COLLATE "C" NOT NULL UNIQUE CHECK (token ~ '^[0-9a-f]{12}$'),
    server      text COLLATE "C" NOT NULL,
    began_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_xid    xid8 NOT NULL DEFAULT '0',
    last_number bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE lastseat.timelines IS
    'The histories of servers in which outcomes were settled. A new one begins when a standby takes over, or a backup or '
    'dump is restored.';
COMMENT ON COLUMN lastseat.timelines.number IS '1, 2, 3 ... in order.';
COMMENT ON COLUMN lastseat.timelines.token IS 'At random: a cursor names the timeline by it.';
COMMENT ON COLUMN lastseat.timelines.server IS
    'The server''s system identifier, its timeline (pg_walfile_name), and the database''s oid.';
COMMENT ON COLUMN lastseat.timelines.began_at IS 'When it began.';
COMMENT ON COLUMN lastseat.timelines.last_xid IS
    'The last transaction in the log of the timeline before: how far that one was known here when this one began.';
COMMENT ON COLUMN lastseat.timelines.last_number IS 'And its number.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lastseat.timelines
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('Cursors name the timelines.');

CREATE TABLE lastseat.outcome_log (
    timeline   integer NOT NULL,
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    number     bigint GENERATED BY DEFAULT AS IDENTITY,
    settled_at timestamptz NOT NULL,
    keys       text[] COLLATE "C" NOT NULL,
    PRIMARY KEY (timeline, xid, number)
);
COMMENT ON TABLE lastseat.outcome_log IS
    'Which transaction settled what, in order, one row for each batch: the source of lastseat.outcomes_since. '
    'Retention removes the oldest rows.';
COMMENT ON COLUMN lastseat.outcome_log.timeline IS 'The timeline to which xid belongs.';
COMMENT ON COLUMN lastseat.outcome_log.xid IS 'The transaction that settled them.';
COMMENT ON COLUMN lastseat.outcome_log.number IS
    'The order within a transaction. Expiries and grants have high numbers, so that readers see them after the '
    'requests.';
COMMENT ON COLUMN lastseat.outcome_log.settled_at IS 'The settled_at of these outcomes.';
COMMENT ON COLUMN lastseat.outcome_log.keys IS 'The keys of the requests, in the order in which they were settled.';

CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON lastseat.outcome_log
    FOR EACH STATEMENT
    EXECUTE FUNCTION lastseat.refuse_change('Readers rely on it. worker retain run removes what is too old.');
CREATE TRIGGER removed AFTER DELETE ON lastseat.outcome_log REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.check_log_removal();
CREATE TRIGGER logged AFTER UPDATE ON lastseat.requests REFERENCING NEW TABLE AS settled
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.log_outcomes();

-- Where each relay stands (docs/decisions/016). A relay has no transaction open while it speaks to its target, so
-- no lock can fence it: whoever takes the row raises the epoch, and the cursor moves only in the epoch of its mover.
CREATE TABLE lastseat.relays (
    name             text COLLATE "C" PRIMARY KEY CHECK (char_length(name) BETWEEN 1 AND 200),
    epoch            bigint NOT NULL DEFAULT 0,
    holder           text COLLATE "C",
    seen_at          timestamptz,
    cursor           text COLLATE "C" NOT NULL DEFAULT '',
    delivered        bigint NOT NULL DEFAULT 0,
    delivered_at     timestamptz,
    failures         integer NOT NULL DEFAULT 0,
    failing_since    timestamptz,
    retry_at         timestamptz,
    failed_at        timestamptz,
    last_error       text,
    disabled_at      timestamptz,
    disabled_because text,
    CONSTRAINT relays_disabled_with_reason CHECK ((disabled_at IS NULL) = (disabled_because IS NULL))
);
COMMENT ON TABLE lastseat.relays IS
    'One row for each target outside to which outcomes are relayed: how far it is, and what is wrong with it.';
COMMENT ON COLUMN lastseat.relays.name IS 'The relay''s name: that of its target, without what is secret.';
COMMENT ON COLUMN lastseat.relays.epoch IS
    'Goes up whenever a process takes the relay over, or its cursor is set by hand. The cursor moves only within one.';
COMMENT ON COLUMN lastseat.relays.holder IS
    'The process that serves it; its sessions are named lastseat relay HOLDER. Null: its last holder has left it.';
COMMENT ON COLUMN lastseat.relays.seen_at IS 'When the holder last showed that it is alive.';
COMMENT ON COLUMN lastseat.relays.cursor IS
    'A cursor of outcomes_since: that of the last outcome which the target has acknowledged.';
COMMENT ON COLUMN lastseat.relays.delivered IS 'How many outcomes the target has acknowledged, repeats included.';
COMMENT ON COLUMN lastseat.relays.delivered_at IS 'When it last acknowledged some.';
COMMENT ON COLUMN lastseat.relays.failures IS 'How many attempts in a row have failed.';
COMMENT ON COLUMN lastseat.relays.failing_since IS 'When the first of them failed.';
COMMENT ON COLUMN lastseat.relays.retry_at IS 'When it is tried again.';
COMMENT ON COLUMN lastseat.relays.failed_at IS 'When an attempt last failed.';
COMMENT ON COLUMN lastseat.relays.last_error IS 'What went wrong then.';
COMMENT ON COLUMN lastseat.relays.disabled_at IS
    'Since when the target gets nothing: it is gone, or failed for too long. worker relay resume enables it again.';
COMMENT ON COLUMN lastseat.relays.disabled_because IS 'What the target did.';
GRANT INSERT, UPDATE ON lastseat.relays TO lastseat_worker;

-- Who settles. Every transaction of a lane begins by locking the lane's row, which takes the right to UPDATE it: a
-- session of any other role can't keep a lane from its work. The row also remembers what the lane's last holder
-- could not say, because its process ended (docs/decisions/011-fence.md).
CREATE TABLE lastseat.lanes (
    queue           text COLLATE "C",
    lane            integer CHECK (lane >= 0),
    lanes           integer NOT NULL CHECK (lanes > 0),
    holder          text COLLATE "C",
    pid             integer,
    taken_at        timestamptz,
    settled_at      timestamptz,
    kinds           jsonb,
    unclean         integer NOT NULL DEFAULT 0,
    trying          bigint,
    trying_size     integer,
    deadly          bigint[] NOT NULL DEFAULT '{}',
    accused         bigint,
    accused_attempt integer,
    accused_error   text,
    PRIMARY KEY (queue, lane)
);
COMMENT ON TABLE lastseat.lanes IS
    'One row for each lane of a queue. Whoever settles the lane locks its row in each transaction.';
COMMENT ON COLUMN lastseat.lanes.queue IS 'The queue.';
COMMENT ON COLUMN lastseat.lanes.lane IS 'The number of the lane, from 0.';
COMMENT ON COLUMN lastseat.lanes.lanes IS
    'How many lanes the queue is split into. A lane with this number or a higher one is not in use.';
COMMENT ON COLUMN lastseat.lanes.holder IS 'The worker that holds the lane; null: its last holder has left it.';
COMMENT ON COLUMN lastseat.lanes.pid IS 'The process of Postgres that serves the holder.';
COMMENT ON COLUMN lastseat.lanes.taken_at IS 'When the holder took the lane.';
COMMENT ON COLUMN lastseat.lanes.settled_at IS 'When the lane last settled a batch; it is noted once a second at most.';
COMMENT ON COLUMN lastseat.lanes.kinds IS
    'The kinds that the holder, or the last one, settles, each with the argument by which its requests are divided among '
    'the lanes.';
COMMENT ON COLUMN lastseat.lanes.unclean IS
    'How many holders in a row ended without leaving the lane and without settling anything.';
COMMENT ON COLUMN lastseat.lanes.trying IS
    'The first job of the batch in hand, noted while earlier holders have ended in a batch.';
COMMENT ON COLUMN lastseat.lanes.trying_size IS 'How many jobs that batch has.';
COMMENT ON COLUMN lastseat.lanes.deadly IS
    'Jobs that were alone in a batch when their worker ended. They are tried alone until they are settled.';
COMMENT ON COLUMN lastseat.lanes.accused IS 'A job that has to be charged with a failed attempt.';
COMMENT ON COLUMN lastseat.lanes.accused_attempt IS 'Which attempt that was.';
COMMENT ON COLUMN lastseat.lanes.accused_error IS 'What the job did.';
GRANT INSERT, UPDATE ON lastseat.lanes TO lastseat_worker;

-- What was settled, as a chain of hashes that nobody can change unseen (docs/decisions/014). The lane adds its links in the
-- commit that settles. Whoever changes something immediately, in a transaction of their own (an account is opened, a job
-- is cancelled, a request retried), leaves the row in history_waiting, and a lane takes it into the chain "changes"
-- within a second: otherwise they would wait for one another.
CREATE TABLE lastseat.history (
    chain    text COLLATE "C" NOT NULL,
    number   bigint NOT NULL CHECK (number > 0),
    at       timestamptz NOT NULL,
    relation text COLLATE "C" NOT NULL,
    keys     text[] COLLATE "C" NOT NULL,
    digests  bytea[] NOT NULL,
    hash     bytea NOT NULL,
    PRIMARY KEY (chain, number),
    -- what worker audit can read, whoever has written it
    CONSTRAINT history_whole CHECK (
        array_ndims(keys) = 1 AND array_ndims(digests) = 1 AND cardinality(keys) = cardinality(digests)
        AND array_position(keys, NULL) IS NULL AND array_position(digests, NULL) IS NULL AND isfinite(at))
);
-- Digests don't get shorter, and compressing keys costs more time than the disk does.
ALTER TABLE lastseat.history ALTER COLUMN keys SET STORAGE EXTERNAL, ALTER COLUMN digests SET STORAGE EXTERNAL;
COMMENT ON TABLE lastseat.history IS
    'What was settled, as chains of hashes: worker audit compares the rows with it. Append-only, kept for ever.';
COMMENT ON COLUMN lastseat.history.chain IS 'QUEUE LANE/LANES, or changes.';
COMMENT ON COLUMN lastseat.history.number IS '1, 2, 3 ... within the chain, without a gap.';
COMMENT ON COLUMN lastseat.history.at IS 'The time of the transaction that wrote it.';
COMMENT ON COLUMN lastseat.history.relation IS 'The table whose rows it is about.';
COMMENT ON COLUMN lastseat.history.keys IS
    'The rows, by their primary keys; of payments and reservations each version, as ID@VERSION; of items ID#POSITION.';
COMMENT ON COLUMN lastseat.history.digests IS 'The first 16 bytes of the SHA-256 of each of these rows.';
COMMENT ON COLUMN lastseat.history.hash IS 'SHA-256 of this link and of the hash of the link before it.';
GRANT INSERT ON lastseat.history TO lastseat_worker;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lastseat.history
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('The history is never changed.');

CREATE TABLE lastseat.history_waiting (
    number   bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    relation text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    columns  text[] NOT NULL
);
COMMENT ON TABLE lastseat.history_waiting IS 'What a lane has yet to take into the history, within a second or so.';
COMMENT ON COLUMN lastseat.history_waiting.number IS 'The order for one row.';
COMMENT ON COLUMN lastseat.history_waiting.at IS 'When it was written.';
COMMENT ON COLUMN lastseat.history_waiting.relation IS 'The table.';
COMMENT ON COLUMN lastseat.history_waiting.key IS 'The row''s primary key.';
COMMENT ON COLUMN lastseat.history_waiting.columns IS 'Its columns, as text.';
GRANT DELETE ON lastseat.history_waiting TO lastseat_worker;

-- Calls: what a request has done outside the database, by a processor or another third party
-- (docs/decisions/019-calls.md).
--
-- The lane writes a call before anything is sent, and ends it when its answer is settled. Whoever sends it has no
-- transaction open meanwhile, and notes the answer only if the attempt is still the current one.

CREATE TABLE lastseat.calls (
    key           text COLLATE "C" NOT NULL,
    step          integer NOT NULL CHECK (step > 0),
    kind          text COLLATE "C" NOT NULL,
    target        text COLLATE "C" NOT NULL CHECK (char_length(target) BETWEEN 1 AND 127),
    operation     text COLLATE "C" NOT NULL,
    subject       text COLLATE "C",
    call_key      text COLLATE "C" NOT NULL UNIQUE CHECK (call_key ~ '^[0-9a-f]{64}$'),
    body          text,
    body_hash     bytea NOT NULL,
    attempt       integer NOT NULL DEFAULT 1 CHECK (attempt > 0),
    job_id        bigint NOT NULL,
    first_sent_at timestamptz,
    sent_at       timestamptz,
    stored        boolean NOT NULL DEFAULT false,
    result        text COLLATE "C" CHECK (result IN ('done', 'declined', 'unknown', 'lost')),
    code          text COLLATE "C",
    detail        jsonb,
    not_before    timestamptz,
    answered_at   timestamptz,
    last_error    text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz,
    PRIMARY KEY (key, step),
    CONSTRAINT calls_answered_with_result CHECK ((answered_at IS NULL) = (result IS NULL)),
    CONSTRAINT calls_open_with_body CHECK (ended_at IS NOT NULL OR body IS NOT NULL),
    CONSTRAINT calls_sent_first CHECK ((first_sent_at IS NULL) = (sent_at IS NULL) AND sent_at >= first_sent_at)
) WITH (fillfactor = 60); -- each row is updated a few times soon after it was inserted
-- A request has one call at a time, and so has a subject: a payment.
CREATE UNIQUE INDEX calls_one_open ON lastseat.calls (key) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX calls_one_of_subject ON lastseat.calls (subject) WHERE ended_at IS NULL AND subject IS NOT NULL;
COMMENT ON TABLE lastseat.calls IS
    'What requests have done outside the database, one row for each call. A call is open until its answer is settled.';
COMMENT ON COLUMN lastseat.calls.key IS 'The request''s key.';
COMMENT ON COLUMN lastseat.calls.step IS 'Numbers the calls of a request 1, 2, 3 ... Almost every request has one.';
COMMENT ON COLUMN lastseat.calls.kind IS 'The request''s kind.';
COMMENT ON COLUMN lastseat.calls.target IS 'Who is called: a processor''s name, or the kind.';
COMMENT ON COLUMN lastseat.calls.operation IS 'What is asked of them: charge, refund, send ...';
COMMENT ON COLUMN lastseat.calls.subject IS 'What the call is about, if that may have one open call only: payment:ID.';
COMMENT ON COLUMN lastseat.calls.call_key IS
    'The idempotency key that goes out with every attempt: SHA-256 of key and step, as 64 hexadecimal digits.';
COMMENT ON COLUMN lastseat.calls.body IS
    'What is sent, JSON; the same with every attempt. Null once the call has ended.';
COMMENT ON COLUMN lastseat.calls.body_hash IS 'SHA-256 of the body.';
COMMENT ON COLUMN lastseat.calls.attempt IS 'The current attempt. The answer of another one is not taken.';
COMMENT ON COLUMN lastseat.calls.job_id IS 'The job of the current attempt, of the kind lastseat.call.';
COMMENT ON COLUMN lastseat.calls.first_sent_at IS
    'When the first attempt began; written before anything is sent. Null: nothing was.';
COMMENT ON COLUMN lastseat.calls.sent_at IS 'When the last attempt that sent something began.';
COMMENT ON COLUMN lastseat.calls.stored IS
    'True: the other side keeps its answer under the key, so the call is never sent again, only looked up.';
COMMENT ON COLUMN lastseat.calls.result IS
    'The answer to the current attempt: done, declined, unknown, or lost (it will never be known). Null: none yet.';
COMMENT ON COLUMN lastseat.calls.code IS 'The reason in one word.';
COMMENT ON COLUMN lastseat.calls.detail IS 'What else the answer says.';
COMMENT ON COLUMN lastseat.calls.not_before IS 'The next attempt begins at this time at the earliest.';
COMMENT ON COLUMN lastseat.calls.answered_at IS 'When the answer came.';
COMMENT ON COLUMN lastseat.calls.last_error IS 'What went wrong with the last attempt whose result is unknown.';
COMMENT ON COLUMN lastseat.calls.created_at IS 'When the lane wrote it.';
COMMENT ON COLUMN lastseat.calls.ended_at IS 'When its answer was settled. Null: it is open.';
GRANT INSERT (key, step, kind, target, operation, subject, call_key, body, body_hash, job_id),
    UPDATE (attempt, job_id, result, code, detail, not_before, answered_at, body, ended_at)
ON lastseat.calls TO lastseat_worker;

CREATE TRIGGER fixed BEFORE UPDATE ON lastseat.calls
    FOR EACH ROW WHEN (
        OLD.key IS DISTINCT FROM NEW.key OR OLD.step IS DISTINCT FROM NEW.step OR OLD.kind IS DISTINCT FROM NEW.kind
        OR OLD.target IS DISTINCT FROM NEW.target OR OLD.operation IS DISTINCT FROM NEW.operation
        OR OLD.subject IS DISTINCT FROM NEW.subject OR OLD.call_key IS DISTINCT FROM NEW.call_key
        OR OLD.body_hash IS DISTINCT FROM NEW.body_hash OR OLD.created_at IS DISTINCT FROM NEW.created_at
        OR NEW.body <> OLD.body OR NEW.attempt < OLD.attempt OR NEW.sent_at < OLD.sent_at
        OR OLD.first_sent_at IS DISTINCT FROM NEW.first_sent_at AND OLD.first_sent_at IS NOT NULL
        OR OLD.stored AND NOT NEW.stored OR OLD.ended_at IS NOT NULL)
    EXECUTE FUNCTION lastseat.refuse_change('Every attempt at a call sends the same. A call that has ended stays so.');
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON lastseat.calls
    FOR EACH STATEMENT
    EXECUTE FUNCTION lastseat.refuse_change('If a call were deleted, it could be made a second time.');

-- How long what is settled is kept, and what was removed (docs/decisions/020-retention.md). Only an administrator says how
-- long; lastseat_keeper removes what is older, and nothing else.
CREATE TABLE lastseat.retention (
    what text COLLATE "C" PRIMARY KEY
         CHECK (what IN ('requests', 'outcome_log', 'taken_events', 'payments', 'reservations', 'transfers')
                OR what ~ '^requests:.{1,127}$'),
    days integer CHECK (days >= 0)
);
COMMENT ON TABLE lastseat.retention IS 'How long what is settled is kept. What has no row is kept for ever.';
COMMENT ON COLUMN lastseat.retention.what IS
    'requests, requests:KIND for one kind, outcome_log, taken_events, payments, reservations, transfers.';
COMMENT ON COLUMN lastseat.retention.days IS
    'How many days after it was settled or last changed, or an event was taken in; null: for ever.';
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON lastseat.retention
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('To keep it for ever: SELECT lastseat.keep(what, NULL).');
CREATE TRIGGER noted AFTER INSERT OR UPDATE ON lastseat.retention
    FOR EACH ROW EXECUTE FUNCTION lastseat.note_definition('what', 'days');

CREATE TABLE lastseat.removed (
    what          text COLLATE "C" PRIMARY KEY,
    before        timestamptz NOT NULL,
    last_timeline integer,
    last_xid      xid8,
    last_number   bigint,
    last_place    integer
);
COMMENT ON TABLE lastseat.removed IS 'How far retention has come. The history has what it removed, row by row.';
COMMENT ON COLUMN lastseat.removed.what IS 'The table.';
COMMENT ON COLUMN lastseat.removed.before IS
    'Rows that were settled, or last changed, before this may be gone. Of outcome_log: all of them are.';
COMMENT ON COLUMN lastseat.removed.last_timeline IS 'Of outcome_log: the last row that was removed.';
COMMENT ON COLUMN lastseat.removed.last_xid IS 'Its transaction.';
COMMENT ON COLUMN lastseat.removed.last_number IS 'Its number.';
COMMENT ON COLUMN lastseat.removed.last_place IS 'How many keys it had.';
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON lastseat.removed
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('What is gone does not come back.');
CREATE TRIGGER noted AFTER INSERT OR UPDATE ON lastseat.removed FOR EACH ROW
    EXECUTE FUNCTION lastseat.note_definition('what', 'before', 'last_timeline', 'last_xid', 'last_number', 'last_place');

-- An id stands for one payment or reservation for ever: its transfers name it, and a repeated request must not make it
-- again.
CREATE TABLE lastseat.removed_ids (
    what text COLLATE "C" NOT NULL,
    id   text COLLATE "C" NOT NULL,
    PRIMARY KEY (what, id)
);
COMMENT ON TABLE lastseat.removed_ids IS
    'The ids of payments and reservations, and the keys of transfers, that retention has removed: they are never used again.';
COMMENT ON COLUMN lastseat.removed_ids.what IS 'payments, reservations or transfers.';
COMMENT ON COLUMN lastseat.removed_ids.id IS 'The id; of a transfer the key under which it moved money.';
CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON lastseat.removed_ids
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('What is gone does not come back.');

-- The worker sets lastseat.lane in its own transactions, so these triggers let it pass.
CREATE TRIGGER lastseat_kept BEFORE DELETE ON lastseat.river_job FOR EACH ROW
    WHEN (OLD.state NOT IN ('completed', 'cancelled', 'discarded')
          AND current_setting('lastseat.lane', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION lastseat.job_taken_away();
CREATE TRIGGER lastseat_kept_whole BEFORE TRUNCATE ON lastseat.river_job FOR EACH STATEMENT
    EXECUTE FUNCTION lastseat.job_taken_away();
CREATE TRIGGER lastseat_cancelled AFTER UPDATE ON lastseat.river_job FOR EACH ROW
    WHEN (NEW.state IN ('cancelled', 'discarded') AND OLD.state NOT IN ('cancelled', 'discarded')
          AND current_setting('lastseat.lane', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION lastseat.job_taken_away();
