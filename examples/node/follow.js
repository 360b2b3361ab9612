// React to each outcome once: the cursor moves in the transaction that does the work. With pg.
import pg from 'pg'

const db = new pg.Client({ connectionString: process.env.DATABASE_URL })
await db.connect()
await db.query('CREATE TABLE IF NOT EXISTS shop.feed_readers (name text PRIMARY KEY, position text NOT NULL)')
await db.query('CREATE TABLE IF NOT EXISTS shop.letters (key text PRIMARY KEY, about text NOT NULL)')
await db.query("INSERT INTO shop.feed_readers VALUES ('letters', '') ON CONFLICT DO NOTHING")

// read reads the next outcomes, writes a letter for each, and returns how many there were.
async function read (most = 500) {
  const { rows: [{ position }] } = await db.query(
    "SELECT position FROM shop.feed_readers WHERE name = 'letters' FOR UPDATE") // one reader at a time
  const { rows: news } = await db.query(
    'SELECT cursor, key, status, code FROM lastseat.outcomes_since($1, $2)', [position, most])
  for (const { key, status, code } of news) {
    await db.query('INSERT INTO shop.letters VALUES ($1, $2) ON CONFLICT DO NOTHING', [key, `${status} ${code}`])
  }
  await db.query("UPDATE shop.feed_readers SET position = $1 WHERE name = 'letters'", [news.at(-1)?.cursor ?? position])
  return news.length
}

// A service runs this for ever, and sleeps for a second when there is nothing new.
for (let found = 1; found > 0;) {
  await db.query('BEGIN') // the letters and the cursor, or neither
  try {
    found = await read()
    await db.query('COMMIT')
  } catch (error) {
    await db.query('ROLLBACK')
    throw error
  }
}

const { rows } = await db.query('SELECT key, about FROM shop.letters ORDER BY key')
for (const { key, about } of rows) console.log(`${key}: ${about}`)
await db.end()
