#!/bin/sh
# The whole of Sluice on AWS, on this machine: events through the gateway to a
# Kinesis stream, the router and a connector as Lambda functions, a vendor who
# fails, dead letters, a backup of them, and their way back.
#
#   examples/aws-local.sh
#
# Kinesis, SQS, S3 and Lambda are in memory (examples/aws); gateway and functions
# are the built programs. All is stopped and removed at the end.
#
# It needs Go and curl.
set -eu
cd "$(dirname "$0")/.."

. examples/common.sh
say() { printf '\n== %s\n' "$*"; }

go build -o "$folder/sluice" ./cmd/sluice
go build -tags lambda.norpc -o "$folder/functions/" ./cmd/router ./cmd/connector
go build -o "$folder/aws" ./examples/aws
"$folder/aws" -functions "$folder/functions" >"$folder/env" 2>"$folder/aws.log" &
aws=$!
pids=$aws
await "$aws" "$folder/aws.log" grep -q VENDOR "$folder/env"
while read -r variable; do export "${variable?}"; done <"$folder/env"
sluice() { "$folder/sluice" "$@"; }

export SLUICE_DATA_DIR="$folder/data"
say "the rules in S3"
sluice rules check "$SLUICE_RULES"

say "a key for a back end, kept in S3 as its hash"
key=$(sluice keys new --id shop --kind secret)
sluice keys list

SLUICE_ADDR=127.0.0.1:0 SLUICE_ADMIN_ADDR=127.0.0.1:0 "$folder/sluice" gateway >"$folder/gateway.log" 2>&1 &
gateway=$!
pids="$gateway $aws"
await "$gateway" "$folder/gateway.log" test -s "$SLUICE_DATA_DIR/run.json"
url=$(sed -n 's/.*"gateway" *: *"\([^"]*\)".*/\1/p' "$SLUICE_DATA_DIR/run.json")

send() {
  curl --silent --show-error --fail -H "Authorization: Bearer $key" -H "Content-Type: application/json" --data-binary "$1" "$url/v1/events"
  echo
}
taken() { curl --silent --show-error --fail "$VENDOR" | grep -c "$1"; }
has() { [ "$(taken "$1" || true)" = "$2" ]; }

say "events go to the stream, and by the rules to the vendor"
send '[{"name":"signed_up","user_id":"ann","data":{"plan":"pro"}},
       {"name":"order_completed","user_id":"ann","data":{"total":42}},
       {"name":"page_viewed","user_id":"ann"}]'
await "$aws" "$folder/aws.log" has '"user_id":"ann"' 2
curl --silent "$VENDOR"

say "the vendor fails: after three attempts the events are dead letters"
curl --silent --fail --request PUT "$VENDOR/broken"
send '[{"name":"signed_up","user_id":"bob","data":{"plan":"free"}},{"name":"order_completed","user_id":"bob","data":{"total":7}}]'
dead() { sluice dlq list "$CRM_DEAD" --json | grep -c "$1"; }
buried() { [ "$(dead bob || true)" = 2 ]; }
await "$aws" "$folder/aws.log" buried
sluice dlq list "$CRM_DEAD"

say "a backup, synced before anything is deleted"
sluice dlq backup "$CRM_DEAD" "$folder/crm.jsonl"
cut -c 1-150 "$folder/crm.jsonl"

say "the vendor is well again: the dead letters are replayed"
curl --silent --fail --request PUT "$VENDOR/well"
sluice dlq replay "$CRM_DEAD" --dry-run
sluice dlq replay "$CRM_DEAD"
await "$aws" "$folder/aws.log" has '"user_id":"bob"' 2
curl --silent "$VENDOR" | grep bob
sluice dlq list "$CRM_DEAD"

say "the ledger of the gateway"
sluice ledger
