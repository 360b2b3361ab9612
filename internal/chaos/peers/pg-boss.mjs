// node pg-boss.mjs: works until it is killed. Its one kind of job says that it has begun, takes a second, and says that it is done.
import { PgBoss } from 'pg-boss'

const boss = new PgBoss(process.env.DATABASE_URL)
boss.on('error', console.error)
await boss.start()
await boss.createQueue('slow')
const say = (text) => boss.getDb().executeSql(`INSERT INTO peer VALUES ('${text}')`)
if (process.argv[2] === 'ask') await boss.send('slow', {})
await boss.work('slow', { pollingIntervalSeconds: 0.5 }, async () => {
  await say('begun')
  await new Promise((resolve) => setTimeout(resolve, 1000))
  await say('done')
})
