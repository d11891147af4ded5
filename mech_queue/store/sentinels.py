"""The primary that Sentinels name: asked for each new connection, and twice a second for those that are open.

A primary that the Sentinels gave up (it hung for a moment, or a link did) is not told for ten seconds or more. So long,
while a replica follows it still, it takes writes that are thrown away in the end. Nobody here waits for that.
"""

import contextlib
import os
import socket
import threading
from typing import Any
from weakref import WeakSet

import redis

from mech_queue.store.nodes import OneServer

LOOK_EVERY_S = 0.5


class NamedPrimary(OneServer):
    """One server, whichever the Sentinels name now; connections to any other are closed."""

    def __init__(self, client: "redis.Redis") -> None:
        """``client``: of ``connect_by_sentinels``, nothing connected yet."""
        super().__init__(client)
        self._watch: _Watch | None = None
        client.connection_pool.connection_kwargs["redis_connect_func"] = self._connected

    def close(self) -> None:
        """Look no more, and close the idle connections."""
        if self._watch is not None:
            self._watch.closed.set()
        super().close()

    def _connected(self, connection: Any) -> None:
        """What redis-py calls for each new connection, in place of its own."""
        connection.on_connect()
        watch = self._watch
        if watch is None or watch.pid != os.getpid():  # a fork takes no thread along, and its sockets are the parent's
            watch = self._watch = _Watch(self.client.connection_pool)
            watch.start()
        watch.add(connection)


class _Watch(threading.Thread):
    """Asks the Sentinels, and closes those connections of this process that lead elsewhere."""

    def __init__(self, pool: Any) -> None:
        super().__init__(name="store-primary", daemon=True)
        self.pid = os.getpid()
        self._pool = pool
        self.closed = threading.Event()
        self._open: WeakSet[Any] = WeakSet()
        self._lock = threading.Lock()

    def add(self, connection: Any) -> None:
        with self._lock:
            self._open.add(connection)

    def run(self) -> None:
        while not self.closed.wait(LOOK_EVERY_S):
            with contextlib.suppress(redis.exceptions.RedisError):  # no Sentinel answers, or none knows a live primary
                self._leave_all_but(self._pool.get_master_address())

    def _leave_all_but(self, named: tuple[str, int]) -> None:
        """Whoever uses another connection, or waits for an answer there, meets its end as if the server had gone."""
        with self._lock:
            others = [one._sock for one in self._open if (one.host, one.port) != named]
        for sock in filter(None, others):
            with contextlib.suppress(OSError):  # closed meanwhile
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS, whose state its user reads
