// How each SDK is pointed at the gateway, and the same four calls with each.

const element = (id) => document.getElementById(id)
const say = (...what) => { element('said').textContent += `${what.join(' ')}\n` }

const load = (src) => new Promise((done, fail) => {
  const script = document.createElement('script')
  Object.assign(script, { src, onload: done, onerror: () => fail(new Error(`${src} cannot be loaded`)) })
  document.head.append(script)
})

// Each opens an SDK and returns its calls.
const sdks = {
  async snippet(host, key) {
    await load(`${host}/sluice.js`)
    const { sluice } = window
    sluice('init', { key, host })
    return {
      page: () => sluice('page', 'Example'),
      identify: () => sluice('identify', 'user-1', { plan: 'pro' }),
      group: () => sluice('group', 'group-1', { size: 7 }),
      track: (properties) => sluice('track', 'Button Clicked', properties),
    }
  },

  async segment(host, key) {
    await load('segment/index.js')
    const { protocol, host: name } = new URL(host)
    const sdk = window.AnalyticsNext.AnalyticsBrowser.load(
      { writeKey: key, cdnURL: host },
      { integrations: { 'Segment.io': { apiHost: `${name}/v1`, protocol: protocol.replace(':', '') } } },
    )
    return {
      page: () => sdk.page('Example'),
      identify: () => sdk.identify('user-1', { plan: 'pro' }),
      group: () => sdk.group('group-1', { size: 7 }),
      track: (properties) => sdk.track('Button Clicked', properties),
    }
  },

  async rudder(host, key) {
    await load('rudder/index.js')
    const sdk = new window.rudderanalytics.RudderAnalytics()
    sdk.load(key, host, { configUrl: host })
    return {
      page: () => sdk.page('Example'),
      identify: () => sdk.identify('user-1', { plan: 'pro' }),
      group: () => sdk.group('group-1', { size: 7 }),
      track: (properties) => sdk.track('Button Clicked', properties),
    }
  },

  async jitsu(host, key) {
    const { jitsuAnalytics } = await import('./jitsu/jitsu.es.js')
    // A key of ours and any secret: the SDK wants both.
    const sdk = jitsuAnalytics({ host, writeKey: `${key}:any` })
    return {
      page: () => sdk.page({ name: 'Example' }),
      identify: () => sdk.identify('user-1', { plan: 'pro' }),
      group: () => sdk.group('group-1', { size: 7 }),
      track: (properties) => sdk.track('Button Clicked', properties),
    }
  },

  async fetch(host, key) {
    // text/plain and a key in the query need no preflight. keepalive lets the
    // request end after the page has.
    const send = async (event) => {
      const response = await fetch(`${host}/v1/events?write_key=${encodeURIComponent(key)}`, {
        method: 'POST', keepalive: true, body: JSON.stringify({ id: crypto.randomUUID(), user_id: 'user-1', ...event }),
      })
      say(response.status, await response.text())
    }
    return {
      page: () => send({ type: 'page', name: 'Example', data: { url: location.href } }),
      identify: () => send({ type: 'identify', name: 'identify', data: { plan: 'pro' } }),
      group: () => send({ type: 'group', name: 'group', data: { size: 7 }, groupId: 'group-1' }),
      track: (data) => send({ name: 'Button Clicked', data }),
    }
  },
}

const opened = {} // by SDK, gateway and key: an SDK is opened once
const open = (name) => {
  const { value: host } = element('host')
  const { value: key } = element('key')
  opened[[name, host, key]] ??= sdks[name](host.replace(/\/$/, ''), key)
  return opened[[name, host, key]]
}

let clicks = 0
for (const button of document.querySelectorAll('button')) {
  button.addEventListener('click', async () => {
    const { value: name } = element('sdk')
    const { call } = button.dataset
    try {
      const sdk = await open(name)
      say(name, call)
      if (call === 'leave') {
        sdk.track({ clicks: ++clicks, last: true })
        location.reload()
      } else {
        await sdk[call]({ clicks: ++clicks })
      }
    } catch (err) {
      say(name, call, String(err))
    }
  })
}

const settings = await (await fetch('settings.json')).json()
element('host').value = settings.host
element('key').value = settings.key
say('ready')
