// Serves the page, and the SDKs for it from node_modules, on this machine.
//
//   npm install
//   SLUICE_URL=http://localhost:8080 SLUICE_WRITE_KEY=wk_… node serve.mjs
//
// PORT is the port, 3000 if it is not set; 0 lets the system choose.
import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('.', import.meta.url))
const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.mjs': 'text/javascript; charset=utf-8' }

// What the page may load, by the beginnings of the paths.
const folders = {
  '/segment/': 'node_modules/@segment/analytics-next/dist/umd/',
  '/rudder/': 'node_modules/@rudderstack/analytics-js/dist/npm/modern/bundled/umd/',
  '/jitsu/': 'node_modules/@jitsu/js/dist/',
}

const settings = JSON.stringify({
  host: process.env.SLUICE_URL ?? 'http://localhost:8080',
  key: process.env.SLUICE_WRITE_KEY ?? '',
})

function fileOf(path) {
  if (path === '/') return 'index.html'
  if (path === '/page.mjs') return 'page.mjs'
  for (const [beginning, folder] of Object.entries(folders)) {
    const rest = normalize(path.slice(beginning.length))
    if (path.startsWith(beginning) && !rest.startsWith('..')) return join(folder, rest)
  }
}

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost')
  if (pathname === '/settings.json') {
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(settings)
    return
  }
  const file = fileOf(pathname)
  try {
    if (!file) throw new Error('no such file')
    const text = await readFile(join(here, file))
    response.writeHead(200, { 'Content-Type': types[extname(file)] ?? 'application/octet-stream' }).end(text)
  } catch {
    response.writeHead(404).end()
  }
})

server.listen(process.env.PORT ?? 3000, 'localhost', () => {
  console.log(`open http://localhost:${server.address().port}/`)
})
