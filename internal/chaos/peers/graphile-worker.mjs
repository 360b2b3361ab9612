// node graphile-worker.mjs: works until it is killed. Its one kind of job says that it has begun, takes a second, and says that it is done.
import { run } from 'graphile-worker'

const runner = await run({
  connectionString: process.env.DATABASE_URL,
  concurrency: 1,
  pollInterval: 500,
  taskList: {
    slow: async (payload, helpers) => {
      await helpers.query(`INSERT INTO peer VALUES ('begun')`)
      await new Promise((resolve) => setTimeout(resolve, 1000))
      await helpers.query(`INSERT INTO peer VALUES ('done')`)
    },
  },
})
if (process.argv[2] === 'ask') await runner.addJob('slow', {})
await runner.promise
