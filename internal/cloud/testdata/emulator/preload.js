// Loaded before kinesalite (node -r), which has no options for any of this.
const net = require('net')

// It listens on every interface and takes no port from the system: here every
// server listens on a free port of the loopback, whatever it asks for.
const listen = net.Server.prototype.listen

net.Server.prototype.listen = function (...asked) {
  return listen.call(this, 0, '127.0.0.1', asked.find(arg => typeof arg === 'function'))
}

// It dies of a client that goes away in the middle of a request.
process.on('uncaughtException', err => {
  if (err.code === 'ECONNRESET') return
  console.error(err)
  process.exit(1)
})

// It ends with its input, so that it does not outlive its test.
process.stdin.on('end', () => process.exit()).resume()
