"""Script calls of many threads over two connections: what comes while a call is under way goes together.

A round trip costs the store and the process more in system calls and changes of threads than the script inside it.
So a thread that finds the line free leads it: it sends its command together with all that wait, reads their answers
and hands them out. A thread alone pays nothing for this; 32 at once share a few round trips. The commands of a
round run in their order, each atomic by itself, as over connections of their own.
"""

import threading
from collections import deque
from typing import Any

import redis

from mech_queue.store.wire import Wire, pack

MOST_TOGETHER = 64  # calls of one round
LINES = 2  # while the answers of one are handed out, the store works for the other


class _Call:
    """One command under way. Its thread sleeps on ``done``, and then has its outcome or must lead."""

    __slots__ = ("answer", "done", "error", "leads", "packed")

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self.done = threading.Lock()
        self.done.acquire()
        self.leads = False
        self.answer: Any = None
        self.error: Exception | None = None


class SharedLines:
    """What ``Lines`` does, for a process with many threads that neither forks nor is interrupted by signals."""

    def __init__(self, client: "redis.Redis") -> None:
        self._lines = [SharedLine(client) for _ in range(LINES)]

    def call(self, *command: Any) -> Any:
        """Send one command and read its answer; raises what redis-py raises, repeats nothing."""
        return min(self._lines, key=SharedLine.load).call(*command)

    def close(self) -> None:
        """Close the connections; the next calls open others. Only while no call is under way."""
        for line in self._lines:
            line.close()


class SharedLine:
    """One connection, led by one thread at a time."""

    def __init__(self, client: "redis.Redis") -> None:
        self._pool: Any = client.connection_pool
        self._waiting: deque[_Call] = deque()
        self._led = threading.Lock()
        self._wire: Wire | None = None

    def load(self) -> int:
        """How much stands before a call made now."""
        return len(self._waiting) + self._led.locked()

    def call(self, *command: Any) -> Any:
        """Run one command, together with others that wait."""
        call = _Call(pack(*command))
        self._waiting.append(call)
        if self._led.acquire(blocking=False):
            self._lead()
        call.done.acquire()
        if call.leads:
            self._lead()
        if call.error is not None:
            raise type(call.error)(*call.error.args) from call.error  # one of its own for each thread
        if isinstance(call.answer, redis.exceptions.ResponseError):
            raise call.answer
        return call.answer

    def close(self) -> None:
        """Close the connection; the next call opens another. Only while no call is under way."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _lead(self) -> None:
        """Run one round, then pass the lead to the first of those who wait."""
        while True:
            together = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
            if together:
                self._round(together)
            if self._waiting:
                following = self._waiting[0]
                following.leads = True
                following.done.release()
                return
            self._led.release()
            # whoever came between the look and the release found the line led and sleeps: look again
            if not self._waiting or not self._led.acquire(blocking=False):
                return

    def _round(self, together: list[_Call]) -> None:
        answered = 0
        try:
            if self._wire is not None and self._wire.ended():
                self.close()
            if self._wire is None:
                self._wire = Wire(self._pool)
            self._wire.send(b"".join([call.packed for call in together]))
            for call in together:
                call.answer = self._wire.answer()
                answered += 1
        except Exception as error:
            self.close()
            for call in together[answered:]:
                call.error = error
        finally:
            for call in together:
                call.done.release()
