// node graphile-worker.mjs fill N: N jobs that do nothing. node graphile-worker.mjs work N: works until N are done, with
// the settings of its own page on performance, and prints the milliseconds.
import { makeWorkerUtils, run } from 'graphile-worker'

const [what, text] = process.argv.slice(2)
const n = Number(text)
const connectionString = process.env.DATABASE_URL
if (what === 'fill') {
  const utils = await makeWorkerUtils({ connectionString })
  await utils.migrate()
  for (let i = 0; i < n; i += 10000) {
    const specs = Array.from({ length: Math.min(10000, n - i) }, (_, j) => ({ identifier: 'nothing', payload: { n: i + j } }))
    await utils.addJobs(specs)
  }
  await utils.release()
} else {
  let done = 0
  let last
  const all = new Promise((resolve) => { last = resolve })
  const began = performance.now()
  const runner = await run({
    preset: {
      worker: {
        connectionString,
        concurrentJobs: 24,
        maxPoolSize: 25,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
    noHandleSignals: true,
    taskList: { nothing: async () => { if (++done === n) last() } },
  })
  await all
  await runner.stop() // writes what is done and not yet written
  console.log(performance.now() - began)
}
process.exit(0)
