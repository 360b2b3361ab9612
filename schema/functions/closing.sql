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
