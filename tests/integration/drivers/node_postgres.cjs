// A crowd of node-postgres clients with named queries, which the driver prepares once and then only binds.
//
// Usage: node node_postgres.cjs '{"module": ..., "connection": {...}, "clients": N, "turns": N}'
// It plays until every client has had its turns and standard input has ended, then prints one line of JSON: what
// the clients lost. A wrong answer ends it with exit code 1.

const assert = require('node:assert')
const settings = JSON.parse(process.argv[2])
const { Client, Pool } = require(settings.module)

let over = false
process.stdin.on('end', () => { over = true }).resume()

const losses = []
// The last two where a request is written to a connection that has just ended.
const LOST = ['57P01', '08006', 'ECONNRESET', 'EPIPE', 'ERR_STREAM_DESTROYED']
const isLoss = (error) => !error.code || LOST.includes(error.code)

async function fails (query, code) {
  const error = await query.then(() => assert.fail('did not fail'), (error) => error)
  if (isLoss(error)) throw error
  assert.strictEqual(error.code, code)
}

const insert = { name: 'insert', text: 'insert into deeds values ($1, $2, $3)' }
const remove = { name: 'remove', text: 'delete from deeds where client = $1' }
const count = { name: 'count', text: 'select count(*)::int as n, min(word) as word from deeds where client = $1' }
const divide = { name: 'divide', text: 'select $1::int / $2::int as n' }

const turns = [
  async function values (client, number, step) {
    const word = `${number}.${step}`
    const query = { name: 'echo', text: 'select $1::text as word, $2::int * 2 as n', values: [word, step] }
    assert.deepStrictEqual((await client.query(query)).rows, [{ word, n: 2 * step }])
    const { rows } = await client.query('select $1::text as word', [word])
    assert.deepStrictEqual(rows, [{ word }])
  },

  async function transaction (client, number, step) {
    await client.query('begin')
    await client.query({ ...remove, values: [number] })
    for (let n = 0; n < 6; n++) await client.query({ ...insert, values: [number, n, `${step}`] })
    const { rows } = await client.query({ ...count, values: [number] })
    assert.deepStrictEqual(rows, [{ n: 6, word: `${step}` }])
    await client.query('commit')
  },

  async function error (client, number, step) {
    await fails(client.query({ ...divide, values: [step, 0] }), '22012')
    await client.query('begin')
    await client.query({ ...remove, values: [number] })
    await client.query({ ...insert, values: [number, 1, 'once'] })
    await fails(client.query({ ...insert, values: [number, 1, 'twice'] }), '23505')
    await fails(client.query({ ...divide, values: [step, 1] }), '25P02')
    await client.query('rollback')
    assert.deepStrictEqual((await client.query({ ...divide, values: [step, 1] })).rows, [{ n: step }])
  },

  async function batches (client, number, step) {
    // With `rows` the driver reads in batches, each asked for by Execute and Flush, and syncs at the end.
    const text = 'select n + $1::int as n from generate_series(1, 50) n'
    const { rows } = await client.query({ name: 'batches', text, values: [step], rows: 7 })
    assert.deepStrictEqual(rows.map((row) => row.n), Array.from({ length: 50 }, (_, n) => n + 1 + step))
  },

  async function many (client, number, step) {
    // Queued at once; the driver sends one after the other.
    const queries = Array.from({ length: 8 }, (_, n) => {
      const name = `many ${n} ${step % 3}`
      return client.query({ name, text: `select $1::int + ${n} + ${step % 3} as n`, values: [step] })
    })
    const results = await Promise.all(queries)
    results.forEach(({ rows }, n) => assert.strictEqual(rows[0].n, step + n + step % 3))
  }
]

async function connect () {
  const client = new Client(settings.connection)
  client.on('error', () => {}) // a query that fails says so, too
  await client.connect()
  return client
}

async function play (number) {
  let client
  for (let step = 0; step < settings.turns || !over; step++) {
    try {
      client ??= await connect()
      await turns[step % turns.length](client, number, step)
    } catch (error) {
      if (error instanceof assert.AssertionError || !isLoss(error)) throw error
      losses.push(error.message)
      client?.end().catch(() => {})
      client = undefined
    }
  }
  await client?.end()
}

async function pooled (number, pool) {
  for (let step = 0; step < settings.turns; step++) {
    const client = await pool.connect()
    try {
      await turns[step % turns.length](client, number, step)
    } finally {
      client.release()
    }
  }
}

async function main () {
  const numbers = Array.from({ length: settings.clients }, (_, number) => number)
  if (settings.pool) {
    const pool = new Pool({ ...settings.connection, max: settings.pool })
    await Promise.all(numbers.map((number) => pooled(number, pool)))
    await pool.end()
  } else {
    await Promise.all(numbers.map(play))
  }
  console.log(JSON.stringify({ losses }))
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
