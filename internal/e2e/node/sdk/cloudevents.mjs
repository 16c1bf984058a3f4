// cloudevents, with its own transport. options.mode is binary, structured or
// batched. The SDK has no encoder for batches: the document is made of its
// events, and sent by its transport.
import { CloudEvent, httpTransport, emitterFor, HTTP } from 'cloudevents'

export async function open({ host, key, mode }) {
  const transport = httpTransport(`${host}/v1/events`)
  const headers = { authorization: `Bearer ${key}` }
  const emit = emitterFor((message, options) => transport({ ...message, headers: { ...message.headers, ...headers } }, options), {
    mode: mode === 'binary' ? 'binary' : 'structured',
  })
  const sent = []
  const batch = []
  const take = (event, settle) => {
    if (mode === 'batched') {
      batch.push({ event, settle })
      return
    }
    // The transport resolves with what the server said, whatever the status.
    sent.push(emit(event).then(() => settle(), settle))
  }
  return {
    track({ event, userId, properties, timestamp }, settle) {
      take(new CloudEvent({
        type: event, source: '/e2e', subject: userId, time: timestamp?.toISOString(),
        data: properties, partitionkey: userId,
      }), settle)
    },
    async close() {
      await Promise.all(sent)
      if (batch.length) {
        const body = `[${batch.map(({ event }) => HTTP.structured(event).body).join(',')}]`
        await transport({ headers: { 'content-type': 'application/cloudevents-batch+json; charset=utf-8', ...headers }, body })
        batch.forEach(({ settle }) => settle())
      }
    },
  }
}
