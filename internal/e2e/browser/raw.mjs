// What a page sends without an SDK: each call in another way, by options.how.
const event = (f, key) => ({
  type: 'track', event: f.event, userId: f.userId, properties: f.properties,
  messageId: crypto.randomUUID(), timestamp: new Date().toISOString(), writeKey: key,
})

const wanted = (response) => { if (!response.ok) throw new Error(response.status) }

const senders = {
  'fetch JSON': (url, body, key) => fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }).then(wanted),
  'fetch with Authorization': (url, body, key) => fetch(url, {
    method: 'POST', headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${key}` }, body,
  }).then(wanted),
  'fetch with credentials': (url, body) => fetch(url, {
    method: 'POST', credentials: 'include', headers: { 'Content-Type': 'application/json' }, body,
  }).then(wanted),
  'fetch keepalive': (url, body) => fetch(url, { method: 'POST', keepalive: true, body }).then(wanted),
  'fetch no-cors': (url, body) => fetch(url, { method: 'POST', mode: 'no-cors', body }),
  'fetch gzip': async (url, body) => {
    const stream = new Blob([body]).stream().pipeThrough(new CompressionStream('gzip'))
    wanted(await fetch(url, {
      method: 'POST', headers: { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' },
      body: await new Response(stream).blob(),
    }))
  },
  XHR: (url, body) => new Promise((done, fail) => {
    const xhr = new XMLHttpRequest()
    xhr.open('POST', url)
    xhr.setRequestHeader('Content-Type', 'application/json')
    xhr.onload = () => (xhr.status === 200 ? done() : fail(new Error(xhr.status)))
    xhr.onerror = fail
    xhr.send(body)
  }),
  'beacon string': (url, body) => { if (!navigator.sendBeacon(url, body)) throw new Error('refused') },
  'beacon Blob text': (url, body) => { if (!navigator.sendBeacon(url, new Blob([body], { type: 'text/plain' }))) throw new Error('refused') },
  'beacon Blob JSON': (url, body) => { if (!navigator.sendBeacon(url, new Blob([body], { type: 'application/json' }))) throw new Error('refused') },
  pixel: (url, body, key, host) => new Promise((done, fail) => {
    const image = new Image()
    image.onload = done
    image.onerror = fail
    image.src = `${host}/v1/pixel/track?data=${encodeURIComponent(btoa(unescape(encodeURIComponent(body))))}`
  }),
  form: (url, body) => fetch(url, { method: 'POST', mode: 'no-cors', body: new URLSearchParams({ data: body }) }),
}

export async function open({ host, key, how }) {
  const sent = []
  return {
    track: (f, settle) => sent.push((async () => senders[how](`${host}/v1/t`, JSON.stringify(event(f, key)), key, host))().then(() => settle(), settle)),
    close: () => Promise.all(sent),
  }
}
