// @snowplow/node-tracker. The key is the appId.
import { newTracker, buildSelfDescribingEvent } from '@snowplow/node-tracker'

export async function open({ host, key }) {
  let waiting = 0
  const numbers = new Map() // by event ids
  const tracker = newTracker({ namespace: 'e2e', appId: key }, {
    endpoint: host, bufferSize: 4,
    onRequestSuccess: (events) => events.forEach((e) => { waiting--; numbers.get(e.eid)() }),
    onRequestFailure: ({ events, willRetry }) => {
      if (!willRetry) events.forEach((e) => { waiting--; numbers.get(e.eid)(new Error('given up')) })
    },
  })
  return {
    track({ userId, event, properties }, settle) {
      waiting++
      tracker.setUserId(userId)
      const { eid } = tracker.track(buildSelfDescribingEvent({
        event: { schema: 'iglu:com.acme/called/jsonschema/1-0-0', data: { event, ...properties } },
      }))
      numbers.set(eid, settle)
    },
    async close() {
      while (waiting > 0) {
        await tracker.flush()
        await new Promise((done) => setTimeout(done, 20))
      }
    },
  }
}
