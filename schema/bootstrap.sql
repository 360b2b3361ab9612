-- What has to exist before the first migration can run in the owner's name. The caller of "worker migrate up" runs
-- it every time; it does nothing that has been done. Roles belong to the whole cluster, so another database may have
-- created them.

DO $$
DECLARE
    role     record;
    stranger text;
BEGIN
    FOR role IN VALUES
        ('lastseat_owner', 'NOLOGIN'), ('lastseat_worker', 'LOGIN'),
        ('lastseat_producer', 'LOGIN'), ('lastseat_viewer', 'LOGIN'), ('lastseat_keeper', 'LOGIN')
    LOOP
        IF to_regrole(role.column1) IS NULL THEN
            BEGIN
                -- Without a password nobody can log in with one: ALTER ROLE ... PASSWORD, or GRANT it to another role.
                EXECUTE format('CREATE ROLE %I %s NOSUPERUSER NOCREATEDB NOCREATEROLE', role.column1, role.column2);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another migration was quicker
            END;
        END IF;
    END LOOP;
    -- From Postgres 16 on the creator of a role may grant it, and has to grant it to themselves before using it.
    IF NOT pg_has_role(current_user, 'lastseat_owner', 'USAGE') THEN
        BEGIN
            EXECUTE format('GRANT lastseat_owner TO %I', current_user);
        EXCEPTION WHEN insufficient_privilege THEN
            NULL; -- a member without INHERIT can still SET ROLE, which comes next; for anybody else that fails
        END;
    END IF;
    -- So that a worker's log can say what a session does that has locked a row: its state and its statement. Whoever may
    -- not grant this migrates without; the log then says what to grant.
    IF NOT pg_has_role('lastseat_worker', 'pg_read_all_stats', 'MEMBER') THEN
        BEGIN
            GRANT pg_read_all_stats TO lastseat_worker;
        EXCEPTION WHEN insufficient_privilege OR unique_violation THEN
            NULL; -- or another migration was quicker
        END;
    END IF;
    IF to_regnamespace('lastseat') IS NULL THEN
        CREATE SCHEMA lastseat AUTHORIZATION lastseat_owner;
    END IF;
    -- Everybody with CREATE on the database can have made it before us. A function of theirs in it would be called by
    -- ours, with the rights of lastseat_owner. Whoever is a member of that role, or a superuser, has those anyway.
    SELECT s.stranger INTO stranger
    FROM pg_namespace n, LATERAL (
        SELECT format('it belongs to %s', n.nspowner::regrole) AS stranger, n.nspowner AS who
        UNION ALL
        SELECT format('%s may create in it', coalesce(nullif(a.grantee, 0)::regrole::text, 'everybody')), a.grantee
        FROM aclexplode(n.nspacl) a WHERE a.privilege_type = 'CREATE'
        UNION ALL
        SELECT format('the %s belongs to %s', pg_describe_object(d.classid, d.objid, 0), o.refobjid::regrole),
               o.refobjid
        FROM pg_depend d JOIN pg_shdepend o ON (o.classid, o.objid) = (d.classid, d.objid) AND o.deptype = 'o'
        WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
          AND o.dbid = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database())
    ) s
    WHERE n.nspname = 'lastseat'
      AND (s.who = 0 OR NOT pg_has_role(s.who, 'lastseat_owner', 'MEMBER')) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the schema lastseat is not only ours: %', stranger
            USING ERRCODE = 'invalid_schema_name',
                  HINT = 'Who put it there? What they create in it can run with the rights of lastseat_owner. Drop it '
                         'if it holds no data; otherwise give it and all that is in it to lastseat_owner, and revoke CREATE.';
    END IF;
END $$;
