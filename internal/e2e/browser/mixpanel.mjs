// mixpanel-browser.
import mixpanel from 'mixpanel-browser'

export async function open({ host, key }) {
  const name = `e2e-${key}`
  mixpanel.init(key, {
    api_host: host, persistence: 'localStorage', batch_flush_interval_ms: 300, batch_autostart: true,
    ignore_dnt: true, track_pageview: false, autocapture: false, record_sessions_percent: 0,
  }, name)
  const sdk = mixpanel[name]
  return {
    track: ({ event, properties }) => sdk.track(event, properties),
    identify({ userId, traits }) {
      sdk.identify(userId)
      sdk.people.set(traits)
    },
  }
}
