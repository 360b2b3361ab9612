-- The functions of the triggers. They are put in place before the migrations, which create the triggers; so a
-- variable here can't have the type of one of our tables.
--
-- Every function of the schema is SECURITY DEFINER with its search_path pinned: a caller's temporary table catches
-- nothing.

CREATE OR REPLACE FUNCTION lastseat.refuse_change()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% of lastseat.% is not allowed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation', HINT = TG_ARGV[0];
END $$;
COMMENT ON FUNCTION lastseat.refuse_change IS 'Trigger: refuses to change what never changes.';

-- A settled request stays as it is. lastseat.retry is the one way back, for a failed request only.
CREATE OR REPLACE FUNCTION lastseat.refuse_resettle()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF OLD.status = 'failed' AND NEW.status = 'pending' AND NEW.job_id = OLD.job_id
       AND NEW.requested_at = OLD.requested_at THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'request "%" is % (%) and stays so', OLD.key, OLD.status, OLD.code
        USING ERRCODE = 'integrity_constraint_violation',
              HINT = 'A new key tries again. A failed request can be retried.';
END $$;
COMMENT ON FUNCTION lastseat.refuse_resettle IS
'Trigger: a settled request stays settled, except that a failed one can be retried.';

-- A waiting job that is cancelled (in River UI, say) or discarded (by River, for a unique one) will never be
-- settled: its request fails at once, and can be retried. A waiting job can't be deleted, because its arguments are
-- nowhere else.
--
-- settled_at is the time of the cancellation, not of the transaction's begin: one transaction may cancel a job,
-- retry it and cancel it again, and the log then tells the last outcome. The lane notifies waiters, and so does
-- this.
CREATE OR REPLACE FUNCTION lastseat.job_taken_away()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        IF EXISTS (SELECT FROM requests r WHERE r.status = 'pending') THEN
            RAISE EXCEPTION 'river_job carries pending requests'
                USING ERRCODE = 'integrity_constraint_violation', HINT = 'Delete the jobs that are finished instead.';
        END IF;
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM requests r
                   WHERE r.job_id = OLD.id AND r.key = OLD.args ->> 'key' AND r.status = 'pending') THEN
            RAISE EXCEPTION 'job % carries the pending request "%"', OLD.id, OLD.args ->> 'key'
                USING ERRCODE = 'integrity_constraint_violation',
                      HINT = 'Cancel the job instead: its request then fails, and can be retried.';
        END IF;
        RETURN OLD;
    END IF;
    IF EXISTS (SELECT FROM requests r JOIN calls c ON c.key = r.key AND c.ended_at IS NULL
               WHERE r.job_id = NEW.id AND r.key = NEW.args ->> 'key' AND r.status = 'pending') THEN
        RAISE EXCEPTION 'request "%" has a call under way', NEW.args ->> 'key'
            USING ERRCODE = 'integrity_constraint_violation',
                  HINT = 'It may have been carried out outside. The request is settled when its answer is known.';
    END IF;
    UPDATE requests r SET status = 'failed', code = 'job_cancelled', settled_at = clock_timestamp()
    WHERE r.job_id = NEW.id AND r.key = NEW.args ->> 'key' AND r.status = 'pending';
    IF FOUND THEN
        PERFORM note_request(NEW.args ->> 'key');
        IF pg_notification_queue_usage() < 0.5 THEN -- a full one would fail the commit
            PERFORM pg_notify('lastseat_outcome', NEW.queue);
        END IF;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION lastseat.job_taken_away IS
'Trigger: a job that carries a pending request can''t be deleted; if it is cancelled, its request fails, unless it has '
'a call under way: then it can''t be cancelled either.';

CREATE OR REPLACE FUNCTION lastseat.log_outcomes()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    -- What is settled now was pending before: nothing else is let by (settled_once).
    IF EXISTS (SELECT FROM settled n WHERE n.status <> 'pending') THEN
        INSERT INTO outcome_log (timeline, settled_at, keys)
        -- The order is that of the batch, whatever order the UPDATE met the rows in.
        SELECT current_timeline(), n.settled_at, array_agg(n.key ORDER BY n.place, n.job_id) FROM settled n
        WHERE n.status <> 'pending' GROUP BY n.settled_at;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.log_outcomes IS 'Trigger: writes what was settled to outcome_log.';

-- Stands in for three foreign keys on (account, currency), for the rows of a whole statement at once. It needs no row
-- locks because an account is never deleted and its currency never changes.
CREATE OR REPLACE FUNCTION lastseat.check_transfer_accounts()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off AS $$ -- the plan is cached while the table is small
DECLARE
    seen record; -- an account that is not there or not in the currency, and what else there is to look at
    bad  record;
BEGIN
    -- One query: each one in here costs every batch, however small.
    SELECT b.account, b.currency, EXISTS (SELECT FROM new_transfers n WHERE n.reverses_id IS NOT NULL) AS reverses,
           EXISTS (SELECT FROM retention k WHERE k.what = 'transfers') AS removes
    INTO seen
    FROM (SELECT) AS once LEFT JOIN (
        -- Each account is looked up once: beside an old snapshot, a lookup reads all versions since.
        SELECT n.account, n.currency
        FROM (SELECT from_account AS account, currency FROM new_transfers
              UNION SELECT to_account, currency FROM new_transfers) n
        LEFT JOIN LATERAL (SELECT a.currency FROM accounts a WHERE a.id = n.account OFFSET 0) a ON true
        WHERE a.currency IS DISTINCT FROM n.currency
        LIMIT 1
    ) b ON true;
    IF seen.account IS NOT NULL THEN
        SELECT t.id, t.from_account, f.currency AS from_currency, t.to_account, o.currency AS to_currency, t.currency
        INTO bad
        FROM new_transfers t
        LEFT JOIN accounts f ON f.id = t.from_account
        LEFT JOIN accounts o ON o.id = t.to_account
        WHERE t.currency = seen.currency AND seen.account IN (t.from_account, t.to_account)
        LIMIT 1;
        RAISE EXCEPTION 'transfer % is in %, account "%" in %, account "%" in %', bad.id, bad.currency,
            bad.from_account, coalesce(bad.from_currency, '(no such account)'),
            bad.to_account, coalesce(bad.to_currency, '(no such account)')
            USING ERRCODE = 'foreign_key_violation', TABLE = 'transfers', CONSTRAINT = 'transfers_one_currency';
    END IF;
    -- What is reversed stays: retention passes by the lock, or was quicker.
    IF seen.reverses THEN
        FOR bad IN SELECT n.id, n.reverses_id FROM new_transfers n WHERE n.reverses_id IS NOT NULL ORDER BY n.reverses_id LOOP
            PERFORM FROM transfers t WHERE t.id = bad.reverses_id FOR KEY SHARE;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'transfer % was removed in this moment, for it is no longer kept', bad.reverses_id
                    USING ERRCODE = 'serialization_failure', HINT = 'Repeat the transaction.';
            END IF;
        END LOOP;
    END IF;
    -- Not by what was removed: a snapshot from before the first removal has no row of that.
    IF seen.removes THEN
        SELECT n.id, n.key INTO bad FROM new_transfers n
        JOIN LATERAL (SELECT FROM removed_ids r WHERE r.what = 'transfers' AND r.id = n.key
                      UNION ALL -- for a snapshot from before it was removed
                      SELECT FROM transfers o WHERE o.key = n.key AND o.leg = n.leg AND o.id <> n.id OFFSET 0) r ON true
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'key "%" has moved money, and its transfer is no longer kept', bad.key
                USING ERRCODE = 'unique_violation', TABLE = 'transfers', CONSTRAINT = 'transfers_key_leg_key';
        END IF;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.check_transfer_accounts IS
'Trigger: both accounts of a transfer exist, and are in its currency; what it reverses is there, and its key moves money '
'once, whether the first transfer is still kept or not.';

-- An entry goes with its transfer, which the same transaction has noted in the history.
CREATE OR REPLACE FUNCTION lastseat.check_entry_removal()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp SET enable_hashjoin = on AS $$
DECLARE
    noted CONSTANT text[] := ARRAY(
        SELECT split_part(k.key, ' ', 1)
        FROM (SELECT h.keys, h.relation, h.xmin AS writer FROM history h WHERE h.chain = 'retention'
              ORDER BY h.number DESC LIMIT 8) h, unnest(h.keys) AS k(key)
        WHERE h.writer = pg_current_xact_id()::xid AND h.relation IN ('transfers.removed', 'transfers.archived'));
    other record;
BEGIN
    SELECT g.account_id, g.version INTO other FROM gone g
    WHERE NOT EXISTS (SELECT FROM unnest(noted) AS n(id) WHERE n.id = g.transfer_id::text) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% of lastseat.entries is not allowed', TG_OP
            USING ERRCODE = 'integrity_constraint_violation',
                  DETAIL = format('The transfer of entry %s of account %s is not noted as removed.', other.version, other.account_id),
                  HINT = 'An entry stays as long as its transfer. worker retain run removes what is too old.';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.check_entry_removal IS
'Trigger: an entry is deleted only if the history notes in the same transaction that its transfer is removed.';

-- Every entry continues its account's chain: version one up, balance_after the balance before plus the amount. The entry
-- before may be gone if its account was closed there.
CREATE OR REPLACE FUNCTION lastseat.check_entry_chain()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$ -- the plan is cached while the table is empty
DECLARE
    bad record;
BEGIN
    SELECT n.account_id, n.version INTO bad
    FROM new_entries n
    LEFT JOIN LATERAL (
        SELECT e.version, e.balance_after FROM entries e
        WHERE e.account_id = n.account_id AND e.version = n.version - 1 OFFSET 0
    ) p ON true
    LEFT JOIN LATERAL (
        SELECT c.version, c.balance FROM closings c
        WHERE p.version IS NULL AND c.account_id = n.account_id AND c.version = n.version - 1 OFFSET 0
    ) c ON true
    WHERE n.version <> coalesce(p.version, c.version, 0) + 1
       OR n.balance_after - n.amount <> coalesce(p.balance_after, c.balance, 0)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % of account "%" does not continue the account''s chain of versions and balances',
            bad.version, bad.account_id
            USING ERRCODE = 'check_violation', TABLE = 'entries', CONSTRAINT = 'entries_chain';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.check_entry_chain IS
'Trigger: an entry continues its account''s chain of versions and balances.';

CREATE OR REPLACE FUNCTION lastseat.check_payment_status()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        RAISE EXCEPTION 'payment "%" can''t begin as %', NEW.id, NEW.status
            USING ERRCODE = 'integrity_constraint_violation', TABLE = 'payments',
                  CONSTRAINT = 'payments_state_machine',
                  HINT = 'pending becomes authorized or declined; authorized becomes captured, voided or expired.';
    ELSIF (OLD.status, NEW.status) NOT IN (('pending', 'authorized'), ('pending', 'declined'),
        ('authorized', 'captured'), ('authorized', 'voided'), ('authorized', 'expired')) THEN
        RAISE EXCEPTION 'payment "%" is %: it can''t become %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'integrity_constraint_violation', TABLE = 'payments',
                  CONSTRAINT = 'payments_state_machine',
                  HINT = 'pending becomes authorized or declined; authorized becomes captured, voided or expired.';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION lastseat.check_payment_status IS
'Trigger: a payment''s status changes only as its state machine allows.';

CREATE OR REPLACE FUNCTION lastseat.check_reservation_status()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        RAISE EXCEPTION 'reservation "%" can''t begin as %', NEW.id, NEW.status
            USING ERRCODE = 'integrity_constraint_violation', TABLE = 'reservations',
                  CONSTRAINT = 'reservations_state_machine',
                  HINT = 'pending becomes held, waiting or rejected; waiting becomes held, cancelled or expired; '
                         'held becomes confirmed, cancelled or expired; confirmed becomes cancelled.';
    ELSIF (OLD.status, NEW.status) NOT IN (('pending', 'held'), ('pending', 'rejected'), ('pending', 'waiting'),
        ('held', 'confirmed'), ('held', 'cancelled'), ('held', 'expired'), ('confirmed', 'cancelled'),
        ('waiting', 'held'), ('waiting', 'cancelled'), ('waiting', 'expired')) THEN
        RAISE EXCEPTION 'reservation "%" is %: it can''t become %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'integrity_constraint_violation', TABLE = 'reservations',
                  CONSTRAINT = 'reservations_state_machine',
                  HINT = 'pending becomes held, waiting or rejected; waiting becomes held, cancelled or expired; '
                         'held becomes confirmed, cancelled or expired; confirmed becomes cancelled.';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION lastseat.check_reservation_status IS
'Trigger: a reservation''s status changes only as its state machine allows.';

-- The first column is the primary key. Times are printed in UTC, whatever the session's time zone is.
CREATE OR REPLACE FUNCTION lastseat.note_definition()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    INSERT INTO history_waiting (relation, key, columns)
    SELECT TG_TABLE_NAME, to_jsonb(NEW) ->> TG_ARGV[0], array_agg(to_jsonb(NEW) ->> c.name ORDER BY c.n)
    FROM unnest(TG_ARGV) WITH ORDINALITY AS c(name, n);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.note_definition IS 'Trigger: leaves what was defined to the history.';

-- A row goes only if the same transaction has noted it in the history. TG_ARGV: a hint, and the row's key as the history
-- has it.
CREATE OR REPLACE FUNCTION lastseat.check_removal()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp
-- The functions that remove have no hash joins, for their look-ups; here one would compare each row with each key.
SET enable_hashjoin = on AS $$
DECLARE
    noted CONSTANT text[] := ARRAY(
        SELECT k.key
        FROM (SELECT h.keys, h.relation, h.xmin AS writer FROM history h WHERE h.chain = 'retention'
              ORDER BY h.number DESC LIMIT 8) h, unnest(h.keys) AS k(key)
        WHERE h.writer = pg_current_xact_id()::xid AND h.relation IN (TG_TABLE_NAME || '.removed', TG_TABLE_NAME || '.archived'));
    other text;
BEGIN
    EXECUTE format('SELECT %1$s FROM gone g WHERE NOT EXISTS (SELECT FROM unnest($1) AS n(key) WHERE n.key = %1$s) LIMIT 1',
        TG_ARGV[1]) INTO other USING noted;
    IF other IS NOT NULL THEN
        RAISE EXCEPTION '% of lastseat.% is not allowed', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'integrity_constraint_violation', DETAIL = format('Row %s is not noted as removed.', other),
                  HINT = TG_ARGV[0] || ' worker retain run removes what is too old.';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.check_removal IS
'Trigger: a row is deleted only if the history notes that in the same transaction.';

-- After the row and not before it: an insert waits for a keeper that is removing the id in this moment, and its trigger
-- then sees the id noted as removed. A transaction with an older snapshot does not, but sees the row that went.
CREATE OR REPLACE FUNCTION lastseat.check_new_id()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp SET enable_seqscan = off AS $$
DECLARE
    again boolean := EXISTS (SELECT FROM removed_ids r WHERE r.what = TG_TABLE_NAME AND r.id = NEW.id);
BEGIN
    IF NOT again AND current_setting('transaction_isolation') <> 'read committed' THEN
        EXECUTE format('SELECT count(*) > 1 FROM lastseat.%I o WHERE o.id = $1', TG_TABLE_NAME) INTO again USING NEW.id;
    END IF;
    IF again THEN
        RAISE EXCEPTION '% "%" was asked for before', rtrim(TG_TABLE_NAME, 's'), NEW.id
            USING ERRCODE = 'LS001', COLUMN = rtrim(TG_TABLE_NAME, 's'), DETAIL = 'It has ended, and is no longer kept.',
                  HINT = 'If this is the same request, it is done. Take a new id for a new one.';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.check_new_id IS
'Trigger: the id of a payment or a reservation that was removed is not used again.';

-- A reader that stands before a row that is gone is refused (check_cursor): so nothing goes that is not noted as gone.
CREATE OR REPLACE FUNCTION lastseat.check_log_removal()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM gone g
               WHERE NOT EXISTS (SELECT FROM removed e WHERE e.what = 'outcome_log'
                                   AND (g.timeline, g.xid, g.number) <= (e.last_timeline, e.last_xid, e.last_number))) THEN
        RAISE EXCEPTION 'DELETE of lastseat.outcome_log is not allowed'
            USING ERRCODE = 'integrity_constraint_violation',
                  HINT = 'Readers would pass over it unseen. worker retain run removes what is too old.';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.check_log_removal IS
'Trigger: rows of outcome_log are deleted only by retention, the oldest first.';
