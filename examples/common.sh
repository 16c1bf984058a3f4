# What the examples share: a folder, processes that end with the script, waiting.
# It is read by the others (. examples/common.sh), and is no example itself.

folder=$(mktemp -d)
pids=
cleanup() {
  for pid in $pids; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# await runs a command until it succeeds, as long as a process lives.
await() {
  pid=$1
  log=$2
  shift 2
  until "$@"; do
    kill -0 "$pid" 2>/dev/null || { cat "$log" >&2; exit 1; }
    sleep 0.1
  done
}
