// Makes the calls in the file SLUICE_CALLS with the SDK that SLUICE_SDK names,
// a file of the folder sdk, unmodified. SLUICE_RUNS is a JSON array of
// {"host":"…","key":"…"}: the calls are made once to each, all at the same
// time. When the SDK has nothing left to do, it prints one JSON document, with
// an element for each run:
//
//   [{"delivered":[n, …],"failed":[n, …]}, …]
//
// These are the numbers of the calls of which the SDK says so. SLUICE_OPTIONS
// is for the adapter.
import { readFileSync } from 'node:fs'

const { SLUICE_RUNS: runs, SLUICE_SDK: name, SLUICE_CALLS: file, SLUICE_OPTIONS: options } = process.env
const calls = readFileSync(file, 'utf8')

// RudderStack's SDK rejects a promise that nobody waits for when the gateway
// answers 4xx. By default that ends a process.
process.on('unhandledRejection', (err) => console.error('unhandled:', String(err)))

const { open } = await import(`./sdk/${name}.mjs`)

async function run({ host, key }) {
  const said = { delivered: [], failed: [] }
  const settle = (n) => (err) => {
    if (err) console.error(host, n, String(err))
    said[err ? 'failed' : 'delivered'].push(n)
  }
  const sdk = await open({ host, key, ...JSON.parse(options || '{}') })
  for (const { call, n, ...fields } of JSON.parse(calls)) {
    if (fields.timestamp) fields.timestamp = new Date(fields.timestamp)
    if (sdk[call]) sdk[call](fields, settle(n))
  }
  await sdk.close()
  return said
}

console.log(JSON.stringify(await Promise.all(JSON.parse(runs).map(run))))
process.exit(0)
