#!/bin/sh
# An order and its payment in one transaction, from psql.
set -eu

psql() { command psql -X -q -At -v ON_ERROR_STOP=1 "$DATABASE_URL" "$@"; }

psql <<'SQL'
BEGIN;
INSERT INTO shop.orders (id, total) VALUES ('1042', 12.50);
SELECT FROM lastseat.transfer('order-1042', 'customer:7', 'shop', amount => 1250, currency => 'EUR');
COMMIT;

BEGIN;
INSERT INTO shop.orders (id, total) VALUES ('1043', 99.00);
SELECT FROM lastseat.transfer('order-1043', 'customer:7', 'shop', amount => 9900, currency => 'EUR');
ROLLBACK;
SQL

settled="SELECT status, code FROM lastseat.outcome('order-1042') WHERE status <> 'pending'"
until outcome=$(psql -c "$settled") && [ -n "$outcome" ]; do
	sleep 0.1
done
echo "committed: $(echo "$outcome" | tr '|' ' ')"
echo "rolled back: $(psql -c "SELECT count(*) FROM lastseat.outcome('order-1043')") requests"
