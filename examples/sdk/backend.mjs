// Sends the same events with the SDKs that back ends have.
//
//   npm install
//   SLUICE_URL=http://localhost:8080 SLUICE_WRITE_KEY=… node backend.mjs [segment|rudder|jitsu|cloudevents|fetch …]
//
// Without names it sends with each of them. It prints a line for each when the
// SDK says that all is delivered.
const host = process.env.SLUICE_URL ?? 'http://localhost:8080'
const key = process.env.SLUICE_WRITE_KEY
if (!key) {
  console.error('SLUICE_WRITE_KEY is not set: sluice prints it when it starts for the first time')
  process.exit(2)
}

const sdks = {
  async segment() {
    const { Analytics } = await import('@segment/analytics-node')
    const sdk = new Analytics({ writeKey: key, host })
    sdk.on('error', fail)
    sdk.identify({ userId: 'user-1', traits: { plan: 'pro' } })
    sdk.track({ userId: 'user-1', event: 'Order Completed', properties: { total: 12.5, by: 'segment' } })
    await sdk.closeAndFlush({ timeout: 10000 })
  },

  async rudder() {
    const { default: Analytics } = await import('@rudderstack/rudder-sdk-node')
    // With an errorHandler an answer such as 401 does not end the process.
    const sdk = new Analytics(key, { dataPlaneUrl: host, logLevel: 'error', errorHandler: fail })
    sdk.identify({ userId: 'user-1', traits: { plan: 'pro' } })
    sdk.track({ userId: 'user-1', event: 'Order Completed', properties: { total: 12.5, by: 'rudder' } })
    while (sdk.queue.length) await sdk.flush() // the first event leaves alone
    await sdk.flush()
  },

  async jitsu() {
    const { jitsuAnalytics } = await import('@jitsu/js')
    const sdk = jitsuAnalytics({ host, writeKey: `${key}:any`, s2s: true, errorPolicy: fail })
    await sdk.identify('user-1', { plan: 'pro' })
    await sdk.track('Order Completed', { total: 12.5, by: 'jitsu' })
  },

  async cloudevents() {
    const { CloudEvent, HTTP } = await import('cloudevents')
    const event = new CloudEvent({ type: 'Order Completed', source: '/backend', userid: 'user-1', data: { total: 12.5, by: 'cloudevents' } })
    const { headers, body } = HTTP.binary(event)
    // The SDK's own transport does not look at the answer.
    const response = await fetch(`${host}/v1/events`, { method: 'POST', headers: { ...headers, Authorization: `Bearer ${key}` }, body })
    if (!response.ok) fail(`${response.status} ${await response.text()}`)
  },

  async fetch() {
    const response = await fetch(`${host}/v1/events`, {
      method: 'POST', headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${key}` },
      body: JSON.stringify([
        { type: 'identify', name: 'identify', user_id: 'user-1', data: { plan: 'pro' } },
        { name: 'Order Completed', user_id: 'user-1', data: { total: 12.5, by: 'fetch' } },
      ]),
    })
    if (response.status !== 202) fail(`${response.status} ${await response.text()}`)
  },
}

let failed = false
function fail(why) {
  failed = true
  console.error(String(why.message ?? why))
}

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(sdks)
for (const name of names) {
  if (!sdks[name]) {
    console.error(`${name} is none of ${Object.keys(sdks).join(', ')}`)
    process.exit(2)
  }
  await sdks[name]()
  console.log(`${name}: ${failed ? 'failed' : 'delivered'}`)
}
process.exit(failed ? 1 : 0)
