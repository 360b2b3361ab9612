DO $$ BEGIN
    IF EXISTS (SELECT FROM lastseat.resources) OR EXISTS (SELECT FROM lastseat.reservations)
       OR EXISTS (SELECT FROM lastseat.limit_groups) THEN
        RAISE EXCEPTION 'lastseat.resources is not empty: this migration does not drop reservations'
            USING HINT = 'Dump it, then DROP SCHEMA lastseat CASCADE, if that is what you want.';
    END IF;
END $$;
DROP TABLE lastseat.customer_counts, lastseat.waiting_items, lastseat.reservation_items, lastseat.reservations,
    lastseat.resources, lastseat.limit_groups;
DROP FUNCTION lastseat.check_reservation_status();
