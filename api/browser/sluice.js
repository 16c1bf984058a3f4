/*
 * sluice.js sends the events of a page to a Sluice gateway. It needs a browser
 * (ES2017) and a write key, and nothing else:
 *
 *   <script>
 *     window.sluice = window.sluice || function () { (sluice.q = sluice.q || []).push(arguments) }
 *     sluice('init', { key: 'wk_…' })
 *     sluice('page')
 *   </script>
 *   <script async src="https://events.example/sluice.js"></script>
 *
 * Commands, the same before it has loaded and after:
 *
 *   init({ key, host, storage, wait })  once; calls before it wait for it
 *     key      the write key
 *     host     the gateway, such as https://events.example; where this file
 *              came from if left out
 *     storage  false: nothing is kept in the browser beyond the page
 *     wait     how long an event waits for company, in ms; default 500
 *   track(name, data, more)
 *   page(name, data, more)              all of them may be left out
 *   identify(userId, traits, more)      from now on events are of this user
 *   group(groupId, traits, more)
 *   reset()                             forgets the user, and begins a new one
 *   flush()                             sends what waits, now
 *
 * more replaces fields of the event, such as { timestamp: '2026-11-23T10:00:00Z' };
 * an alias is sluice('track', 'alias', {}, { type: 'alias', user_id: 'new', previousId: 'old' }).
 *
 * What it promises: an event leaves the queue when the gateway has answered
 * that it is stored, or that it is invalid. There are two exceptions. The
 * queue has a bound; beyond it the oldest leave, with a warning. And a page
 * that goes hands its last events to the browser, which does not say whether
 * they have arrived. An event has the same id however often it is sent.
 *
 * The queue is in localStorage, where all pages of an origin share it. Each
 * event is an entry of its own: to add or to remove one is one step, so that
 * no page overwrites what another has added. What the storage does not take,
 * because it is full, forbidden or not wanted, is kept in memory.
 *
 * Timestamps are of the call, by the clock of this machine; the gateway takes
 * them as they are.
 */
(() => {
  const version = '1'
  // Beacons, and requests that outlive their page, may have 64 KiB in flight,
  // all of a page together. Source: https://fetch.spec.whatwg.org, "inflight
  // keepalive bytes" (read 2026-11).
  const most64KiB = 64 << 10
  // The most characters that wait; those of one event as well.
  const mostWaiting = 5e5
  // The most events of one request.
  const mostEvents = 100
  // How long a request may take, in ms. The gateway answers within ten seconds.
  const patience = 2e4
  // The longest pause after failures, and the longest that the gateway may ask
  // for: a clock that is set back must not make a pause endless.
  const longest = 6e4
  const longestAsked = 3e5

  const doc = document
  const nav = navigator
  const now = Date.now

  let lastTime = 0
  // A UUIDv7. No two have the same time: they sort as they were made. (The
  // time has eleven digits until the year 2527.)
  const uuid = () => {
    const random = crypto.getRandomValues(new Uint16Array(5))
    random[0] = random[0] & 0xfff | 0x7000
    random[1] = random[1] & 0x3fff | 0x8000
    lastTime = Math.max(now(), lastTime + 1)
    return random.reduce((text, n, i) => text + (i < 3 ? '-' : '') + (n + 65536).toString(16).slice(1), '0' + lastTime.toString(16)).replace(/(.{8})/, '$1-')
  }

  const me = uuid() // this page, in the lock
  let url // of the gateway; nothing before init
  let company // how long an event waits for company, in ms
  let suffix // of our names in the storage: those of another key are not ours
  let store // localStorage, or nothing
  const memory = {} // what is not in it
  const own = {} // ids of events of this page
  let timer
  let busy // whether pump is at work
  let sending = [] // entries in flight
  let lasting // whether those arrive even if the page goes
  let gone // whether the page has been told that it ends
  let failures = 0 // one after another
  let most = mostEvents // of the next request

  const warn = (...what) => console.warn('sluice:', ...what)

  const get = k => memory[k += suffix] || store && store.getItem(k)
  const put = (k, v) => {
    k += suffix
    try {
      store.setItem(k, v)
      delete memory[k]
    } catch (e) {
      memory[k] = v
    }
  }
  const del = k => {
    k += suffix
    delete memory[k]
    if (store) store.removeItem(k)
  }

  const remove = entry => del(entry[0])

  // The events that wait, oldest first: [key, JSON].
  const waiting = () => Object.entries(Object.assign({}, store, memory))
    .filter(e => e[0].slice(36) == suffix).sort()
    .map(e => [e[0].slice(0, 36), e[1]])

  const bytesOf = text => new Blob([text]).size

  // cut returns the first of entries, as many as go into one request.
  const cut = entries => {
    let n = 0
    for (let bytes = 1; n < most && entries[n]; n++) {
      bytes += bytesOf(entries[n][1]) + 1
      if (n && bytes > most64KiB) break
    }
    return entries.slice(0, n)
  }
  const bodyOf = entries => '[' + entries.map(e => e[1]) + ']'

  const later = ms => {
    clearTimeout(timer)
    timer = setTimeout(pump, ms)
  }

  // The lock says which page sends, and until when: 13 digits and the page. It
  // is not exact: of two pages that write it at the same time the later has
  // it. A page that dies has it until its time is over.
  const lock = () => get('l') || ''
  const mine = () => lock().slice(13) == me
  const unlock = () => mine() && del('l')

  // pause is for how long nothing may be sent, in ms: while another page sends,
  // and until the time 'w', which is there from a failure to the next success.
  const pause = () => Math.min(longestAsked, Math.max(get('w'), mine() ? 0 : lock().slice(0, 13)) - now())

  const soon = () => later(Math.max(pause(), company))

  // pump sends all that waits, one request after another. A page that goes
  // has no time to see who else has written the lock.
  const pump = async goes => {
    if (busy || !waiting()[0]) return
    if (pause() > 0) return soon()
    busy = 1
    const hold = () => put('l', now() + patience + me)
    hold()
    if (!goes) await new Promise(done => setTimeout(done, 20 + 30 * Math.random()))
    while (mine() && (sending = cut(waiting()))[0] && (hold(), await post()));
    sending = []
    busy = 0
    unlock()
    if (waiting()[0]) soon()
  }

  // post sends the entries in sending and removes those that are settled. It
  // returns false if a pause is due.
  const post = async () => {
    const body = bodyOf(sending)
    let response
    let answer = {}
    let again = [] // what is not settled
    lasting = bytesOf(body) <= most64KiB && 'keepalive' in Request.prototype
    try {
      response = await fetch(url, {
        method: 'POST', body, keepalive: lasting,
        signal: AbortSignal.timeout && AbortSignal.timeout(patience),
      })
      answer = await response.json()
    } catch (e) {
      // Stored or not: it is sent again.
    }
    if (answer.errors || answer.ids) {
      for (const e of answer.errors || []) {
        if (/limited|unavailable/.test(e.code)) again.push(sending[e.index])
        else warn('dropped', sending[e.index][1], e)
      }
    } else if (!response || response.status != 400 && response.status != 413) {
      again = sending
    } else if (sending[1]) {
      // One spoils the request for all, or they are too many.
      most = sending.length >> 1
      return true
    } else {
      warn('dropped', sending[0][1], answer)
    }
    sending.filter(e => !again.includes(e)).map(remove)
    if (again[0]) {
      // With full jitter, or pages that failed together return together.
      const asked = response && response.headers.get('Retry-After') || 0
      put('w', now() + asked * 1e3 + Math.random() * Math.min(longest, 1e3 * 2 ** failures++))
      return false
    }
    failures = 0
    most = mostEvents
    del('w')
    return true
  }

  // leave hands the events of this page that wait to the browser. What the
  // browser has taken is removed, or each visit would send the last events of
  // the one before; but if the last request has failed all stays, and may be
  // sent again with the same ids. In a pause nothing is sent.
  const leave = () => {
    if (pause() > 0) return
    const settle = get('w') ? () => 0 : remove
    let rest = waiting().filter(e => own[e[0]] && !sending.some(s => s[0] == e[0]))
    if (lasting) sending.map(settle)
    while (rest[0]) {
      const part = cut(rest)
      const body = bodyOf(part)
      if (nav.sendBeacon ? nav.sendBeacon(url, body) : fetch(url, { method: 'POST', body, keepalive: true })) part.map(settle)
      rest = rest.slice(part.length)
    }
    unlock()
  }

  const add = (type, name, data, more, extra) => {
    if (!get('a')) put('a', uuid())
    const event = {
      id: uuid(), type, name, data: data || {}, user_id: get('u') || undefined, anonymous_id: get('a'),
      timestamp: new Date().toISOString(),
      context: {
        page: where(), userAgent: nav.userAgent, locale: nav.language, library: { name: 'sluice.js', version },
      },
    }
    own[event.id] = 1
    put(event.id, JSON.stringify(Object.assign(event, extra, more)))
    let total = 0
    for (const [k, text] of waiting().reverse()) {
      if ((total += text.length) > mostWaiting) {
        warn('too much waits, dropped', text)
        del(k)
      }
    }
    if (gone) leave()
    else soon()
  }

  const where = () => ({
    url: location.href, path: location.pathname, referrer: doc.referrer, title: doc.title,
  })

  const commands = {
    init: o => {
      url = (o.host || from).replace(/\/(sluice\.js.*)?$/, '') + '/v1/events?write_key=' + encodeURIComponent(o.key)
      company = o.wait || 500
      suffix = '.sluice.' + o.key
      try {
        store = o.storage != false && localStorage
      } catch (e) {
        // Forbidden: memory.
      }
      addEventListener('pagehide', () => { gone = 1; leave() })
      addEventListener('pageshow', () => { gone = 0 })
      addEventListener('visibilitychange', () => doc.hidden && !gone && pump(1))
      addEventListener('online', () => (del('w'), pump()))
      soon()
      early.splice(0).map(run)
    },
    track: (name, data, more) => add('track', name, data, more),
    page: (name, data, more) => add('page', name || 'page', Object.assign(where(), data), more),
    identify: (user, traits, more) => {
      if (user) put('u', user)
      add('identify', 'identify', traits, more)
    },
    group: (groupId, traits, more) => add('group', 'group', traits, more, { groupId }),
    reset: () => ['a', 'u'].map(del),
    flush: () => pump(),
  }

  // A fault of ours, or of an event, is none of the page's.
  const run = call => {
    const [command, ...rest] = call
    try {
      if (url || command == 'init') commands[command](...rest)
      else early[999] || early.push(call)
    } catch (e) {
      warn(command, e)
    }
  }

  const from = doc.currentScript && doc.currentScript.src
  const early = []
  const before = window.sluice
  window.sluice = (...call) => run(call)
  if (before && before.q) before.q.map(run)
})()
