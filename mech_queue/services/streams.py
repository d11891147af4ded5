"""The event log of an application, followed live by any number of readers.

A reader pulls from the store at its own pace, so a slow one holds neither memory nor others up. One
thread per process looks whether the logs that have readers have grown.
"""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mech_queue.model import strict_json
from mech_queue.model.errors import Refusal
from mech_queue.model.event import mask
from mech_queue.model.job import JobRecord
from mech_queue.model.metadata import fields_of
from mech_queue.store import Store
from mech_queue.store.events import PendingEvent

LOOK_S = 0.1
AWAY_S = 1.0  # between two tries while the store is away
QUIET_S = 15.0  # a comment is sent after so much silence, so that proxies keep the connection
PAGE = 100
KEPT_MS = 86_400_000
_ID = re.compile(r"^\d{1,15}-\d{1,10}$")


@dataclass(frozen=True, slots=True)
class Streamed:
    """One event for a reader; ``event`` None: the log lacks what came before (a gap)."""

    id: str
    event: PendingEvent | None
    queue: str = ""
    metadata: bytes = b"{}"


@dataclass(frozen=True, slots=True)
class Filter:
    """What a reader wants to hear of. ``queues``: empty means all.

    ``fields``: (name, canonical texts of which its value may be any) pairs as for searches (``metadata.accepted``).
    """

    events: tuple[str, ...] = ("*",)
    queues: tuple[str, ...] = ()
    fields: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def wants(self, job: JobRecord) -> bool:
        """Whether the reader wants the events of this job that have the right type."""
        if self.queues and job.queue not in self.queues:
            return False
        known = dict(fields_of(strict_json.load(job.metadata))) if self.fields else {}
        return all(known.get(name) in texts for name, texts in self.fields)


class Streams:
    """The followed logs of one process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._readers: dict[str, int] = {}
        self._last: dict[str, str] = {}
        self._running = False

    def follow(self, application_id: str, filters: Filter, last_id: str | None) -> Iterator[Streamed | None]:
        """Matching events from behind ``last_id`` (None: from now on); None now and then: still there, nothing new."""
        with self._reading(application_id):
            place = self._store.events.last_ids([application_id])[0]
            if last_id is not None:
                place = last_id
                if self._lost(application_id, last_id):
                    yield Streamed(last_id, None)
            spoken, grown = time.monotonic(), True
            while True:
                page, found = [], []
                try:
                    if grown:  # else an idle reader costs the store nothing
                        page = self._store.events.read(application_id, place, PAGE)
                        found = self._matching(application_id, page, filters)
                except Refusal:  # the store is away: the reader stays, and goes on from its place
                    page, found = [], []
                    time.sleep(AWAY_S)
                if page:
                    place = page[-1][0]
                for one in found:
                    spoken = time.monotonic()
                    yield one
                if time.monotonic() - spoken >= QUIET_S:
                    spoken = time.monotonic()
                    yield None
                if len(page) < PAGE:
                    grown = self._wait(application_id, place)

    def _lost(self, application_id: str, last_id: str) -> bool:
        if last_id == "0-0":  # everything is wanted
            return False
        first, wanted = _number(self._store.events.first_id(application_id)), _number(last_id)
        return wanted < first or wanted[0] < self._store.now_ms() - KEPT_MS

    def _matching(self, application_id: str, page: list[tuple[str, PendingEvent]], filters: Filter) -> list[Streamed]:
        bits = mask(list(filters.events))
        wanted = [(entry, event) for entry, event in page if bits & event.type.bit]
        if not wanted:
            return []
        ids = list(dict.fromkeys(event.job_id for _, event in wanted))
        jobs = dict(zip(ids, self._store.jobs.get_many(application_id, ids), strict=True))
        found = []
        for entry, event in wanted:
            job = jobs[event.job_id]
            if job is not None and filters.wants(job):
                found.append(Streamed(entry, event, job.queue, job.metadata))
        return found

    @contextmanager
    def _reading(self, application_id: str) -> Iterator[None]:
        with self._changed:
            self._readers[application_id] = self._readers.get(application_id, 0) + 1
            if not self._running:
                self._running = True
                threading.Thread(target=self._look, name="event-log", daemon=True).start()
        try:
            yield
        finally:
            with self._changed:
                self._readers[application_id] -= 1
                if not self._readers[application_id]:
                    del self._readers[application_id]
                    self._last.pop(application_id, None)

    def _wait(self, application_id: str, place: str) -> bool:
        """Until the log has grown beyond ``place``, a second at most (so that a closed connection is noticed)."""
        with self._changed:
            return self._changed.wait_for(
                lambda: _number(self._last.get(application_id, "0-0")) > _number(place), timeout=1.0
            )

    def _look(self) -> None:
        while True:
            with self._changed:
                followed = list(self._readers)
                if not followed:
                    self._running = False
                    return
            try:
                last = dict(zip(followed, self._store.events.last_ids(followed), strict=True))
            except Refusal:
                last = {}
            with self._changed:
                if any(self._last.get(application_id) != entry for application_id, entry in last.items()):
                    self._last.update(last)
                    self._changed.notify_all()
            time.sleep(LOOK_S)


def is_id(text: str) -> bool:
    """Whether this can be a Last-Event-ID of ours."""
    return _ID.match(text) is not None


def _number(entry: str) -> tuple[int, int]:
    ms, _, counter = entry.partition("-")
    return int(ms), int(counter)
