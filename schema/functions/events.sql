-- Events of others: what a card processor tells by webhook.

CREATE OR REPLACE FUNCTION lastseat.take_event(source text, id text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
#variable_conflict use_column
DECLARE
    named CONSTANT boolean := coalesce(char_length(take_event.source), 0) BETWEEN 1 AND 200;
BEGIN
    IF NOT named OR coalesce(char_length(take_event.id), 0) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'the event''s % is %', CASE WHEN named THEN 'id' ELSE 'source' END,
                coalesce('"' || left(CASE WHEN named THEN take_event.id ELSE take_event.source END, 50) || '"', 'null')
            USING ERRCODE = 'LS002', HINT = 'A source and an id have 1 to 200 characters each.',
                  COLUMN = CASE WHEN named THEN 'id' ELSE 'source' END;
    END IF;
    INSERT INTO taken_events (source, id) VALUES (take_event.source, take_event.id)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION lastseat.take_event IS
'Takes an event of somebody else''s in, in the caller''s transaction: true the first time, false if it was taken in '
'before. Another transaction that is taking it in is waited for.

source: who has sent it: stripe, or a name of your own, 1 to 200 characters.
id: the event''s id, 1 to 200 characters: the same whenever it comes again.

Errors: LS002.';
GRANT EXECUTE ON FUNCTION lastseat.take_event TO lastseat_producer, lastseat_worker;
