"""An order whose trace goes on in the worker: the session says which trace the request belongs to. With psycopg2."""
import os
import secrets

import psycopg2

# With OpenTelemetry: carrier = {}; propagate.inject(carrier); traceparent = carrier["traceparent"]
traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"

db = psycopg2.connect(os.environ["DATABASE_URL"])
with db, db.cursor() as cursor:
    cursor.execute("SELECT set_config('lastseat.traceparent', %s, true)", (traceparent,))  # until the transaction ends
    cursor.execute("INSERT INTO shop.orders (id, total) VALUES ('1044', 12.50)")
    cursor.execute("SELECT lastseat.transfer('order-1044', 'customer:7', 'shop', 1250, 'EUR')")
print(traceparent)
