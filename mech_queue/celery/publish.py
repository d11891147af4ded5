"""Wake-ups over another broker than the store: published after the script that asked for them.

A script cannot reach such a broker, so it counts and answers what to publish. One background thread per
process does it; nobody waits for it, so a broker that is away makes no submit fail. What a process takes
with it when it dies, or a broker loses, is found by the repair: each half second the scheduler's thread
asks the broker about every queue with work and tells the store.
"""

import logging
import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from kombu.connection import Connection

from mech_queue.celery.broker import Broker
from mech_queue.model.errors import Refusal, StoreStopped
from mech_queue.store import Store, wakeups
from mech_queue.store.library import WINDOW

log = logging.getLogger("mech_queue")

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0


@dataclass(slots=True)
class Work:
    """By broker queue: wake-ups to send, arrivals to tell the store, and looks (with their generation) to take."""

    wakeups: Counter[str] = field(default_factory=Counter)
    arrived: Counter[str] = field(default_factory=Counter)
    looks: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.wakeups or self.arrived or self.looks)


class Publisher:
    """Hears what the scripts of ``store`` ask for, from its making on. Safe for threads and forks."""

    def __init__(self, store: Store, connect: Callable[[], Connection]) -> None:
        self._store = store
        self._connect = connect
        self._inherited: list[Broker] = []
        self._begin()
        _publishers.add(self)
        store.scripts.publish = self.publish

    def _begin(self) -> None:
        self._broker = Broker(self._connect)
        self._changed = threading.Condition()
        self._work = Work()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._pause_s = 0.0
        self._out_of_order: set[str] = set()

    def after_fork(self) -> None:
        """In the child: the thread is gone, and the connection is the parent's (kept, since its end would close it)."""
        self._inherited.append(self._broker)
        self._begin()

    def publish(self, asked: list[list[Any]]) -> None:
        """Take what a script answered: (broker queue, wake-ups[, generation: look how many wait]). Returns at once."""
        with self._changed:
            for name, number, *generation in asked:
                if generation:
                    self._work.looks[name.decode()] = int(generation[0])
                else:
                    self._want(name.decode(), int(number))
            self._wake_thread()

    def arrived(self, name: str) -> None:
        """A wake-up of this broker queue has reached this process. Returns at once."""
        with self._changed:
            self._work.arrived[name] += 1
            self._wake_thread()

    def close(self, deadline_s: float = 2.0) -> None:
        """Send what is left, within the time, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(deadline_s)

    def _want(self, name: str, number: int) -> None:
        """More than a window would be useless: the broker being away, nobody takes them."""
        self._work.wakeups[name] = min(self._work.wakeups[name] + number, WINDOW)

    def _wake_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="mech-queue-publish")
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._pause_s:
                    self._changed.wait_for(lambda: self._closing, self._pause_s)
                self._changed.wait_for(lambda: self._work or self._closing)
                work, self._work = self._work, Work()
            if not work or (self._closing and self._pause_s):
                break
            try:
                self._tell_arrivals(work.arrived)
                self._send(work.wakeups)
                self._look(work.looks)
            except Exception as error:
                self._broker.drop()
                self._failed(error)
            else:
                self._pause_s = 0.0
            with self._changed:
                for name, number in work.wakeups.items():  # not sent
                    self._want(name, number)
        self._broker.drop()

    def _tell_arrivals(self, arrived: Counter[str]) -> None:
        for name, number in arrived.items():
            try:
                wakeups.arrived(self._store, name, number)
            except (Refusal, StoreStopped):
                return  # the next look counts anew

    def _send(self, wanted: Counter[str]) -> None:
        """Take off what is done with. Raises when the broker is away, and leaves the rest."""
        try:
            self._broker.publish(wanted)
            wanted.clear()
        except Exception as error:
            log.debug("Wake-ups did not go out together: %r", error)
            self._broker.drop()
        for name, number in list(wanted.items()):
            self._for_itself(name, partial(self._broker.publish, {name: number}))
            del wanted[name]  # where they were refused, the scheduler asks again

    def _look(self, looks: dict[str, int]) -> None:
        for name, generation in looks.items():
            number = self._for_itself(name, partial(self._broker.waiting, name))
            if number is None:
                continue
            try:
                wakeups.waiting(self._store, name, number, generation)
            except (Refusal, StoreStopped):
                return

    def _for_itself(self, name: str, step: Callable[[], T]) -> T | None:
        """One queue's step; a queue that is out of order must not hold up others. Raises when the broker is away."""
        self._broker.open()
        try:
            done = step()
        except Exception as error:
            self._broker.drop()
            if name not in self._out_of_order:
                log.warning("The broker's queue %s is out of order: %r", name, error)
                self._out_of_order.add(name)
            return None
        self._out_of_order.discard(name)
        return done

    def _failed(self, error: Exception) -> None:
        """The broker is away: rest for a while, longer each time. The looks are asked for again anyway."""
        if not self._pause_s:
            log.warning("The broker does not take wake-ups (%r); trying again.", error)
        self._pause_s = min(self._pause_s * 2 or FIRST_PAUSE_S, LONGEST_PAUSE_S)


_publishers: "weakref.WeakSet[Publisher]" = weakref.WeakSet()


def _after_fork() -> None:
    for publisher in list(_publishers):
        publisher.after_fork()


os.register_at_fork(after_in_child=_after_fork)
