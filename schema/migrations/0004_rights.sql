-- Who may do what. The roles are made before the first migration (bootstrap.sql); everything here belongs to
-- lastseat_owner, under whose name the migrations run.

-- +goose Up

-- PUBLIC may execute every new function unless that is taken away in the same transaction: for all that later
-- migrations create, it is taken away here.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA lastseat FROM PUBLIC;

-- Last of all that makes version 4: whoever asks knows that the functions are complete.
-- +goose StatementBegin
CREATE FUNCTION lastseat.schema_version(OUT own bigint, OUT river bigint) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
BEGIN ATOMIC
    SELECT (SELECT max(version_id) FROM lastseat.schema_migrations), (SELECT max(version) FROM lastseat.river_migration WHERE line = 'main');
END;
-- +goose StatementEnd
COMMENT ON FUNCTION lastseat.schema_version() IS 'The newest migrations that have been applied, Lastseat''s and River''s.';
GRANT EXECUTE ON FUNCTION lastseat.schema_version() TO lastseat_producer, lastseat_worker, lastseat_viewer;

GRANT USAGE ON SCHEMA lastseat TO lastseat_worker, lastseat_producer, lastseat_viewer;

GRANT EXECUTE ON FUNCTION
    lastseat.enqueue(text, text, jsonb, timestamptz),
    lastseat.transfer(text, text, text, bigint, text, text, jsonb),
    lastseat.open_account(text, text, bigint, boolean),
    lastseat.outcome(text),
    lastseat.retry(text)
TO lastseat_producer, lastseat_worker;
GRANT EXECUTE ON FUNCTION lastseat.outcome(text) TO lastseat_viewer;

GRANT SELECT ON ALL TABLES IN SCHEMA lastseat TO lastseat_viewer, lastseat_worker;
ALTER DEFAULT PRIVILEGES IN SCHEMA lastseat GRANT SELECT ON TABLES TO lastseat_viewer, lastseat_worker;

-- The worker writes what it settles, and can't rewrite what is settled: no UPDATE of the ledger, no DELETE but of jobs.
GRANT INSERT ON lastseat.transfers, lastseat.entries TO lastseat_worker;
GRANT UPDATE ON lastseat.accounts TO lastseat_worker;
GRANT INSERT, UPDATE ON lastseat.requests TO lastseat_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA lastseat TO lastseat_worker;
GRANT EXECUTE ON FUNCTION lastseat.fingerprint(text, jsonb), lastseat.doorbell(text), lastseat.lane_lock(text, integer, integer) TO lastseat_worker;

-- River's own tables: its client does its housekeeping under the worker's name.
GRANT INSERT, UPDATE, DELETE ON lastseat.river_job, lastseat.river_leader, lastseat.river_queue, lastseat.river_notification TO lastseat_worker;
GRANT EXECUTE ON FUNCTION lastseat.river_job_state_in_bitmask(bit, lastseat.river_job_state) TO lastseat_worker;

-- +goose Down

DROP FUNCTION lastseat.schema_version();

ALTER DEFAULT PRIVILEGES IN SCHEMA lastseat REVOKE SELECT ON TABLES FROM lastseat_viewer, lastseat_worker;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA lastseat FROM lastseat_worker, lastseat_viewer;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA lastseat FROM lastseat_worker;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA lastseat FROM lastseat_worker, lastseat_producer, lastseat_viewer;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA lastseat TO PUBLIC;
REVOKE ALL ON SCHEMA lastseat FROM lastseat_worker, lastseat_producer, lastseat_viewer;
