"""Connections that only reach allowed addresses: every answer of the resolver is judged.

The judgement happens where the socket opens, not before the request, so a name that resolves to
something else a moment later gains nothing. The pool stays keyed by host name: SNI, certificate
check and the Host header are those of the name.
"""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from mech_queue.model.address import AddressPolicy
from mech_queue.model.delivery import ErrorCode
from mech_queue.model.endpoint import is_literal
from mech_queue.outbound.deadline import Deadline

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
Resolver = Callable[[str, int], Sequence[AddressInfo]]

QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Acknowledge at once; Linux only, and until the next packet or so."""

MAX_LOOKUPS = 64
"""Lookups at a time: one that hangs keeps its thread until the system's resolver gives up."""


class Unreachable(Exception):
    """No connection was made. The sentence names no address: it is shown to the receiver's owner."""

    def __init__(self, code: ErrorCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def system_resolver(host: str, port: int) -> Sequence[AddressInfo]:
    """The machine's own resolver."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Guard:
    """Opens connections for a sender. ``connect_s`` bounds the attempts to all addresses of a host.

    ``proxy``: host and port of a proxy, the one place that may lie anywhere: it judges addresses instead.
    """

    def __init__(
        self, policy: AddressPolicy, resolver: Resolver, connect_s: float, proxy: tuple[str, int] | None = None
    ) -> None:
        self.policy = policy
        self.proxy = proxy
        self.connect_s = connect_s
        self._resolver = resolver
        self._lookups = threading.BoundedSemaphore(MAX_LOOKUPS)

    def open(self, host: str, port: int, deadline: Deadline) -> socket.socket:
        """A connected socket, or Unreachable."""
        addresses = self._vetted(host, port, deadline)
        end = time.monotonic() + min(self.connect_s, deadline.remaining_s)
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            share = (end - time.monotonic()) / (len(addresses) - index)  # a dead first one leaves time
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(max(0.001, share))
                connection.connect(address)
                if not self._allows(host, port, str(connection.getpeername()[0])):
                    raise _blocked()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                deadline.hold(connection)
            except TimeoutError:
                connection.close()
                problem = Unreachable(ErrorCode.TIMEOUT, "The receiver did not accept the connection in time.")
            except OSError:
                connection.close()
                problem = Unreachable(ErrorCode.CONNECT, "The receiver refused the connection.")
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise problem

    def _vetted(self, host: str, port: int, deadline: Deadline) -> Sequence[AddressInfo]:
        found = self._look_up(host, port, deadline)
        if not found:
            raise Unreachable(ErrorCode.DNS, "The receiver's host name has no address.")
        if not all(self._allows(host, port, str(one[4][0])) for one in found):
            raise _blocked()
        return found

    def judge(self, host: str) -> None:
        """Refuse a host that is written as a forbidden address, whoever would connect to it."""
        if is_literal(host) and not self.policy.allows(host):
            raise _blocked()

    def _allows(self, host: str, port: int, address: str) -> bool:
        return (host, port) == self.proxy or self.policy.allows(address)

    def _look_up(self, host: str, port: int, deadline: Deadline) -> Sequence[AddressInfo]:
        """Resolve in a thread of its own, because getaddrinfo knows no timeout."""
        answer: list[Sequence[AddressInfo]] = []
        done = threading.Event()

        def look_up() -> None:
            try:
                with contextlib.suppress(OSError, UnicodeError):
                    answer.append(self._resolver(host, port))
            finally:
                self._lookups.release()
                done.set()

        with contextlib.suppress(ValueError, OSError):
            return socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            )
        if not self._lookups.acquire(timeout=deadline.remaining_s):
            raise Unreachable(ErrorCode.DNS, "Too many name lookups hang at the moment.")
        threading.Thread(target=look_up, name="webhook-lookup", daemon=True).start()
        if not done.wait(deadline.remaining_s):
            raise Unreachable(ErrorCode.TIMEOUT, "The receiver's host name could not be resolved in time.")
        if not answer:
            raise Unreachable(ErrorCode.DNS, "The receiver's host name could not be resolved.")
        return answer[0]


def _blocked() -> Unreachable:
    return Unreachable(ErrorCode.BLOCKED, "The receiver's host leads to a private or reserved address.")


_local = threading.local()


class Attempt:
    """What the connections of one attempt need: guard and deadline; and what they learn."""

    def __init__(self, guard: Guard, deadline: Deadline) -> None:
        self.guard = guard
        self.deadline = deadline
        self.reused = False


@contextlib.contextmanager
def attempt_of_this_thread(attempt: Attempt) -> Iterator[None]:
    """Connections that this thread opens or uses belong to ``attempt``."""
    _local.attempt = attempt
    try:
        yield
    finally:
        _local.attempt = None
        attempt.deadline.finish()


def _attempt() -> Attempt:
    attempt: Attempt | None = getattr(_local, "attempt", None)
    if attempt is None:
        raise RuntimeError("a guarded connection is used outside of an attempt")
    return attempt


class _Response(http.client.HTTPResponse):
    """Reads on behind answers that only inform (102 to 199), where http.client knows only 100."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, 100 if 102 <= status <= 199 else status, reason


class _Guarded:
    """Opens through the guard, and shows every connection in use to the deadline."""

    response_class: Any = _Response
    _served = False

    def _new_conn(self) -> socket.socket:
        attempt = _attempt()
        return attempt.guard.open(self._dns_host, self.port, attempt.deadline)  # type: ignore[attr-defined]

    def request(self, *args: Any, **kwargs: Any) -> None:
        attempt = _attempt()
        connection = self.sock  # type: ignore[attr-defined]
        if connection is not None:
            attempt.reused = self._served
            attempt.deadline.hold(connection)
        self._served = True
        super().request(*args, **kwargs)  # type: ignore[misc]
        if QUICKACK is not None:  # a receiver that sends head and body apart would wait 40 ms for our delayed ACK
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._served = False
        super().close()  # type: ignore[misc]


class GuardedHTTPConnection(_Guarded, HTTPConnection):
    """HTTP."""


class GuardedHTTPSConnection(_Guarded, HTTPSConnection):
    """HTTPS: the handshake is inside the deadline too."""


class GuardedHTTPPool(HTTPConnectionPool):
    """Pool of guarded connections."""

    ConnectionCls = GuardedHTTPConnection


class GuardedHTTPSPool(HTTPSConnectionPool):
    """Pool of guarded connections."""

    ConnectionCls = GuardedHTTPSConnection


POOLS = {"http": GuardedHTTPPool, "https": GuardedHTTPSPool}
