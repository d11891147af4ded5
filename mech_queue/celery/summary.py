"""What Flower, ``inspect`` and events show of a job: never its data, a summary that can be searched.

Flower reads an event's ``kwargs`` as a Python dict and finds ``kwargs:userId=42`` in it, so the summary
is the repr of a flat dict: application, queue, and the job's metadata.
"""

import json
from typing import Any

from mech_queue.celery.held import HeldJob

ARGUMENTS = "()"
SUMMARY_CHARACTERS = 600
VALUE_CHARACTERS = 120
"""Events go to every monitor for every job: keep them small."""


def kwargs_summary(held: HeldJob, show_metadata: bool) -> str:
    """The repr of a flat dict; entries that would make it too long are left out."""
    summary: dict[str, Any] = {"application": held.application_id, "queue": held.place.queue}
    if show_metadata and held.job.metadata not in (b"", b"{}"):
        length = len(repr(summary))
        for name, value in _flat(held.job.metadata):
            name = f"metadata.{name}" if name in summary else name
            length += len(name) + len(repr(value)) + 6
            if length > SUMMARY_CHARACTERS:
                break
            summary[name] = value
    return repr(summary)


def _flat(metadata: bytes) -> list[tuple[str, Any]]:
    """Scalars of the metadata, also one level down as ``a.b`` (the filterable ones)."""
    try:
        parsed = json.loads(metadata)
    except ValueError:
        return []
    found: list[tuple[str, Any]] = []
    for name, value in parsed.items() if isinstance(parsed, dict) else ():
        nested = value.items() if isinstance(value, dict) else ()
        pairs = [(f"{name}.{inner}", inner_value) for inner, inner_value in nested] or [(name, value)]
        found += [(key, _short(one)) for key, one in pairs if isinstance(one, str | int | float | bool)]
    return found


def _short(value: Any) -> Any:
    return value[:VALUE_CHARACTERS] if isinstance(value, str) else value
