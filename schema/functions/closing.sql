-- Closing a period of the ledger (docs/decisions/022-closing.md): a closing is a copy of an entry. What is old the table
-- retention says, not the one who closes.

CREATE OR REPLACE FUNCTION lastseat.closable(account text)
RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    days   CONSTANT integer := (SELECT r.days FROM retention r WHERE r.what = 'transfers');
    cutoff CONSTANT timestamptz := now() - make_interval(hours => 24 * days);
    last   record;
BEGIN
    SELECT c.version, c.through INTO last FROM closings c WHERE c.account_id = closable.account
    ORDER BY c.version DESC LIMIT 1;
    -- Twelve closings in the time that entries are kept are enough: each is a row that stays.
    IF days IS NULL OR last.through + make_interval(hours => 2 * days) > cutoff
       OR NOT EXISTS (SELECT FROM entries e WHERE e.account_id = closable.account
                        AND e.version = coalesce(last.version, 0) + 1 AND e.created_at < cutoff) THEN
        RETURN NULL;
    END IF;
    RETURN first_entry(closable.account, cutoff) - 1;
END $$;
COMMENT ON FUNCTION lastseat.closable IS
'The version of the last entry of an account that is too old to be kept; null: none is that is not closed yet, or the '
'account was closed not long before.

account: the account''s id.';
GRANT EXECUTE ON FUNCTION lastseat.closable TO lastseat_keeper;

-- The entries of an account are numbered under its lock, so whatever this sees of them has no gap, and what a lane adds
-- meanwhile comes after it.
CREATE OR REPLACE FUNCTION lastseat.close_period(
    keys text[], digests bytea[], number bigint, at timestamptz, hash bytea
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    closed bigint;
BEGIN
    PERFORM note_removal('closings', close_period.keys, close_period.digests, close_period.number, close_period.at,
                         close_period.hash);
    INSERT INTO closings (account_id, version, balance, transfer_id, through)
    SELECT e.account_id, e.version, e.balance_after, e.transfer_id, e.created_at
    FROM unnest(close_period.keys) AS a(key)
    CROSS JOIN LATERAL (SELECT regexp_replace(a.key, '#[0-9]+$', '') AS account) w
    JOIN LATERAL (SELECT n.* FROM entries n
                  WHERE n.account_id = w.account AND n.version = closable(w.account)
                    AND a.key = n.account_id || '#' || n.version OFFSET 0) e ON true;
    GET DIAGNOSTICS closed = ROW_COUNT;
    IF closed = 0 OR closed <> cardinality(close_period.keys) THEN
        RAISE EXCEPTION '% of % accounts may not be closed there', cardinality(close_period.keys) - closed,
            cardinality(close_period.keys)
            USING ERRCODE = 'serialization_failure',
                  HINT = 'Another keeper may have closed one meanwhile, or how long transfers are kept has changed. '
                         'Look again.';
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.close_period IS
'Closes accounts, each at the last entry that is too old to be kept, and notes that in the history: all of them, or '
'none. For worker retain run.

keys: ACCOUNT#VERSION of each, the version that lastseat.closable says.
digests: of each of the closings.
number: that of the link of the chain retention, the next one.
at: its time, now().
hash: its hash.

Errors: LS002; 40001 another keeper was quicker, or one of them is not the entry at which its account may be closed.';
GRANT EXECUTE ON FUNCTION lastseat.close_period TO lastseat_keeper;

-- A binary search, as in first_entry. What is gone went the oldest first, so an entry that is missing is taken for an
-- older one; if that was wrong, the search goes over what is there.
CREATE OR REPLACE FUNCTION lastseat.closed_entry(account text, transfer bigint)
RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    last CONSTANT bigint := (SELECT max(c.version) FROM closings c WHERE c.account_id = closed_entry.account);
    low   bigint;
    high  bigint;
    mid   bigint;
    found_at record;
BEGIN
    FOR careful IN 0..1 LOOP
        low := 1;
        high := last;
        WHILE low < high LOOP
            mid := (low + high) / 2;
            IF careful = 0 THEN
                SELECT e.version, e.transfer_id INTO found_at FROM entries e
                WHERE e.account_id = closed_entry.account AND e.version = mid;
            ELSE
                SELECT e.version, e.transfer_id INTO found_at FROM entries e
                WHERE e.account_id = closed_entry.account AND e.version >= mid ORDER BY e.version LIMIT 1;
            END IF;
            IF careful = 0 AND found_at.version IS NULL OR found_at.transfer_id < closed_entry.transfer THEN
                low := coalesce(found_at.version, mid) + 1;
            ELSE
                high := mid;
            END IF;
        END LOOP;
        SELECT e.version, e.transfer_id INTO found_at FROM entries e
        WHERE e.account_id = closed_entry.account AND e.version >= low ORDER BY e.version LIMIT 1;
        IF found_at.transfer_id = closed_entry.transfer THEN
            RETURN CASE WHEN found_at.version <= last THEN found_at.version END;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastseat.closed_entry IS
'The version of the entry of a transfer on an account, if the account is closed up to there; else null.

account: the account''s id.
transfer: the transfer''s id.';

CREATE OR REPLACE FUNCTION lastseat.removable(transfer bigint)
RETURNS TABLE (taken bigint, given bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    t record;
BEGIN
    SELECT o.* INTO t FROM transfers o WHERE o.id = removable.transfer AND o.created_at < kept_since('transfers')
      AND NOT EXISTS (SELECT FROM requests r WHERE r.key = o.key)
      AND NOT EXISTS (SELECT FROM payments p WHERE p.id = o.payment_id)
      AND NOT EXISTS (SELECT FROM transfers l WHERE l.key = o.key AND l.leg <> o.leg);
    IF FOUND THEN
        RETURN QUERY SELECT * FROM (SELECT closed_entry(t.from_account, t.id) AS taken,
                                           closed_entry(t.to_account, t.id) AS given) v
                     WHERE v.taken IS NOT NULL AND v.given IS NOT NULL;
    END IF;
END $$;
COMMENT ON FUNCTION lastseat.removable IS
'The versions of the two entries of a transfer that is too old to be kept and that nothing needs: both are closed, and '
'its request and its payment are gone. Else no row. A transfer and its reversal go together.

transfer: the transfer''s id.';
GRANT EXECUTE ON FUNCTION lastseat.removable TO lastseat_keeper;

CREATE OR REPLACE FUNCTION lastseat.remove_transfers(
    keys text[], digests bytea[], number bigint, at timestamptz, hash bytea, archived boolean DEFAULT false
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    ids      bigint[];
    rows     tid[];
    free     bigint;
    youngest timestamptz;
BEGIN
    -- The locks come first, and each statement after them sees what was committed until then: a reversal locks what it
    -- reverses (check_transfer_accounts), so none is overlooked.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'transfers are removed at READ COMMITTED' USING ERRCODE = 'LS002';
    END IF;
    SELECT array_agg(q.id) INTO ids
    FROM unnest(remove_transfers.keys) AS a(key)
    JOIN LATERAL (SELECT t.id FROM transfers t
                  WHERE t.id = split_part(a.key, ' ', 1)::bigint AND a.key = t.id || ' ' || t.key
                  FOR UPDATE SKIP LOCKED OFFSET 0) q ON true;
    SELECT count(*) / 2, array_agg(e.row), max(e.created_at) INTO free, rows, youngest
    FROM unnest(ids) AS a(id)
    JOIN LATERAL (SELECT t.* FROM transfers t WHERE t.id = a.id
                    AND (t.reverses_id IS NULL OR t.reverses_id = ANY (ids))
                    AND NOT EXISTS (SELECT FROM transfers r WHERE r.reverses_id = t.id AND r.id <> ALL (ids)) OFFSET 0) t
      ON true
    JOIN LATERAL removable(t.id) v ON true
    CROSS JOIN LATERAL (VALUES (t.from_account, v.taken), (t.to_account, v.given)) AS w(account, version)
    JOIN LATERAL (SELECT n.ctid AS row, t.created_at FROM entries n
                  WHERE n.account_id = w.account AND n.version = w.version AND n.transfer_id = t.id OFFSET 0) e ON true;
    IF free = 0 OR free IS DISTINCT FROM cardinality(remove_transfers.keys) THEN
        PERFORM refuse_removal('transfers', cardinality(remove_transfers.keys), free);
    END IF;
    PERFORM note_removal(CASE WHEN archived THEN 'transfers.archived' ELSE 'transfers.removed' END, remove_transfers.keys,
                         remove_transfers.digests, remove_transfers.number, remove_transfers.at, remove_transfers.hash);
    INSERT INTO removed_ids (what, id)
    SELECT 'transfers', substr(a.key, strpos(a.key, ' ') + 1) FROM unnest(remove_transfers.keys) AS a(key);
    INSERT INTO removed AS e (what, before) VALUES ('transfers', date_trunc('hour', youngest) + interval '1 hour')
    ON CONFLICT (what) DO UPDATE SET before = EXCLUDED.before WHERE e.before < EXCLUDED.before;
    DELETE FROM entries e WHERE e.ctid = ANY (rows);
    DELETE FROM transfers t WHERE t.ctid = ANY (ARRAY(
        SELECT o.row FROM unnest(ids) AS a(id)
        JOIN LATERAL (SELECT n.ctid AS row FROM transfers n WHERE n.id = a.id OFFSET 0) o ON true));
END $$;
COMMENT ON FUNCTION lastseat.remove_transfers IS
'Removes transfers that are too old, with their entries, which are closed, and notes that in the history: all of them, or '
'none. Their keys are never used again. For worker retain run.

keys: ID KEY of each.
digests: of each of them.
number: that of the link of the chain retention, the next one.
at: its time, now().
hash: its hash.
archived: whether a file has the rows.

Errors: LS002; 40001 another keeper was quicker, or one of them is not too old or not closed, or is needed.';
GRANT EXECUTE ON FUNCTION lastseat.remove_transfers TO lastseat_keeper;
