"""Bodies of deliveries. Rendered once per event and receiver; every attempt and replay sends these bytes.

Texts are joined: what a caller sent as data, metadata, result, error or progress arrives as it was sent.
"""

import json
from dataclasses import dataclass
from typing import Any

from mech_queue.model.event import EventType
from mech_queue.model.job import JobRecord
from mech_queue.model.times import iso

TEST = "test"
"""Name of the event that ``POST /api/subscriptions/{id}/test`` sends."""


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of a job. ``extra``: its progress or error as JSON text, when the event brought it along."""

    application_id: str
    event: str
    sequence: int
    at_ms: int
    extra: bytes | None = None


def job_webhook_body(happening: Happening, job: JobRecord) -> bytes:
    """The body of a job webhook."""
    return b"{%s}" % _top(happening, job)


def subscription_body(happening: Happening, job: JobRecord, subscription_id: str, name: str) -> bytes:
    """The same members at the top, and beside them subscription, event and job as objects."""
    event_id = f"{job.id}-{happening.sequence}"
    return b"".join(
        (
            b"{",
            _top(happening, job),
            b',"subscription":{"id":%s,"name":%s}' % (_text(subscription_id), _text(name)),
            b',"event":{"id":%s,"type":%s,"timestamp":%s,"sequence":%d}'
            % (_text(event_id), _text(happening.event), _time(happening), happening.sequence),
            b',"job":{"id":%s,"queue":%s,"status":%s,"data":'
            % (_text(job.id), _text(job.queue), _text(happening.event)),
            job.data,
            b',"metadata":',
            job.metadata,
            _outcome(happening, job),
            b"}}",
        )
    )


def notice_body(happening: Happening, receiver: tuple[str, str], about: dict[str, Any]) -> bytes:
    """The body of a notice to the subscription ``receiver`` (id, name); ``about`` is the one that it tells of."""
    at, subscription_id = iso(happening.at_ms), about["id"]
    shown = {
        "status": happening.event,
        "timestamp": at,
        "applicationId": happening.application_id,
        "subscription": {"id": receiver[0], "name": receiver[1]},
        "event": {"id": f"{subscription_id}-{happening.at_ms}", "type": happening.event, "timestamp": at},
        "about": about,
    }
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()


def _top(happening: Happening, job: JobRecord) -> bytes:
    return b"".join(
        (
            b'"jobId":%s,"status":%s,"timestamp":%s' % (_text(job.id), _text(happening.event), _time(happening)),
            _outcome(happening, job),
            b',"queue":%s,"metadata":' % _text(job.queue),
            job.metadata,
            b',"applicationId":%s,"sequence":%d' % (_text(happening.application_id), happening.sequence),
        )
    )


def _outcome(happening: Happening, job: JobRecord) -> bytes:
    """The one member that tells what came of it; none where there is nothing to tell."""
    if happening.event == EventType.COMPLETED:
        name, value = b"result", job.result
    elif happening.event in (EventType.FAILED, EventType.RETRYING):
        name, value = b"error", happening.extra or job.error
    elif happening.event == EventType.PROGRESS:
        name, value = b"progress", happening.extra or job.progress
    else:
        return b""
    return b',"%s":%s' % (name, value) if value else b""


def _text(value: str) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _time(happening: Happening) -> bytes:
    return b'"%s"' % iso(happening.at_ms).encode()
