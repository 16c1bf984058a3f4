// @segment/analytics-next, in the version that the bundle is made with.
import { AnalyticsBrowser } from '@segment/analytics-next'

export async function open({ host, key, strategy }) {
  const [sdk] = await AnalyticsBrowser.load({ writeKey: key, cdnURL: host }, {
    integrations: {
      'Segment.io': {
        apiHost: `${host.replace('http://', '')}/v1`, protocol: 'http',
        deliveryStrategy: strategy && { strategy, config: { size: 4, timeout: 500 } },
      },
    },
  })
  const made = []
  const take = (promise, settle) => made.push(promise.then((ctx) => settle(ctx.failedDelivery?.()?.reason), settle))
  const more = ({ timestamp, context, anonymousId }) => ({ timestamp, context, anonymousId })
  return {
    track: (f, settle) => take(sdk.track(f.event, f.properties, more(f)), settle),
    identify: (f, settle) => take(sdk.identify(f.userId, f.traits, more(f)), settle),
    page: (f, settle) => take(sdk.page(undefined, f.name, f.properties, more(f)), settle),
    screen: (f, settle) => take(sdk.screen(undefined, f.name, f.properties, more(f)), settle),
    group: (f, settle) => take(sdk.group(f.groupId, f.traits, more(f)), settle),
    alias: (f, settle) => take(sdk.alias(f.userId, f.previousId, more(f)), settle),
    close: () => Promise.all(made),
  }
}
