// In a page: makes calls with an SDK, and resolves with what the SDK says of
// them, by their numbers, when it has nothing left to do.
export const runWith = (open) => async (config, calls) => {
  const said = { delivered: [], failed: [] }
  const settle = (n) => (err) => {
    if (err) console.warn(n, String(err))
    said[err ? 'failed' : 'delivered'].push(n)
  }
  const sdk = await open(config)
  for (const { call, n, ...fields } of calls) {
    if (fields.timestamp) fields.timestamp = new Date(fields.timestamp)
    if (sdk[call]) sdk[call](fields, settle(n))
  }
  if (sdk.close) await sdk.close()
  return said
}

// With ?open={…} in the address of the page the SDK is opened at once, and
// window.opened resolves with it.
export const openAtOnce = (open) => {
  const config = new URLSearchParams(location.search).get('open')
  if (config) window.opened = open(JSON.parse(config))
}
