-- Where the schema's version is noted. Run before every migration, by the owner; it does nothing once the tables exist.

CREATE TABLE IF NOT EXISTS lastseat.schema_migrations (
    version    bigint PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE lastseat.schema_migrations IS 'The migrations of this schema that have been applied.';
COMMENT ON COLUMN lastseat.schema_migrations.version IS 'The migration''s number.';
COMMENT ON COLUMN lastseat.schema_migrations.name IS 'Its name: 0001_requests.';
COMMENT ON COLUMN lastseat.schema_migrations.applied_at IS 'When it was applied.';

CREATE TABLE IF NOT EXISTS lastseat.schema_functions (
    version      bigint NOT NULL,
    digest       text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE lastseat.schema_functions IS 'The set of functions that is in place: one row, or none.';
COMMENT ON COLUMN lastseat.schema_functions.version IS 'The number of the set.';
COMMENT ON COLUMN lastseat.schema_functions.digest IS 'SHA-256 of its files.';
COMMENT ON COLUMN lastseat.schema_functions.installed_at IS 'When it was put in place.';
