DO $$ BEGIN
    IF EXISTS (SELECT FROM lastseat.accounts) THEN
        RAISE EXCEPTION 'lastseat.accounts is not empty: this migration does not drop a ledger'
            USING HINT = 'Dump it, then DROP SCHEMA lastseat CASCADE, if that is what you want.';
    END IF;
END $$;
DROP TABLE lastseat.closings, lastseat.entries, lastseat.transfers, lastseat.accounts, lastseat.currencies;
DROP FUNCTION lastseat.check_entry_chain(), lastseat.check_transfer_accounts(), lastseat.check_entry_removal();
