// An order and its payment in one transaction, with pg.
import pg from 'pg'
import { setTimeout } from 'node:timers/promises'

const db = new pg.Client({ connectionString: process.env.DATABASE_URL })
await db.connect()

async function order (number, total, cents) {
  await db.query('INSERT INTO shop.orders (id, total) VALUES ($1, $2)', [number, total])
  await db.query(
    "SELECT key, status, duplicate FROM lastseat.transfer($1, 'customer:7', 'shop', amount => $2, currency => 'EUR')",
    [`order-${number}`, cents])
}

async function outcome (key) {
  const { rows } = await db.query('SELECT status, code FROM lastseat.outcome($1)', [key])
  return rows[0]
}

await db.query('BEGIN')
await order('1042', '12.50', 1250)
await db.query('COMMIT')

await db.query('BEGIN')
await order('1043', '99.00', 9900)
await db.query('ROLLBACK')

let settled
while ((settled = await outcome('order-1042')).status === 'pending') await setTimeout(100)
console.log(`committed: ${settled.status} ${settled.code}`)
console.log(`rolled back: ${await outcome('order-1043') ? 1 : 0} requests`)

try {
  await db.query("SELECT lastseat.transfer('order-1042', 'customer:7', 'shop', 1, 'EUR')")
  throw new Error('the key was used twice')
} catch (error) {
  if (error.code !== 'LS001') throw error // the key was used for another amount
}
await db.end()
