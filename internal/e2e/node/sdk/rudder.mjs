// @rudderstack/rudder-sdk-node.
import Analytics from '@rudderstack/rudder-sdk-node'

export async function open({ host, key, ...options }) {
  const sdk = new Analytics(key, { dataPlaneUrl: host, flushAt: 4, logLevel: 'error', ...options })
  let waiting = 0
  const calls = {
    async close() {
      // A flush that waits for one that fails sends nothing.
      while (waiting > 0) {
        await sdk.flush().catch((err) => console.error(host, 'flush:', String(err)))
        await new Promise(setImmediate) // where the callbacks are called
      }
    },
  }
  for (const call of ['track', 'identify', 'page', 'screen', 'group', 'alias']) {
    calls[call] = (fields, settle) => {
      waiting++
      sdk[call](fields, (err) => { waiting--; settle(err) })
    }
  }
  return calls
}
