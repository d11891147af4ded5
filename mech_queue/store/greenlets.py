"""Many requests in one thread: each runs in a greenlet and gives way to the event loop while it waits.

The code of a request stays plain: it calls the store and waits as it would in a thread of its own. But no thread has
to be woken, and none asks for the interpreter's lock, for what takes microseconds (ADR 0008). What would hold up all
others goes through ``aside``. No lock may be held while a request gives way.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, cast

from greenlet import GreenletExit, getcurrent, greenlet

T = TypeVar("T")

MOST_IDLE = 64  # greenlets kept for requests to come


class Greenlets:
    """The requests of one event loop. Made in the loop's thread, outside of any request; ``threads`` do what blocks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: Executor) -> None:
        self.loop = loop
        self._threads = threads
        self._main = getcurrent()
        self._idle: list[_Request] = []

    def run(
        self, function: Callable[..., T], *args: Any, waits: "Callable[[Event], None] | None" = None
    ) -> "asyncio.Future[T]":
        """Run a request up to its first pause; the future has its outcome. Only from the loop's thread.

        ``waits`` hears of an event that the request is going to wait for, so that it can be told to ``give_up``.
        """
        done = self.loop.create_future()
        request = self._idle.pop() if self._idle else _Request(self._serve, self._main)
        request.waits = waits
        request.switch(done, function, args)
        return done

    def _serve(self, *task: Any) -> None:
        """Run one request after the other: a new greenlet costs the kernel a mapping, an idle one nothing."""
        request = cast(_Request, getcurrent())
        while True:
            done, function, args = task
            try:
                outcome = function(*args)
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(outcome)
            if len(self._idle) >= MOST_IDLE:
                return
            self._idle.append(request)
            task = self._main.switch()

    def here(self) -> bool:
        """Whether this code runs in a request of this loop."""
        return getcurrent().parent is self._main

    def pause(self) -> Any:
        """Give way until somebody switches to the request; what it was given by that. Only in a request."""
        return self._main.switch()

    def aside(self, function: Callable[..., T], *args: Any) -> T:
        """Call what blocks: from a request in a thread, giving way meanwhile; from elsewhere right here."""
        if not self.here():
            return function(*args)
        request = getcurrent()
        called = self.loop.run_in_executor(self._threads, function, *args)
        called.add_done_callback(lambda _: request.switch())
        self.pause()
        return called.result()

    def event(self) -> "Event":
        """An event that the current request can wait for."""
        event = Event(self)
        waits = cast(_Request, getcurrent()).waits
        if waits is not None:
            waits(event)
        return event


class _Request(greenlet):
    waits: "Callable[[Event], None] | None" = None


class Event:
    """What ``threading.Event`` is to a thread, for the request that made it. ``set`` may come from any thread."""

    def __init__(self, greenlets: Greenlets) -> None:
        self._greenlets = greenlets
        self._request = getcurrent()
        self._set = False
        self._given_up = False
        self._paused = False

    def is_set(self) -> bool:
        """Whether it was set since it was cleared."""
        return self._set

    def set(self) -> None:
        """Wake the request."""
        self._set = True
        self._greenlets.loop.call_soon_threadsafe(self._wake)

    def clear(self) -> None:
        """From now on ``wait`` waits again."""
        self._set = False

    def wait(self, timeout_s: float) -> bool:
        """Give way until it is set, True, or the time (seconds) is up, False. Raises GreenletExit after ``give_up``."""
        if not self._set and not self._given_up:
            self._paused = True
            timer = self._greenlets.loop.call_later(timeout_s, self._wake)
            self._greenlets.pause()
            timer.cancel()
        if self._given_up:
            raise GreenletExit
        return self._set

    def give_up(self) -> None:
        """End the waiting, as nobody wants its outcome any more. Only from the loop's thread."""
        self._given_up = True
        self._wake()

    def _wake(self) -> None:
        if self._paused:
            self._paused = False
            self._request.switch()
