"""Script calls of all requests of an event loop over one connection: what comes at one turn of the loop goes together.

The loop neither sleeps in a system call per request nor changes threads for it; the store gets many commands with one
read and answers them with one write. They run in their order, each atomic by itself, as over connections of their own.
"""

import asyncio
import ssl
from collections import deque
from typing import Any, NamedTuple

import redis
from greenlet import getcurrent, greenlet

from mech_queue.store.connection import Lines
from mech_queue.store.greenlets import Greenlets
from mech_queue.store.wire import Wire, pack

_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Call(NamedTuple):
    """One command under way and the request that waits for its answer."""

    request: greenlet
    since: float


class LoopLine:
    """What ``Lines`` does, for the requests of an event loop; calls from elsewhere go over ``Lines``."""

    def __init__(self, client: "redis.Redis", greenlets: Greenlets, elsewhere: Lines) -> None:
        self._pool: Any = client.connection_pool
        self._greenlets = greenlets
        self._loop = greenlets.loop
        self._elsewhere = elsewhere
        self._wire: Wire | None = None
        self._opening: asyncio.Future[Wire] | None = None
        self._unanswered: deque[_Call] = deque()
        self._unsent: list[bytes] = []
        self._flush_planned = False
        self._watch: asyncio.TimerHandle | None = None

    def call(self, *command: Any) -> Any:
        """Send one command and read its answer; raises what redis-py raises, repeats nothing."""
        if not self._greenlets.here():
            return self._elsewhere.call(*command)
        self._unanswered.append(_Call(getcurrent(), self._loop.time()))
        self._unsent.append(pack(*command))
        self._plan_flush()
        answer = self._greenlets.pause()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def call_alone(self, *command: Any) -> Any:
        """As ``call``, on a connection of its own: nobody waits for the transfer of a large answer."""
        return self._greenlets.aside(self._elsewhere.call, *command)

    def close(self) -> None:
        """Close the connections; whoever still waits for an answer gets an error."""
        self._fail(redis.exceptions.ConnectionError("closed"))
        self._elsewhere.close()

    # -- sending -----------------------------------------------------------------------------

    def _plan_flush(self) -> None:
        if self._flush_planned:
            return
        self._flush_planned = True
        if self._wire is not None:
            self._loop.call_soon(self._flush)
        elif self._opening is None:
            self._open()

    def _open(self) -> None:
        self._opening = self._loop.run_in_executor(None, Wire, self._pool)
        self._opening.add_done_callback(self._opened)

    def _opened(self, opening: "asyncio.Future[Wire]") -> None:
        self._opening = None
        error = opening.exception()
        if error is not None:
            self._fail(error)
            return
        self._wire = opening.result()
        self._wire.socket.setblocking(False)
        self._loop.add_reader(self._wire.socket, self._readable)
        self._watch = self._loop.call_later(self._wire.patience_s or 1.0, self._look)
        self._send()

    def _flush(self) -> None:
        if self._wire is None:
            return
        if len(self._unanswered) == len(self._unsent) and self._wire.ended():  # idle until now: closed meanwhile
            self._drop()
            self._open()
            return
        self._send()

    def _send(self) -> None:
        assert self._wire is not None
        self._flush_planned = False
        together = b"".join(self._unsent)
        self._unsent.clear()
        try:
            sent = self._wire.socket.send(together)
        except _LATER:
            sent = 0
        except OSError as error:
            self._fail(redis.exceptions.ConnectionError(str(error)))
            return
        if sent < len(together):  # the store reads slowly; go on when it has
            self._unsent.append(together[sent:])
            self._flush_planned = True
            self._loop.add_writer(self._wire.socket, self._writable)

    def _writable(self) -> None:
        if self._wire is not None:
            self._loop.remove_writer(self._wire.socket)
            self._send()

    # -- receiving ---------------------------------------------------------------------------

    def _readable(self) -> None:
        wire = self._wire
        assert wire is not None
        try:
            answers = wire.received()
        except _LATER:
            return
        except redis.exceptions.RedisError as error:
            self._fail(error)
            return
        calls = [self._unanswered.popleft() for _ in answers]
        if wire.demoted:  # whoever asks again, and those behind it, must not get this connection
            self._fail(redis.exceptions.ReadOnlyError("the server is a replica now"))
        for call, answer in zip(calls, answers, strict=True):
            call.request.switch(answer)

    def _look(self) -> None:
        """The oldest call must not wait longer than the patience of the connection."""
        if self._wire is None:
            return
        patience_s = self._wire.patience_s or 1.0
        left_s = patience_s
        if self._unanswered:
            left_s = self._unanswered[0].since + patience_s - self._loop.time()
            if left_s <= 0:
                self._fail(redis.exceptions.TimeoutError("no answer in time"))
                return
        self._watch = self._loop.call_later(left_s, self._look)

    def _fail(self, error: BaseException) -> None:
        """Close, and tell everybody who waits; the next call opens another connection."""
        self._drop()
        waiting, self._unanswered = self._unanswered, deque()
        self._unsent.clear()
        self._flush_planned = False
        for call in waiting:
            call.request.switch(_own(error))

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            self._loop.remove_reader(wire.socket)
            self._loop.remove_writer(wire.socket)
            wire.close()
        if self._watch is not None:
            self._watch.cancel()


def _own(error: BaseException) -> Exception:
    """One for each request, as tracebacks are kept in it."""
    kind = type(error) if isinstance(error, redis.exceptions.RedisError) else redis.exceptions.ConnectionError
    return kind(*error.args)
