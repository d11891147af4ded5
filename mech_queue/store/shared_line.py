"""Script calls of many threads over one connection: what comes while a call is under way goes together.

A round trip costs the store and the process more in system calls and changes of threads than the script inside it.
So a thread that finds the line free leads it: it sends its command together with all that wait, reads their answers
and hands them out. A thread alone pays nothing for this; 32 at once share a few round trips. The commands of a
round run in their order, each atomic by itself, as over connections of their own.
"""

import select
import socket
import struct
import threading
from collections import deque
from typing import Any

import hiredis
import redis

MOST_TOGETHER = 64  # calls of one round
_NOTHING_YET = object()


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


class SharedLine:
    """What ``Lines`` does, for a process with many threads that neither forks nor is interrupted by signals."""

    def __init__(self, client: "redis.Redis") -> None:
        self._pool: Any = client.connection_pool
        self._waiting: deque[_Call] = deque()
        self._led = threading.Lock()
        self._connection: Any = None
        self._socket: Any = None
        self._reader: Any = None

    def call(self, *command: Any) -> Any:
        """Send one command and read its answer; raises what redis-py raises, repeats nothing."""
        call = _Call(hiredis.pack_command(command))
        self._waiting.append(call)
        if self._led.acquire(blocking=False):
            self._lead()
        call.done.acquire()
        if call.leads:
            self._lead()
        if call.error is not None:
            raise call.error
        return call.answer

    def close(self) -> None:
        """Close the connection; the next call opens another. Only while no call is under way."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

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
            self._be_connected()
            self._socket.sendall(b"".join([call.packed for call in together]))
            for call in together:
                answer = self._next_answer()
                if isinstance(answer, redis.exceptions.ResponseError):
                    call.error = _of_its_kind(answer)
                else:
                    call.answer = answer
                answered += 1
        except Exception as error:
            self.close()
            for call in together[answered:]:
                call.error = _translated(error)
        finally:
            for call in together:
                call.done.release()

    def _be_connected(self) -> None:
        if self._connection is not None and _readable(self._socket):  # its end: nothing else can come now
            self.close()
        if self._connection is None:
            self._connect()

    def _connect(self) -> None:
        connection = self._pool.connection_class(**self._pool.connection_kwargs)
        connection.connect()  # TLS, login and database as the client does them
        self._connection, self._socket = connection, connection._sock
        self._reader = hiredis.Reader(replyError=redis.exceptions.ResponseError, notEnoughData=_NOTHING_YET)
        seconds = self._socket.gettimeout()
        if type(self._socket) is socket.socket and seconds:
            # the kernel keeps the time: Python's own timeout asks with poll() before each send and receive
            limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.settimeout(None)

    def _next_answer(self) -> Any:
        while True:
            answer = self._reader.gets()
            if answer is not _NOTHING_YET:
                return answer
            data = self._socket.recv(65536)
            if not data:
                raise redis.exceptions.ConnectionError("closed by the server")
            self._reader.feed(data)


def _readable(waiting: socket.socket) -> bool:
    poll = select.poll()  # select() knows no descriptor above 1,023
    poll.register(waiting, select.POLLIN)
    return bool(poll.poll(0))


def _of_its_kind(answer: redis.exceptions.ResponseError) -> redis.exceptions.ResponseError:
    """The one kind of redis-py's that ``Scripts`` tells by class; the others tell by their text."""
    return redis.exceptions.NoScriptError(str(answer)) if str(answer).startswith("NOSCRIPT") else answer


def _translated(error: Exception) -> Exception:
    """An exception of its own for each call, of redis-py's kinds."""
    if isinstance(error, TimeoutError | BlockingIOError | redis.exceptions.TimeoutError):
        return redis.exceptions.TimeoutError(str(error))
    if isinstance(error, OSError | redis.exceptions.ConnectionError):
        return redis.exceptions.ConnectionError(str(error))
    return error
