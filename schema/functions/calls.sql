-- Calls: what whoever sends a call asks of the database, before and after, in a transaction of its own each time
-- (docs/decisions/019-calls.md). The lane does the rest.

-- Nothing is sent before this is committed. So what a killed process may have sent is known to have been sent.
CREATE OR REPLACE FUNCTION lastseat.begin_call(key text, step integer, attempt integer, key_window interval)
RETURNS TABLE (
    kind text, operation text, call_key text, body text, sends boolean, first_sent_at timestamptz, sent_at timestamptz,
    seen_at timestamptz
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known calls;
    again boolean; -- it may be sent
    began CONSTANT timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO known FROM calls c
    WHERE c.key = begin_call.key AND c.step = begin_call.step AND c.attempt = begin_call.attempt
      AND c.answered_at IS NULL AND c.ended_at IS NULL
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    ELSIF sha256(convert_to(known.body, 'UTF8')) <> known.body_hash THEN
        RAISE EXCEPTION 'the body of call % of request "%" is not what was to be sent', known.step, known.key
            USING ERRCODE = 'data_exception';
    END IF;
    again := NOT known.stored AND (known.first_sent_at IS NULL OR began < known.first_sent_at + key_window);
    IF again THEN
        UPDATE calls c SET first_sent_at = coalesce(c.first_sent_at, began), sent_at = greatest(c.sent_at, began)
        WHERE c.key = known.key AND c.step = known.step
        RETURNING * INTO known;
    END IF;
    RETURN QUERY SELECT known.kind, known.operation, known.call_key, known.body, again, known.first_sent_at,
                        known.sent_at, began;
END $$;
COMMENT ON FUNCTION lastseat.begin_call IS
'Notes that an attempt at a call begins, and returns what is to be sent; no row if the attempt is no longer the '
'current one or has its answer. For the worker.

key: the request''s key.
step: which of its calls.
attempt: which attempt at it.
key_window: how long after the first attempt the call may be sent again.';
GRANT EXECUTE ON FUNCTION lastseat.begin_call TO lastseat_worker;

-- The compare-and-set of a call: the answer counts if it is that of the current attempt and the first one. The
-- request's own job then comes to its lane again, behind all that was asked for before.
CREATE OR REPLACE FUNCTION lastseat.answer_call(
    key text, step integer, attempt integer, result text, code text, detail jsonb, stored boolean, wait interval
)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    -- before the time, as in enqueue: the lane proves by it what it need not read
    writer CONSTANT xid8 := pg_current_xact_id();
    job    CONSTANT bigint := (SELECT r.job_id FROM requests r WHERE r.key = answer_call.key);
    woken  text;
BEGIN
    -- A lane that decides about the call has its job locked.
    PERFORM FROM river_job j WHERE j.id = job FOR UPDATE;
    UPDATE calls c SET
        result = answer_call.result, code = answer_call.code, stored = c.stored OR answer_call.stored,
        detail = CASE WHEN answer_call.result IN ('unknown', 'lost') THEN NULL ELSE answer_call.detail END,
        last_error = CASE WHEN answer_call.result IN ('unknown', 'lost') THEN answer_call.detail ->> 'error'
                          ELSE c.last_error END,
        answered_at = clock_timestamp(), not_before = clock_timestamp() + answer_call.wait
    WHERE c.key = answer_call.key AND c.step = answer_call.step AND c.attempt = answer_call.attempt
      AND c.answered_at IS NULL AND c.ended_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE river_job j SET state = 'available', scheduled_at = clock_timestamp()
    WHERE j.id = job AND j.state IN ('scheduled', 'retryable', 'available', 'pending')
    RETURNING j.queue INTO woken;
    IF FOUND THEN
        PERFORM ring(woken);
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION lastseat.answer_call IS
'Notes the answer to an attempt at a call, and has the request come to its lane with it. False: the attempt is no '
'longer the current one, or has its answer, and nothing has changed. For the worker.

key: the request''s key.
step: which of its calls.
attempt: which attempt at it.
result: done, declined, unknown or lost.
code: the reason in one word.
detail: what else the answer says.
stored: true if the call must not be sent again.
wait: how long to wait before the next attempt.';
GRANT EXECUTE ON FUNCTION lastseat.answer_call TO lastseat_worker;
