#!/bin/sh
# Sends a day of a shop's events to simulated vendors, and prints what each of
# them received.
#
#   examples/destinations.sh [VENDOR…]
#
# Without names it is all that can be simulated. It starts sluice on free ports and
# an empty folder, and stops it at the end. It needs Go and curl.
set -eu
cd "$(dirname "$0")/.."

. examples/common.sh

if [ $# -gt 0 ]; then
  vendors=$(echo "$*" | tr ' ' ,)
else
  # Slack takes a message a second: a day of a shop would take an hour.
  vendors=amplitude,clickhouse,ga4,gtm,hubspot,mailchimp,mixpanel,webhook
fi

SLUICE_DATA_DIR=$folder/data
export SLUICE_DATA_DIR
go build -o "$folder" ./cmd/sluice ./examples/shop ./examples/received
SLUICE_ADDR=127.0.0.1:0 SLUICE_ADMIN_ADDR=127.0.0.1:0 "$folder/sluice" up --simulate "$vendors" >"$folder/out" 2>&1 &
pids=$!
await "$pids" "$folder/out" grep -q '^Simulated vendors' "$folder/out"
await "$pids" "$folder/out" test -s "$SLUICE_DATA_DIR/run.json"
gateway=$(sed -n 's/.*"gateway" *: *"\([^"]*\)".*/\1/p' "$SLUICE_DATA_DIR/run.json")
key=$(sed -n 's/^write key *//p' "$folder/out")

"$folder/shop" >"$folder/day.ndjson"
curl --silent --show-error --fail --output /dev/null -H "Authorization: Bearer $key" \
  -H "Content-Type: application/x-ndjson" --data-binary "@$folder/day.ndjson" "$gateway/v1/events"
echo "sent $(wc -l <"$folder/day.ndjson") events"
echo

# settled says whether nothing waits, is tried again, or is still to be read.
settled() {
  ! "$folder/sluice" ledger --json | grep -Eq '"(retrying|waiting|unrouted)": *[1-9]'
}
tries=0
until settled; do
  tries=$((tries + 1))
  if [ "$tries" -gt 600 ]; then
    echo "not delivered in time" >&2
    "$folder/sluice" ledger >&2
    exit 1
  fi
  sleep 0.2
done

# shellcheck disable=SC2046 # an address has no spaces
"$folder/received" $(sed -n 's/^  [a-z0-9]*  *\(http[^ ]*\)$/\1/p' "$folder/out")
"$folder/sluice" ledger
