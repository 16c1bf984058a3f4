#!/bin/sh
# Sends 300 events and one batch, waits until they are delivered, and prints
# what the warehouse holds.
#
#   examples/first-events.sh
#
# It starts sluice on free ports and an empty folder, and stops it at the end.
# To send to one that runs already, say where it is:
#
#   SLUICE_URL=http://localhost:8080 SLUICE_WRITE_KEY=wk_… SLUICE_DATA_DIR=.sluice examples/first-events.sh
#
# It needs Go and curl. Rows are printed with sqlite3 if it is installed, else
# with a few lines of Go.
set -eu
cd "$(dirname "$0")/.."

. examples/common.sh

if [ -z "${SLUICE_URL:-}" ]; then
  SLUICE_DATA_DIR=$folder/data
  export SLUICE_DATA_DIR
  go build -o "$folder/sluice" ./cmd/sluice
  SLUICE_ADDR=127.0.0.1:0 SLUICE_ADMIN_ADDR=127.0.0.1:0 "$folder/sluice" up >"$folder/out" 2>&1 &
  pids=$!
  await "$pids" "$folder/out" test -s "$SLUICE_DATA_DIR/run.json"
  SLUICE_URL=$(sed -n 's/.*"gateway" *: *"\([^"]*\)".*/\1/p' "$SLUICE_DATA_DIR/run.json")
  await "$pids" "$folder/out" grep -q '^write key' "$folder/out"
  SLUICE_WRITE_KEY=$(sed -n 's/^write key *//p' "$folder/out")
fi
: "${SLUICE_WRITE_KEY:?}" "${SLUICE_DATA_DIR:=.sluice}"
admin=$(sed -n 's/.*"admin" *: *"\([^"]*\)".*/\1/p' "$SLUICE_DATA_DIR/run.json")

# send posts standard input. --fail makes any answer that is not 2xx an error.
send() {
  curl --silent --show-error --fail --output /dev/null \
    -H "Authorization: Bearer $SLUICE_WRITE_KEY" -H "Content-Type: application/json" \
    --data-binary @- "$SLUICE_URL/v1/events"
}

# Single events, one request after another over one connection: curl reads a
# list of requests.
n=1
while [ "$n" -le 300 ]; do
  if [ "$n" -gt 1 ]; then echo next; fi
  echo "url = \"$SLUICE_URL/v1/events\""
  echo "header = \"Authorization: Bearer $SLUICE_WRITE_KEY\""
  echo "header = \"Content-Type: application/json\""
  echo "output = \"/dev/null\""
  echo "fail"
  echo "silent"
  echo "show-error"
  echo "data = \"{\\\"name\\\":\\\"event-$n\\\",\\\"data\\\":{\\\"square\\\":$((n * n))}}\""
  n=$((n + 1))
done | curl --config -
echo "sent 300 events"

echo '{"events":[
  {"name":"batch-1","user_id":"ann","data":{"total":12.5}},
  {"name":"batch-2","user_id":"ann","data":{"total":7}},
  {"name":"batch-3","user_id":"bob","data":{}}
]}' | send
echo "sent a batch of 3"

# The ledger says when all is delivered.
tries=0
while :; do
  ledger=$(curl --silent --show-error --fail "$admin/api/ledger")
  case $ledger in
  *'"warehouse":{'*'"retrying":0,"waiting":0,'*'"unrouted":0'*) break ;;
  esac
  tries=$((tries + 1))
  if [ "$tries" -gt 300 ]; then
    echo "not delivered in time: $ledger" >&2
    exit 1
  fi
  sleep 0.1
done
echo "ledger: $ledger"
echo

if command -v sqlite3 >/dev/null; then
  sqlite3 -readonly -separator '  ' "$SLUICE_DATA_DIR/warehouse.db" 'SELECT received_at, name, data FROM events ORDER BY rowid'
else
  go run ./examples/rows "$SLUICE_DATA_DIR/warehouse.db"
fi
