// node pg-boss.mjs fill N: N jobs that do nothing. node pg-boss.mjs work N: fetches and completes 1,000 at a time, in two
// loops, until N are done, and prints the milliseconds.
import { PgBoss } from 'pg-boss'

const [what, text] = process.argv.slice(2)
const n = Number(text)
const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, supervise: false, schedule: false })
boss.on('error', console.error)
await boss.start()
if (what === 'fill') {
  await boss.createQueue('nothing')
  for (let i = 0; i < n; i += 10000) {
    await boss.insert('nothing', Array.from({ length: Math.min(10000, n - i) }, (_, j) => ({ data: { n: i + j } })))
  }
} else {
  const began = performance.now()
  const loop = async () => {
    for (;;) {
      const jobs = await boss.fetch('nothing', { batchSize: 1000 })
      if (jobs.length === 0) return
      await boss.complete('nothing', jobs.map((job) => job.id))
    }
  }
  await Promise.all([loop(), loop()])
  console.log(performance.now() - began)
}
await boss.stop({ graceful: false })
process.exit(0)
