// @jitsu/js in a page.
import { jitsuAnalytics } from '@jitsu/js'

export async function open({ host, key }) {
  const failed = []
  const sdk = jitsuAnalytics({ host, writeKey: `${key}:secret`, errorPolicy: (message) => failed.push(message) })
  let last = Promise.resolve()
  const one = (call) => (fields, settle) => {
    last = last.then(async () => {
      failed.length = 0
      await call(fields)
      settle(failed[0])
    })
  }
  return {
    track: one(({ event, properties }) => sdk.track(event, properties)),
    identify: one(({ userId, traits }) => sdk.identify(userId, traits)),
    page: one(({ name, properties }) => sdk.page({ name, ...properties })),
    group: one(({ groupId, traits }) => sdk.group(groupId, traits)),
    close: () => last,
  }
}
