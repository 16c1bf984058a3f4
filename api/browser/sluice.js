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
 * that ends while the gateway is well, as far as is known, hands its last
 * events to the browser, which does not say whether they have arrived. An event
 * has the same id however often it is sent.
 *
 * Each page sends its own events, from memory. From a failure to the next
 * success, and if there is more than a beacon takes, they are in localStorage as
 * well, in an entry that only this page writes. (Not always: browsers do not
 * keep all that a page writes while it ends, and what was not removed is sent
 * again.) A page with an entry holds a lock of the same name. An entry without a
 * lock is of a page that has ended. The next page takes it over, and so does one
 * that has an entry itself and gets rid of it. What the storage does not take,
 * because it is full, forbidden or not wanted, ends with the page.
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
  // With more characters than this waiting, of up to three bytes each, a beacon
  // may not take all.
  const mostForBeacon = 2e4
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

  let lastTime = 0
  // A UUIDv7. No two have the same time: they sort as they were made. (The
  // time has eleven digits until the year 2527.)
  const uuid = () => {
    const random = crypto.getRandomValues(new Uint16Array(5))
    random[0] = random[0] & 0xfff | 0x7000
    random[1] = random[1] & 0x3fff | 0x8000
    lastTime = Math.max(Date.now(), lastTime + 1)
    return random.reduce((text, n, i) => text + (i < 3 ? '-' : '') + (n + 65536).toString(16).slice(1), ('0' + lastTime.toString(16)).replace(/.{8}/, '$&-'))
  }

  let me = uuid() // this page, until it lets go of what it has kept
  let url // of the gateway; nothing before init
  let company // how long an event waits for company, in ms
  let suffix // of our names in the storage: those of another key are not ours
  let store // localStorage, or nothing
  const memory = {} // what is not in it
  const queue = {} // the events that wait, by their ids
  let kept // whether the storage has them, and this page the lock
  let release // lets go of that
  let timer
  let busy // whether pump is at work
  let sending = [] // entries in flight
  let lasting // whether those arrive even if the page goes
  let gone // whether the page has been told that it ends
  let failures = 0 // one after another
  let most = mostEvents // of the next request

  const warn = (...what) => console.warn('sluice:', ...what)

  const get = k => memory[k] || store && store.getItem(k + suffix)
  const put = (k, v) => {
    try {
      store.setItem(k + suffix, v)
      v = ''
    } catch (e) {
      // Full, or none: memory.
    }
    memory[k] = v
  }
  const del = k => {
    delete memory[k]
    if (store) store.removeItem(k + suffix)
  }

  // What waits, oldest first: [id, JSON].
  const waiting = () => Object.entries(queue).sort()
  const remove = entry => delete queue[entry[0]]
  const bodyOf = entries => '[' + entries.map(e => e[1]) + ']'

  // locked runs work when no other page has the lock.
  // Browsers have locks for pages with https. Without them two pages that are
  // open during an outage may both send what one of them has saved.
  const locked = (name, work) => navigator.locks ? navigator.locks.request(name, work) : work()

  // keep saves what waits, and holds the lock of its entry.
  const keep = () => {
    put(me, bodyOf(waiting()))
    kept || locked(me + suffix, () => kept && new Promise(done => { release = done }))
    kept = 1
  }
  const letGo = () => {
    kept = release && release()
    me = uuid() // who waits for the lock may have what it was for, and no more
  }

  // enqueue adds an event; if too much waits, the oldest leave.
  const enqueue = (id, text) => {
    let total = 0
    queue[id] = text
    waiting().reverse().map(e => (total += e[1].length) > mostWaiting && remove(e) && warn('too much waits', e[1]))
    if (get('w') || total > mostForBeacon) keep()
  }

  // adopt takes over what pages have left, as soon as they have ended. It waits
  // for a second: what another page has written is not seen at once.
  const adopt = () => Object.keys(store || {}).map(k => k.slice(36) == suffix && k != me + suffix && locked(k, async () => {
    await new Promise(done => setTimeout(done, 1e3))
    if (!gone) {
      JSON.parse(store.getItem(k) || '[]').map(e => enqueue(e.id, JSON.stringify(e)))
      keep()
      store.removeItem(k)
      pump()
    }
  }))

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

  const later = ms => {
    clearTimeout(timer)
    timer = setTimeout(pump, ms)
  }

  // pause is for how long nothing may be sent, in ms: until the time 'w', which
  // is there from a failure to the next success, for all pages.
  const pause = () => Math.min(longestAsked, get('w') - Date.now())

  const soon = () => later(Math.max(pause(), company))

  // pump sends all that waits, one request after another.
  const pump = async () => {
    if (busy || !waiting()[0]) return
    if (pause() > 0) return soon()
    busy = 1
    while ((sending = cut(waiting()))[0] && await post());
    sending = []
    busy = 0
    if (waiting()[0]) return soon()
    del(me)
    if (kept) adopt()
    letGo()
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
      // An answer for each event: some may be stored later.
      (answer.errors || []).map(e => /limited|unavailable/.test(e.code)
        ? again.push(sending[e.index]) : warn('dropped', sending[e.index][1], e))
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
      put('w', Date.now() + asked * 1e3 + Math.random() * Math.min(longest, 1e3 * 2 ** failures++))
      keep()
      return false
    }
    failures = 0
    most = mostEvents
    del('w')
    if (kept) keep()
    return true
  }

  // leave hands what waits to the browser, if the last request was answered
  // well. Otherwise, and what the browser does not take, is for the next page.
  const leave = () => {
    if (!get('w')) {
      if (lasting) sending.map(remove)
      for (let rest = waiting(), part; (part = cut(rest))[0]; rest = rest.slice(part.length)) {
        const body = bodyOf(part)
        if (navigator.sendBeacon ? navigator.sendBeacon(url, body) : fetch(url, { method: 'POST', body, keepalive: true })) part.map(remove)
      }
    }
    if (waiting()[0]) {
      put(me, bodyOf(waiting()))
      memory[me] || waiting().map(remove)
    }
    letGo()
  }

  const add = (type, name, data, more, extra) => {
    if (!get('a')) put('a', uuid())
    const event = {
      id: uuid(), type, name, data: data || {}, user_id: get('u') || undefined, anonymous_id: get('a'),
      timestamp: new Date().toISOString(),
      context: {
        page: where(), userAgent: navigator.userAgent, locale: navigator.language, library: { name: 'sluice.js', version },
      },
    }
    enqueue(event.id, JSON.stringify(Object.assign(event, extra, more)))
    if (gone) leave()
    else soon()
  }

  const where = () => ({
    url: location.href, path: location.pathname, referrer: document.referrer, title: document.title,
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
      addEventListener('pageshow', () => { gone = 0; adopt() })
      addEventListener('visibilitychange', () => document.hidden && !gone && pump())
      addEventListener('online', () => (del('w'), pump()))
      adopt()
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
    flush: pump,
  }

  // A fault of ours, or of an event, is none of the page's.
  const run = ([command, ...rest]) => {
    try {
      if (!url == (command == 'init')) commands[command](...rest)
      else if (!url) early.push([command, ...rest])
    } catch (e) {
      warn(command, e)
    }
  }

  const from = document.currentScript && document.currentScript.src
  const early = []
  const before = window.sluice
  window.sluice = (...call) => run(call)
  if (before && before.q) before.q.map(run)
})()
