"""React to each outcome once: the cursor moves in the transaction that does the work. With psycopg2."""
import os

import psycopg2

db = psycopg2.connect(os.environ["DATABASE_URL"])
with db, db.cursor() as cursor:
    cursor.execute("CREATE TABLE IF NOT EXISTS shop.feed_readers (name text PRIMARY KEY, position text NOT NULL)")
    cursor.execute("CREATE TABLE IF NOT EXISTS shop.letters (key text PRIMARY KEY, about text NOT NULL)")
    cursor.execute("INSERT INTO shop.feed_readers VALUES ('letters', '') ON CONFLICT DO NOTHING")


def read(cursor, most=500):
    """Reads the next outcomes, writes a letter for each, and returns how many there were."""
    cursor.execute("SELECT position FROM shop.feed_readers WHERE name = 'letters' FOR UPDATE")  # one reader at a time
    (position,) = cursor.fetchone()
    cursor.execute("SELECT cursor, key, status, code FROM lastseat.outcomes_since(%s, %s)", (position, most))
    news = cursor.fetchall()
    for position, key, status, code in news:
        cursor.execute("INSERT INTO shop.letters VALUES (%s, %s) ON CONFLICT DO NOTHING", (key, f"{status} {code}"))
    cursor.execute("UPDATE shop.feed_readers SET position = %s WHERE name = 'letters'", (position,))
    return len(news)


# A service runs this for ever, and sleeps for a second when there is nothing new.
while True:
    with db, db.cursor() as cursor:  # a transaction: the letters and the cursor, or neither
        if read(cursor) == 0:
            break

with db, db.cursor() as cursor:
    cursor.execute("SELECT key, about FROM shop.letters ORDER BY key")
    for key, about in cursor:
        print(f"{key}: {about}")
