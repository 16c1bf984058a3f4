"""Sends with the client that OpenAPI Generator makes for Python, and says what
it reads of the answers."""

import os

import openapi_client
from openapi_client import Event, EventBatch, Problem


def api(key):
    return openapi_client.EventsApi(
        openapi_client.ApiClient(openapi_client.Configuration(host=os.environ["SLUICE_URL"], access_token=key))
    )


good = Event(id="python-1", name="order_placed", user_id="u1", data={"total": 12.5})
bad = Event(name="é" * 400)

events = api(os.environ["SLUICE_KEY"])
accepted = events.send_events(EventBatch(events=[good]))
print("all", accepted.accepted, accepted.rejected, accepted.ids[0], accepted.ack.value)

some = events.send_events(EventBatch(events=[Event(id="python-2", name="order_shipped"), bad]))
error = some.errors[0]
print("some", some.accepted, some.rejected, some.ids[0], some.ids[1] or "null", error.index, error.pointer, error.code.value)

try:
    api("wk_wrong").send_events(EventBatch(events=[good]))
except openapi_client.exceptions.UnauthorizedException as e:
    problem = e.data
    assert isinstance(problem, Problem), type(problem)
    print("none", e.status, problem.status, problem.code.value, problem.title)
