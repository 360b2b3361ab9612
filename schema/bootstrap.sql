-- What has to be there before the first migration can run under the owner's name. Run by whoever migrates, every time:
-- it does nothing where it has nothing to do. Roles belong to the whole cluster, so another database may have them.

DO $$
DECLARE
    role record;
BEGIN
    FOR role IN VALUES ('lastseat_owner', 'NOLOGIN'), ('lastseat_worker', 'LOGIN'), ('lastseat_producer', 'LOGIN'), ('lastseat_viewer', 'LOGIN') LOOP
        IF to_regrole(role.column1) IS NULL THEN
            BEGIN
                -- Without a password nobody can log in by one: ALTER ROLE ... PASSWORD, or GRANT it to a role of one's own.
                EXECUTE format('CREATE ROLE %I %s NOSUPERUSER NOCREATEDB NOCREATEROLE', role.column1, role.column2);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another migration was quicker
            END;
        END IF;
    END LOOP;
    -- From Postgres 16 on, who made a role may grant it, and has to grant it to himself before he can use it.
    IF NOT pg_has_role(current_user, 'lastseat_owner', 'USAGE') THEN
        BEGIN
            EXECUTE format('GRANT lastseat_owner TO %I', current_user);
        EXCEPTION WHEN insufficient_privilege THEN
            NULL; -- a member that has to SET ROLE, which is what follows; who is no member fails there
        END;
    END IF;
    IF to_regnamespace('lastseat') IS NULL THEN
        CREATE SCHEMA lastseat AUTHORIZATION lastseat_owner;
    END IF;
END $$;
