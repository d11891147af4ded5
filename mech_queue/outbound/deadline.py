"""A total deadline over one attempt, whatever its connection is doing.

Timeouts of sockets bound one operation each, so a receiver that drips bytes holds a thread for ever.
Here one thread per process watches all attempts and shuts the socket of an expired one down; the
blocked read or write then ends with an error in the thread that sent.
"""

import heapq
import itertools
import socket
import threading
import time
from contextlib import suppress


class Deadline:
    """The end of one attempt. ``hold`` gives it the socket to shut down; ``finish`` lets go of it."""

    def __init__(self, seconds: float) -> None:
        self.started = time.monotonic()
        self.end = self.started + seconds
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._finished = False
        self._cut = False

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the time was up."""
        return self._cut or self.remaining_s == 0

    @property
    def finished(self) -> bool:
        """Whether nothing is left to watch."""
        return self._finished

    def hold(self, connection: socket.socket) -> None:
        """Watch this connection from now on, through a duplicate that no other code closes or wraps."""
        with self._lock:
            self._let_go()
            if not self._finished:
                self._handle = socket.socket(
                    connection.family, connection.type, connection.proto, socket.dup(connection.fileno())
                )
            if self._cut:
                self._shut_down()

    def cut(self) -> None:
        """End the attempt now: whatever waits on its connection gets an error."""
        with self._lock:
            if not self._finished:
                self._cut = True
                self._shut_down()

    def finish(self) -> None:
        """The attempt is over."""
        with self._lock:
            self._finished = True
            self._let_go()

    def _shut_down(self) -> None:
        if self._handle is not None:
            with suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


class Watchdog:
    """The thread that cuts what is late. It starts with the first attempt and again after a fork."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, Deadline]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def watch(self, seconds: float) -> Deadline:
        """A deadline that will be cut ``seconds`` from now unless it is finished before."""
        deadline = Deadline(seconds)
        with self._condition:
            heapq.heappush(self._heap, (deadline.end, next(self._numbers), deadline))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="webhook-watchdog", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is deadline:
                self._condition.notify()
        return deadline

    def _run(self) -> None:
        while True:
            with self._condition:
                while self._heap and self._heap[0][2].finished:
                    heapq.heappop(self._heap)
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is None or wait > 0:
                    self._condition.wait(wait)
                    continue
                late = heapq.heappop(self._heap)[2]
            late.cut()
