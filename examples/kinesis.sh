#!/bin/sh
# Sends events through a gateway to a Kinesis stream, and prints what is on it.
#
#   examples/kinesis.sh
#
# It starts a Kinesis endpoint in memory (examples/kinesis) and a gateway before
# it, on free ports and in an empty folder, and stops both at the end. With a
# stream of your own, name it, and let the environment lead the AWS SDK there:
#
#   AWS_PROFILE=dev SLUICE_STREAM=kinesis://my-stream examples/kinesis.sh
#
# It needs Go and curl.
set -eu
cd "$(dirname "$0")/.."

. examples/common.sh

go build -o "$folder/sluice" ./cmd/sluice
if [ -z "${SLUICE_STREAM:-}" ]; then
  go build -o "$folder/kinesis" ./examples/kinesis
  "$folder/kinesis" -stream events -shards 2 >"$folder/env" 2>"$folder/kinesis.log" &
  pids=$!
  await "$!" "$folder/kinesis.log" grep -q AWS_SECRET_ACCESS_KEY "$folder/env"
  while read -r variable; do export "${variable?}"; done <"$folder/env"
  export SLUICE_STREAM=kinesis://events
fi

export SLUICE_DATA_DIR="$folder/data"
SLUICE_ADDR=127.0.0.1:0 SLUICE_ADMIN_ADDR=127.0.0.1:0 "$folder/sluice" gateway >"$folder/gateway.log" 2>&1 &
gateway=$!
pids="$gateway $pids"
await "$gateway" "$folder/gateway.log" test -s "$SLUICE_DATA_DIR/run.json"
await "$gateway" "$folder/gateway.log" grep -q '^write key' "$folder/gateway.log"
url=$(sed -n 's/.*"gateway" *: *"\([^"]*\)".*/\1/p' "$SLUICE_DATA_DIR/run.json")
key=$(sed -n 's/^write key *//p' "$folder/gateway.log")
began=$(date -u +%Y-%m-%dT%H:%M:%SZ)

# send posts standard input. --fail makes any answer that is not 2xx an error.
send() {
  curl --silent --show-error --fail -H "Authorization: Bearer $key" -H "Content-Type: application/json" --data-binary @- "$url/v1/events"
  echo
}

echo '{"name":"signed_up","user_id":"ann","data":{"plan":"pro"}}' | send
n=0
while [ "$n" -lt 20 ]; do
  [ "$n" -eq 0 ] || printf ','
  printf '{"name":"page_viewed","user_id":"user-%d","data":{"number": %d}}' "$((n % 3))" "$n"
  n=$((n + 1))
done | sed 's/^/[/; s/$/]/' | send
echo

echo "on the stream:"
"$folder/sluice" stream peek --from "$began"
echo
"$folder/sluice" ledger
