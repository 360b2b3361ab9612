"""An order and its payment in one transaction, with psycopg2."""
import os
import time

import psycopg2


def order(db, number, total, cents):
    with db.cursor() as cursor:
        cursor.execute("INSERT INTO shop.orders (id, total) VALUES (%s, %s)", (number, total))
        cursor.execute(
            "SELECT key, status, duplicate FROM lastseat.transfer(%s, 'customer:7', 'shop', amount => %s, currency => 'EUR')",
            (f"order-{number}", cents),
        )


def outcome(db, key):
    with db, db.cursor() as cursor:  # "with db" is a transaction: the next look sees what was committed meanwhile
        cursor.execute("SELECT status, code FROM lastseat.outcome(%s)", (key,))
        return cursor.fetchone()


db = psycopg2.connect(os.environ["DATABASE_URL"])

with db:  # commits
    order(db, "1042", "12.50", 1250)

order(db, "1043", "99.00", 9900)
db.rollback()

while outcome(db, "order-1042")[0] == "pending":
    time.sleep(0.1)
print("committed:", *outcome(db, "order-1042"))
print("rolled back:", 0 if outcome(db, "order-1043") is None else 1, "requests")

try:
    with db, db.cursor() as cursor:
        cursor.execute("SELECT lastseat.transfer('order-1042', 'customer:7', 'shop', 1, 'EUR')")
except psycopg2.Error as error:
    assert error.pgcode == "LS001", error  # the key was used for another amount
