"""Makes the calls in the file SLUICE_CALLS with segment-analytics-python,
unmodified, once to each of SLUICE_RUNS, and prints what it says of them; see
../node/send.mjs."""

import json
import os
import sys
import threading
from datetime import datetime

from segment.analytics.client import Client

NAMES = {"userId": "user_id", "anonymousId": "anonymous_id", "groupId": "group_id", "previousId": "previous_id"}


def send(run, results, at):
    with open(os.environ["SLUICE_CALLS"], encoding="utf-8") as file:
        calls = json.load(file)
    failed = []

    def on_error(error, items):
        print(run["host"], error, file=sys.stderr)
        failed.extend(item["messageId"] for item in items)

    client = Client(run["key"], host=run["host"], on_error=on_error, upload_size=4, gzip="SLUICE_GZIP" in os.environ)
    ids = {}
    for call in calls:
        name, number = call.pop("call"), call.pop("n")
        arguments = {NAMES.get(field, field): value for field, value in call.items()}
        if "timestamp" in arguments:
            arguments["timestamp"] = datetime.fromisoformat(arguments["timestamp"].replace("Z", "+00:00"))
        _, message = getattr(client, name)(**arguments)
        ids[message["messageId"]] = number
    client.shutdown()
    results[at] = {
        "delivered": [n for i, n in ids.items() if i not in failed],
        "failed": [n for i, n in ids.items() if i in failed],
    }


RUNS = json.loads(os.environ["SLUICE_RUNS"])
RESULTS = [None] * len(RUNS)
THREADS = []
for index, one in enumerate(RUNS):
    THREADS.append(threading.Thread(target=send, args=(one, RESULTS, index)))
for thread in THREADS:
    thread.start()
for thread in THREADS:
    thread.join()
print(json.dumps(RESULTS))
