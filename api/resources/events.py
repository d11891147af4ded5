"""``GET /api/events``: the application's events as server-sent events."""

import json
from collections.abc import Iterator

from flask import Response, request
from flask_smorest import Blueprint

from api import views
from api.context import application_id, runtime
from api.guards import requires
from api.queries import META
from mech_queue.model import matching, metadata
from mech_queue.model.application import Scope
from mech_queue.model.problems import Problems, invalid, unknown
from mech_queue.model.times import iso
from mech_queue.services import streams
from mech_queue.services.streams import Filter, Streamed

blp = Blueprint("events", __name__, description="The event stream of an application (server-sent events).")

QUERY = (
    ("events", "comma-separated names of events; default all"),
    ("queue", "only this queue (comma list)"),
    (
        "metadata.<key>",
        "only jobs with this value, found as in `GET /api/jobs`",
    ),
)


@blp.route("/api/events")
@blp.doc(
    description="Server-sent events. `Last-Event-ID` resumes; `event: gap` says that older events are gone.",
    responses={200: {"description": "The stream.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    **views.query_doc(*QUERY),
)
@requires(Scope.READ)
def follow() -> Response:
    """Follow the application's events as they happen."""
    filters = _wanted(views.query())
    last_id = request.headers.get("Last-Event-ID")
    if last_id is not None and not streams.is_id(last_id):
        raise invalid("Last-Event-ID", "must be an id of this stream")
    process = runtime()
    if not process.waiters.enter():
        answer = Response("", 200, content_type="text/event-stream")
        answer.headers["Retry-After"] = "1"
        return answer
    events = process.streams.follow(application_id(), filters, last_id)

    def lines() -> Iterator[bytes]:
        try:
            yield b": connected\n\n"
            for one in events:
                if process.stopping.is_set():
                    return
                yield b": still here\n\n" if one is None else _frame(one)
        finally:
            process.waiters.leave()

    response = Response(lines(), 200, content_type="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _wanted(query: dict[str, str]) -> Filter:
    problems = Problems()
    events: tuple[str, ...] = ("*",)
    queues: tuple[str, ...] = ()
    fields = []
    for name, value in query.items():
        if name == "events":
            events = matching.parse_events(value.split(","), problems)
        elif name == "queue":
            queues = matching.parse_queues(value.split(","), problems, name)
        elif name.startswith(META) and name != META:
            fields.append((name.removeprefix(META), metadata.accepted(value)))
        else:
            problems.add(name, unknown(name, ("events", "queue", f"{META}<key>")))
    problems.raise_any()
    return Filter(events, queues, tuple(fields))


def _frame(one: Streamed) -> bytes:
    if one.event is None:
        return f"id: {one.id}\nevent: gap\ndata: {{}}\n\n".encode()
    event = one.event
    head = {
        "jobId": event.job_id,
        "status": event.type.value,
        "timestamp": iso(event.at_ms),
        "sequence": event.sequence,
        "queue": one.queue,
    }
    body = json.dumps(head)[:-1].encode() + b', "metadata": ' + one.metadata
    if event.extra:
        body += b', "' + (b"progress" if event.type.value == "progress" else b"error") + b'": ' + event.extra
    # JSON text as it was sent may hold line breaks; in an SSE field they would end it
    data = (body + b"}").replace(b"\r", b" ").replace(b"\n", b" ")
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (one.id.encode(), event.type.value.encode(), data)
