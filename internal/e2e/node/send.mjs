// Sends events with @segment/analytics-node, unmodified, to the gateway at
// SLUICE_URL with the key SLUICE_WRITE_KEY, and prints the events as the SDK
// made them, one JSON line each, once it says that they were delivered.
import { Analytics } from '@segment/analytics-node'

const analytics = new Analytics({
  host: process.env.SLUICE_URL,
  writeKey: process.env.SLUICE_WRITE_KEY,
  flushAt: 20,
})

let failed = 0
const sent = (err, ctx) => {
  if (err) {
    failed++
    console.error(String(err), JSON.stringify(ctx?.event))
  } else {
    console.log(JSON.stringify(ctx.event))
  }
}
analytics.on('error', (err) => console.error('error:', err.code, err.reason ?? ''))

const userId = 'user-1'
analytics.identify({ userId, traits: { email: 'ann@example.com', name: 'Änn 😀' } }, sent)
analytics.page({ userId, name: 'Home', properties: { url: 'https://shop.example/?a=1&b=<2>' } }, sent)
analytics.screen({ anonymousId: 'anon-1', name: 'Main', properties: { width: 390 } }, sent)
analytics.group({ userId, groupId: 'group-1', traits: { plan: 'team' } }, sent)
analytics.alias({ userId, previousId: 'anon-1' }, sent)
analytics.track({ userId, anonymousId: 'anon-1', event: 'Order Completed', properties: { total: 12.5, items: [{ sku: 'a' }, { sku: 'b' }] }, context: { ip: '203.0.113.9' } }, sent)
analytics.track({ userId, event: 'Backfilled', timestamp: new Date('2024-01-02T03:04:05.678Z'), properties: { old: true } }, sent)
for (let n = 0; n < 100; n++) {
  analytics.track({ userId: `user-${n % 7}`, event: 'Counted', properties: { n, square: n * n } }, sent)
}
await analytics.closeAndFlush({ timeout: 30000 })
process.exit(failed ? 1 : 0)
