// posthog-js, without what it does by itself.
import posthog from 'posthog-js'

export async function open({ host, key }) {
  const sdk = posthog.init(key, {
    api_host: host, autocapture: false, capture_pageview: false, capture_pageleave: false,
    disable_session_recording: true, disable_surveys: true, disable_external_dependency_loading: true,
    person_profiles: 'always', opt_out_useragent_filter: true, request_queue_config: { flush_interval_ms: 250 },
  }, `e2e-${key}`)
  return {
    track: ({ event, properties }) => sdk.capture(event, properties),
    identify: ({ userId, traits }) => sdk.identify(userId, traits),
  }
}
