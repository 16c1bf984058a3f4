// cloudevents, with its own transport. options.mode is binary, structured or
// batched. The SDK has no encoder for batches: the document is made of its
// events, and sent by its transport. userid is the extension that says whose
// an event is.
import { CloudEvent, httpTransport, HTTP } from 'cloudevents'

export async function open({ host, key, mode }) {
  const transport = httpTransport(`${host}/v1/events`)
  // It resolves with what the server said, whatever the status.
  const send = ({ headers, body }) => transport({ headers: { ...headers, authorization: `Bearer ${key}` }, body })
  const sent = []
  const batch = []
  return {
    track({ event, userId, properties, timestamp }, settle) {
      const made = new CloudEvent({
        type: event, source: '/e2e', time: timestamp?.toISOString(), subject: 'order/1', userid: userId, data: properties,
      })
      if (mode === 'batched') batch.push({ made, settle })
      else sent.push(send(HTTP[mode](made)).then(() => settle(), settle))
    },
    async close() {
      await Promise.all(sent)
      if (batch.length === 0) return
      const body = `[${batch.map(({ made }) => HTTP.structured(made).body).join(',')}]`
      await send({ headers: { 'content-type': 'application/cloudevents-batch+json; charset=utf-8' }, body })
      batch.forEach(({ settle }) => settle())
    },
  }
}
