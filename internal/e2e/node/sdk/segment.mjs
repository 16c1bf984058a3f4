// @segment/analytics-node, in the version that options.package names.
export async function open({ host, key, package: name, ...options }) {
  const { Analytics } = await import(name)
  const sdk = new Analytics({ host, writeKey: key, flushAt: 4, ...options })
  sdk.on('error', (err) => console.error('error:', err.code, err.reason ?? ''))
  const calls = { close: () => sdk.closeAndFlush({ timeout: 60000 }) }
  for (const call of ['track', 'identify', 'page', 'screen', 'group', 'alias']) {
    calls[call] = (fields, settle) => sdk[call](fields, (err) => settle(err))
  }
  return calls
}
