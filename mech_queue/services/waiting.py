"""Requests that wait for work or for a job's end. One listener per process wakes them all.

The order that loses nothing: watch first, then look, then wait.

    with waiters.work(application_id, queues) as watch:
        while not (jobs := claim(...)) and watch.wait(seconds_left):
            pass
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mech_queue.model.ids import job_id_bytes
from mech_queue.store import Store
from mech_queue.store.wakes import Wakes

if TYPE_CHECKING:
    from mech_queue.store.greenlets import Event

Place = tuple[str, str, bytes]  # kind, application, queue or job


class Watch:
    """One waiting request. ``wait`` consumes what was called since the last one."""

    def __init__(self, places: list[Place], event: "threading.Event | Event") -> None:
        self.places = places
        self.event = event

    def wait(self, timeout_s: float) -> bool:
        """True: look again. False: the time (seconds) is up. In an event loop it ends when the client hangs up."""
        woken = self.event.wait(max(0.0, timeout_s))
        self.event.clear()
        return woken


class Waiters:
    """The waiting requests of one process, at most ``most`` of them."""

    def __init__(self, store: Store, most: int) -> None:
        self._greenlets = store.greenlets
        self._most = most
        self._lock = threading.Lock()
        self._watches: dict[Place, OrderedDict[Watch, None]] = {}
        self._waiting = 0
        self._wakes = Wakes(store, self._heard, self._everybody)
        self._started = False

    def full(self) -> bool:
        """True: answer at once, empty, with Retry-After."""
        return self._waiting >= self._most

    def enter(self) -> bool:
        """Take a place for a request that waits by itself (a stream); False when all are taken. See ``leave``."""
        with self._lock:
            if self._waiting >= self._most:
                return False
            self._waiting += 1
            return True

    def leave(self) -> None:
        """Give the place of ``enter`` back."""
        with self._lock:
            self._waiting -= 1

    @contextmanager
    def work(self, application_id: str, queues: list[str]) -> Iterator[Watch]:
        """Watch for startable work in one of the queues."""
        with self._watching([("q", application_id, queue.encode()) for queue in queues]) as watch:
            yield watch

    @contextmanager
    def end(self, application_id: str, job_id: str) -> Iterator[Watch]:
        """Watch for the end of a job."""
        with self._watching([("j", application_id, job_id_bytes(job_id) or b"")]) as watch:
            yield watch

    @contextmanager
    def _watching(self, places: list[Place]) -> Iterator[Watch]:
        in_loop = self._greenlets if self._greenlets is not None and self._greenlets.here() else None
        watch = Watch(places, in_loop.event() if in_loop is not None else threading.Event())
        with self._lock:
            if not self._started:  # lazily, so that a process that forks after it was built has its own thread
                self._started = True
                self._wakes.start()
            self._waiting += 1
            for place in places:
                self._watches.setdefault(place, OrderedDict())[watch] = None
        try:
            yield watch
        finally:
            with self._lock:
                self._waiting -= 1
                for place in places:
                    watches = self._watches[place]
                    del watches[watch]
                    if not watches:
                        del self._watches[place]
            if watch.event.is_set():  # called, and left without looking: the next one's turn
                for kind, application_id, name in places:
                    self._heard(kind, application_id, name)

    def _heard(self, kind: str, application_id: str, name: bytes) -> None:
        """Work wakes one: its claim calls again when more is startable. An end wakes all who asked for it."""
        with self._lock:
            watches = self._watches.get((kind, application_id, name))
            if not watches:
                return
            if kind == "j":
                for watch in watches:
                    watch.event.set()
                return
            for watch in watches:
                if not watch.event.is_set():
                    watch.event.set()
                    watches.move_to_end(watch)
                    return

    def _everybody(self) -> None:
        with self._lock:
            for watches in self._watches.values():
                for watch in watches:
                    watch.event.set()

    def close(self) -> None:
        """Wake everybody and stop listening."""
        self._everybody()
        if self._started:
            self._wakes.stop()
