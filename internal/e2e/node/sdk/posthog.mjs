// posthog-node. The key is the project's.
import { PostHog } from 'posthog-node'

export async function open({ host, key }) {
  const sdk = new PostHog(key, { host, flushAt: 4, flushInterval: 200, fetchRetryDelay: 200 })
  sdk.on('error', (err) => console.error(host, String(err)))
  return {
    track: ({ userId, event, properties, timestamp }) => sdk.capture({ distinctId: userId, event, properties, timestamp }),
    identify: ({ userId, traits }) => sdk.identify({ distinctId: userId, properties: traits }),
    group: ({ groupId, traits }) => sdk.groupIdentify({ groupType: 'company', groupKey: groupId, properties: traits }),
    alias: ({ userId, previousId }) => sdk.alias({ distinctId: userId, alias: previousId }),
    close: () => sdk.shutdown(30000),
  }
}
