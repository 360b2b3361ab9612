DO $$ BEGIN
    IF EXISTS (SELECT FROM lastseat.requests) THEN
        RAISE EXCEPTION 'lastseat.requests is not empty: this migration does not drop requests'
            USING HINT = 'Dump it, then DROP SCHEMA lastseat CASCADE, if that is what you want.';
    END IF;
END $$;
DROP TRIGGER lastseat_kind ON lastseat.river_job;
DROP TRIGGER lastseat_kept_whole ON lastseat.river_job;
DROP TRIGGER lastseat_kept ON lastseat.river_job;
DROP TRIGGER lastseat_cancelled ON lastseat.river_job;
DROP TABLE lastseat.requests, lastseat.outcome_log, lastseat.timelines, lastseat.history,
    lastseat.history_waiting, lastseat.lanes, lastseat.relays, lastseat.calls;
DROP TYPE lastseat.request_outcome, lastseat.receipt;
DROP FUNCTION lastseat.job_taken_away(), lastseat.log_outcomes(), lastseat.refuse_resettle(), lastseat.refuse_change(),
    lastseat.note_definition();

ALTER DEFAULT PRIVILEGES IN SCHEMA lastseat REVOKE SELECT ON TABLES FROM lastseat_viewer, lastseat_worker;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA lastseat FROM lastseat_worker, lastseat_viewer;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA lastseat FROM lastseat_worker, lastseat_viewer;
ALTER DEFAULT PRIVILEGES IN SCHEMA lastseat REVOKE SELECT ON SEQUENCES FROM lastseat_viewer, lastseat_worker;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA lastseat FROM lastseat_worker;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA lastseat TO PUBLIC;
REVOKE ALL ON SCHEMA lastseat FROM lastseat_worker, lastseat_producer, lastseat_viewer;
