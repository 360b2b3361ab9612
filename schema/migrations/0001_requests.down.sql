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
    lastseat.history_waiting, lastseat.lanes, lastseat.relays, lastseat.calls, lastseat.retention, lastseat.removed,
    lastseat.removed_ids;
DROP TYPE lastseat.request_outcome, lastseat.receipt;
DROP FUNCTION lastseat.job_taken_away(), lastseat.log_outcomes(), lastseat.refuse_resettle(), lastseat.refuse_change(),
    lastseat.note_definition(), lastseat.check_removal(), lastseat.check_log_removal(), lastseat.check_new_id();

ALTER DEFAULT PRIVILEGES IN SCHEMA lastseat REVOKE SELECT ON TABLES FROM lastseat_viewer, lastseat_worker, lastseat_keeper;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA lastseat FROM lastseat_worker, lastseat_viewer, lastseat_keeper;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA lastseat FROM lastseat_worker, lastseat_viewer, lastseat_keeper;
ALTER DEFAULT PRIVILEGES IN SCHEMA lastseat REVOKE SELECT ON SEQUENCES FROM lastseat_viewer, lastseat_worker, lastseat_keeper;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA lastseat FROM lastseat_worker;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA lastseat TO PUBLIC;
REVOKE ALL ON SCHEMA lastseat FROM lastseat_worker, lastseat_producer, lastseat_viewer, lastseat_keeper;
