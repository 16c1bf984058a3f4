// @snowplow/browser-tracker. The key is the appId.
import { flushBuffer, newTracker, setUserId, trackSelfDescribingEvent } from '@snowplow/browser-tracker'

let trackers = 0

export async function open({ host, key }) {
  const name = `sp${++trackers}`
  newTracker(name, host, { appId: key, plugins: [] })
  // What has failed is sent again with the next event; here, as if there was one.
  setInterval(() => flushBuffer({}, [name]), 100)
  return {
    track({ userId, event, properties }) {
      setUserId(userId, [name])
      trackSelfDescribingEvent({
        event: { schema: 'iglu:com.acme/called/jsonschema/1-0-0', data: { event, ...properties } },
      }, [name])
    },
  }
}
