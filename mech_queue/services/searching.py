"""Lists of jobs: filters become index prefixes, bounded steps become one full page."""

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import JobRecord, State
from mech_queue.model.metadata import fields_hash
from mech_queue.model.query import JobPage, JobQuery
from mech_queue.store import Store

PAGE_BYTES = 8 * 1024 * 1024
PAGE_SECONDS = 2.0
BUDGET = 2_000  # index entries one step looks at: a few ms of the store's time
VIEWS = 100  # jobs that one step shows, likewise
HIGHEST = 2**53 - 1
BY_AGE = (2**32).to_bytes(8, "big")  # from this cursor of job_next.lua on, a cursor of job_search.lua


def search(store: Store, application_id: str, query: JobQuery) -> JobPage:
    """One page of jobs. Raises Refusal(INVALID) for a cursor that this service did not make."""
    if query.queue and query.states == (State.WAITING,) and query.order is None and not _narrow(query):
        return _upcoming(store, application_id, query)
    args = _arguments(query)
    return _page(query, args.pop("cursor"), lambda more: store.jobs.search(application_id, {**args, **more}))


def _page(query: JobQuery, cursor: bytes, step: Callable[[dict[str, Any]], tuple[list[JobRecord], bytes]]) -> JobPage:
    """Take steps (of ``cursor``, ``limit``, ``bytes``) until the page is full."""
    page, shown = JobPage(), set[str]()
    until = time.monotonic() + PAGE_SECONDS
    left = PAGE_BYTES
    while True:
        jobs, cursor = step({"cursor": cursor, "limit": min(VIEWS, query.limit - len(page.jobs)), "bytes": left})
        page.jobs += [job for job in jobs if job.id not in shown]
        shown.update(job.id for job in jobs)
        left -= sum(len(job.data) + len(job.metadata) + len(job.result or b"") for job in jobs)
        if not cursor:
            return page
        if len(page.jobs) >= query.limit or left <= 0 or time.monotonic() > until:
            page.next_cursor = cursor_text(cursor)
            return page


def search_ids(store: Store, application_id: str, query: JobQuery) -> tuple[list[str], str | None]:
    """The ids of at most ``query.limit`` jobs, and the cursor to go on from (None: these were the last).

    One bounded step, so there may be fewer, or none, also when others follow.
    """
    args = {**_arguments(query), "limit": query.limit, "bytes": PAGE_BYTES}
    found, cursor = store.jobs.search_ids(application_id, args)
    return found, cursor_text(cursor) if cursor else None


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
    args: dict[str, Any] = {
        "groups": groups,
        "states": letters if letters and not query.queue else "",
        "ascending": query.order == "asc",
        "cursor": cursor_raw(query.cursor) if query.cursor is not None else b"",
        "low": (query.submitted_after or 0) * 1024,
        "high": query.submitted_before * 1024 - 1 if query.submitted_before else HIGHEST,
        "budget": BUDGET,
    }
    if query.task:
        args["task"] = query.task
    return args


def _upcoming(store: Store, application_id: str, query: JobQuery) -> JobPage:
    """As workers will get them. Where turns of keys cannot be foretold any further, all of them follow by age."""
    by_age = _arguments(replace(query, order="asc", cursor=None))

    def step(more: dict[str, Any]) -> tuple[list[JobRecord], bytes]:
        cursor = more["cursor"]
        if len(cursor) == 8 and cursor >= BY_AGE:
            return store.jobs.search(application_id, {**by_age, **more})
        return store.jobs.upcoming(application_id, {"queue": query.queue, **more})

    return _page(query, cursor_raw(query.cursor, (8, 16)) if query.cursor is not None else b"", step)


def cursor_text(cursor: bytes) -> str:
    """A place in a list, as callers see it."""
    return base64.urlsafe_b64encode(cursor).decode().rstrip("=")


def cursor_raw(cursor: str, lengths: tuple[int, ...] = (8,)) -> bytes:
    """The inverse of ``cursor_text``. Raises Refusal(INVALID) for what this service did not make."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if len(raw) not in lengths or int.from_bytes(raw[:8], "big") > HIGHEST:
        raise Refusal(
            Code.INVALID,
            "cursor: pass the nextCursor of the page before, unchanged.",
            {"cursor": ["is not a cursor of this service"]},
        )
    return raw
