"""Lists of jobs: filters become index prefixes, bounded steps become one full page."""

import base64
import time
from typing import Any

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import State
from mech_queue.model.metadata import fields_hash
from mech_queue.model.query import JobPage, JobQuery
from mech_queue.store import Store

PAGE_BYTES = 8 * 1024 * 1024
PAGE_SECONDS = 2.0
BUDGET = 2_000  # index entries one step looks at: a few ms of the store's time
HIGHEST = 2**53 - 1


def search(store: Store, application_id: str, query: JobQuery) -> JobPage:
    """One page of jobs. Raises Refusal(INVALID) for a cursor that this service did not make."""
    if query.queue and query.states == (State.WAITING,) and query.order is None and not _narrow(query):
        return _upcoming(store, application_id, query)
    page = JobPage()
    args = _arguments(query)
    until = time.monotonic() + PAGE_SECONDS
    left = PAGE_BYTES
    while True:
        args["limit"], args["bytes"] = query.limit - len(page.jobs), left
        jobs, cursor, _ = store.jobs.search(application_id, args)
        if query.task:  # the queue's own entry stands also for jobs of that queue with another task
            jobs = [job for job in jobs if job.task == query.task]
        page.jobs += jobs
        left -= sum(len(job.data) + len(job.metadata) + len(job.result or b"") for job in jobs)
        if not cursor:
            return page
        if len(page.jobs) >= query.limit or left <= 0 or time.monotonic() > until:
            page.next_cursor = cursor_text(cursor)
            return page
        args["cursor"] = cursor


def _narrow(query: JobQuery) -> bool:
    return bool(query.fields or query.task or query.submitted_after or query.submitted_before)


def _arguments(query: JobQuery) -> dict[str, Any]:
    groups: list[list[bytes]] = []
    letters = "".join(state.letter for state in query.states)
    if query.queue:
        queue = query.queue.encode()
        groups.append([b"s" + letter.encode() + queue + b"\0" for letter in letters or "wdacfx"])
    for name, accepted in query.fields:
        groups.append([b"m" + fields_hash(name, text) for text in accepted])
    if query.task:
        # a task named like its queue has no entry of its own
        own = [b"s" + letter.encode() + query.task.encode() + b"\0" for letter in letters or "wdacfx"]
        groups.append([b"t" + query.task.encode() + b"\0", *own])
    return {
        "groups": groups,
        "states": letters if letters and not query.queue else "",
        "ascending": query.order == "asc",
        "cursor": cursor_raw(query.cursor) if query.cursor else b"",
        "low": (query.submitted_after or 0) * 1024,
        "high": query.submitted_before * 1024 - 1 if query.submitted_before else HIGHEST,
        "budget": BUDGET,
    }


def _upcoming(store: Store, application_id: str, query: JobQuery) -> JobPage:
    """As workers will get them; the cursor is a place in that order, which moves while jobs are taken."""
    assert query.queue is not None
    offset = 0
    if query.cursor:
        raw = cursor_raw(query.cursor)
        offset = int.from_bytes(raw, "big")
    jobs, shown = store.jobs.upcoming(application_id, query.queue, offset, query.limit + 1, PAGE_BYTES)
    page = JobPage(jobs[: query.limit])
    if len(jobs) > query.limit or (shown and len(jobs) < shown):
        page.next_cursor = cursor_text((offset + len(page.jobs)).to_bytes(8, "big"))
    return page


def cursor_text(cursor: bytes) -> str:
    """A place in a list, as callers see it."""
    return base64.urlsafe_b64encode(cursor).decode().rstrip("=")


def cursor_raw(cursor: str) -> bytes:
    """The inverse of ``cursor_text``. Raises Refusal(INVALID) for what this service did not make."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 8 or int.from_bytes(raw, "big") > HIGHEST:
        raise Refusal(
            Code.INVALID,
            "cursor: pass the nextCursor of the page before, unchanged.",
            {"cursor": ["is not a cursor of this service"]},
        )
    return raw
