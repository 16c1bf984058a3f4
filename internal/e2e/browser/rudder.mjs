// @rudderstack/analytics-js, the build that loads nothing from elsewhere.
import { RudderAnalytics } from '@rudderstack/analytics-js/bundled'

export async function open({ host, key, ...options }) {
  const sdk = new RudderAnalytics()
  sdk.load(key, host, { configUrl: host, logLevel: 'WARN', lockIntegrationsVersion: true, ...options })
  await new Promise((ready) => sdk.ready(ready))
  const more = ({ timestamp, context, anonymousId }) => ({
    ...(timestamp && { originalTimestamp: timestamp.toISOString() }), ...context, ...(anonymousId && { anonymousId }),
  })
  return {
    track: (f) => sdk.track(f.event, f.properties, more(f)),
    identify: (f) => sdk.identify(f.userId, f.traits, more(f)),
    page: (f) => sdk.page(f.name, f.properties, more(f)),
    group: (f) => sdk.group(f.groupId, f.traits, more(f)),
    alias: (f) => sdk.alias(f.userId, f.previousId, more(f)),
  }
}
