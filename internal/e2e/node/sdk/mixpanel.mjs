// mixpanel. The key is the token. It asks the server for each call at once.
import Mixpanel from 'mixpanel'

export async function open({ host, key }) {
  const { host: name } = new URL(host)
  const sdk = Mixpanel.init(key, { host: name, protocol: 'http', keepAlive: false })
  const sent = []
  const take = (settle, call) => sent.push(new Promise((done) => call((err) => { settle(err); done() })))
  return {
    track: ({ userId, event, properties }, settle) => take(settle, (done) => sdk.track(event, { distinct_id: userId, ...properties }, done)),
    identify: ({ userId, traits }, settle) => take(settle, (done) => sdk.people.set(userId, traits, done)),
    group: ({ groupId, traits }, settle) => take(settle, (done) => sdk.groups.set('company', groupId, traits, done)),
    close: () => Promise.all(sent),
  }
}
