// @jitsu/js outside of a browser. Who it is about is a state of the SDK.
import { jitsuAnalytics } from '@jitsu/js'

export async function open({ host, key, ...options }) {
  const failed = new Set()
  const sdk = jitsuAnalytics({
    host, writeKey: `${key}:secret`, s2s: true,
    errorPolicy: (message) => { console.error(message); failed.add(message) },
    ...options,
  })
  // One after another, since the SDK reports a failure to nobody but its
  // errorPolicy.
  let last = Promise.resolve()
  const one = (call) => (fields, settle) => {
    last = last.then(async () => {
      failed.clear()
      await call(fields)
      settle(failed.size ? [...failed][0] : undefined)
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
