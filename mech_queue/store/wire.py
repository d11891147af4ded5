"""One connection to the store, opened by redis-py (TLS, login, database) and then spoken on directly.

redis-py's own path costs more than the script's round trip: it asks with poll() before each send and each
receive, and wraps each answer. Here the kernel keeps the time limits and hiredis reads.
"""

import select
import socket
import ssl
import struct
from typing import Any

import hiredis
import redis

_NOTHING_YET = object()


class FunctionMissing(redis.exceptions.ResponseError):
    """The server was not given that function, or lost it."""


class Wire:
    """An open connection. Everything that goes wrong on it is raised in redis-py's kinds; then it must be closed."""

    def __init__(self, pool: Any) -> None:
        """Open one with the settings of redis-py's ``pool``."""
        self._connection = pool.connection_class(**pool.connection_kwargs)
        self._connection.connect()
        self.socket: Any = self._connection._sock
        self._reader = hiredis.Reader(replyError=redis.exceptions.ResponseError, notEnoughData=_NOTHING_YET)
        self.demoted = False  # the server said that it is a replica
        self.patience_s = self.socket.gettimeout()

    @property
    def patience_s(self) -> float | None:
        """How long one send or receive may take, in seconds; None: for ever."""
        return self._patience_s

    @patience_s.setter
    def patience_s(self, seconds: float | None) -> None:
        self._patience_s = seconds
        if type(self.socket).__module__ != "socket":  # those of ssl and gevent keep the time themselves
            self.socket.settimeout(seconds)
            return
        limit = struct.pack("ll", int(seconds or 0), int((seconds or 0) % 1 * 1e6))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self.socket.settimeout(None)

    def send(self, packed: bytes) -> None:
        """Send commands, packed by ``pack``."""
        try:
            self.socket.sendall(packed)
        except OSError as error:
            raise _of_redis(error) from error

    def answer(self) -> Any:
        """The next answer. An error that the store answered is returned, not raised."""
        while True:
            answer = self._reader.gets()
            if answer is not _NOTHING_YET:
                return self._of_its_kind(answer) if isinstance(answer, redis.exceptions.ResponseError) else answer
            try:
                data = self.socket.recv(65536)
            except OSError as error:
                raise _of_redis(error) from error
            if not data:
                raise redis.exceptions.ConnectionError("closed by the server")
            self._reader.feed(data)

    def received(self) -> list[Any]:
        """The answers that have come, of a socket that does not block; raises its own error when nothing has."""
        try:
            data = self.socket.recv(65536)
            while more := getattr(self.socket, "pending", int)():  # bytes that TLS holds back call no loop
                data += self.socket.recv(more)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as error:
            raise _of_redis(error) from error
        if not data:
            raise redis.exceptions.ConnectionError("closed by the server")
        self._reader.feed(data)
        answers = []
        while (answer := self._reader.gets()) is not _NOTHING_YET:
            answers.append(self._of_its_kind(answer) if isinstance(answer, redis.exceptions.ResponseError) else answer)
        return answers

    def ended(self) -> bool:
        """Whether it is of no more use: the server has closed it, or is the primary no longer.

        Only while no answer is due: then nothing else can come.
        """
        if self.demoted:
            return True
        poll = select.poll()  # select() knows no descriptor above 1,023
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close it."""
        self._connection.disconnect()

    def _of_its_kind(self, answer: redis.exceptions.ResponseError) -> redis.exceptions.ResponseError:
        """The kinds that are told by their class; the others are told by their text."""
        code, _, rest = str(answer).partition(" ")
        if rest == "Function not found":
            return FunctionMissing(rest)
        if code == "OOM":
            return redis.exceptions.OutOfMemoryError(str(answer))
        if code == "MOVED":
            return redis.exceptions.MovedError(rest)
        if code == "READONLY":
            self.demoted = True
            return redis.exceptions.ReadOnlyError(rest)
        return answer


def pack(*command: Any) -> bytes:
    """One command as the store reads it."""
    packed: bytes = hiredis.pack_command(command)
    return packed


def _of_redis(error: OSError) -> redis.exceptions.RedisError:
    late = isinstance(error, TimeoutError | BlockingIOError)
    return (redis.exceptions.TimeoutError if late else redis.exceptions.ConnectionError)(str(error))
