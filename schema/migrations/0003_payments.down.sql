DO $$ BEGIN
    IF EXISTS (SELECT FROM lastseat.payments) THEN
        RAISE EXCEPTION 'lastseat.payments is not empty: this migration does not drop payments'
            USING HINT = 'Dump it, then DROP SCHEMA lastseat CASCADE, if that is what you want.';
    END IF;
END $$;
DROP TABLE lastseat.payments, lastseat.taken_events;
DROP FUNCTION lastseat.check_payment_status();
