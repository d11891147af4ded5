"""Loads one HTTP service from several processes over kept connections, loopback only, for a fixed time.

The generator speaks HTTP/1.1 over plain sockets in one loop per process: a client library would cost more
than the service that is measured.
"""

import json
import multiprocessing
import select
import socket
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

PROCESSES = 2
CONNECTIONS = 32
LONGEST_S = 60
"""No measurement runs longer, whatever was asked for: the machine is shared."""


@dataclass(frozen=True)
class Target:
    """A service to load."""

    url: str
    api_key: str

    def __post_init__(self) -> None:
        host = urlsplit(self.url).hostname
        if host not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError(f"benchmarks stay on this machine, not {host}")


Request = tuple[str, str, bytes]
Script = Callable[[int, Callable[[int], None]], Generator[Request, tuple[int, bytes], None]]
"""What one connection does: ``script(salt, count)`` yields requests, is sent (status, body), counts units."""


class _Connection:
    """One kept connection and the script that speaks on it; never blocks."""

    def __init__(self, target: Target, talk: Generator[Request, tuple[int, bytes], None]) -> None:
        parts = urlsplit(target.url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"Host: {parts.netloc}\r\nx-api-key: {target.api_key}\r\n".encode()
        self._talk = talk
        self._data = b""
        self._need = 0
        self.finished = False
        self._send(next(talk))

    def readable(self) -> None:
        """Take what has come; when the answer is whole, go on with the script."""
        more = self.socket.recv(1 << 18)
        if not more:
            raise ConnectionError("the service hung up")
        self._data += more
        if len(self._data) < self._need:
            return
        found = _answer(self._data)
        if isinstance(found, int):
            self._need = found
            return
        self._data, self._need = b"", 0
        try:
            self._send(self._talk.send(found))
        except StopIteration:
            self.finished = True

    def _send(self, request: Request) -> None:
        method, path, body = request
        head = f"{method} {path} HTTP/1.1\r\n".encode() + self._head
        if body:
            head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        self.socket.sendall(head + b"\r\n" + body)


def _answer(data: bytes) -> tuple[int, bytes] | int:
    """Status and body when the answer is whole, else the number of bytes worth looking again at."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head, status = data[:end].lower(), int(data[9:12])
    if b"transfer-encoding: chunked" in head:
        return _chunks(data, end + 4, status)
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    whole = end + 4 + length
    return whole if len(data) < whole else (status, data[end + 4 : whole])


def _chunks(data: bytes, at: int, status: int) -> tuple[int, bytes] | int:
    parts = []
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return 0
        size = int(data[at:end], 16)
        if len(data) < end + 4 + size:
            return end + 4 + size
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 4 + size
        if not size:
            return status, b"".join(parts)


def rate(target: Target, script: Script, seconds: float, connections: int = CONNECTIONS) -> float:
    """Units per second of ``script`` on every connection, until the time is over or all scripts have ended."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    share = max(1, connections // PROCESSES)
    processes = [
        context.Process(target=_load, args=(target, script, min(seconds, LONGEST_S), share, number, results))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found: list[tuple[float, float]] = [results.get() for process in processes if process.exitcode == 0]
    if len(found) < PROCESSES:
        raise RuntimeError("a load process failed; its traceback stands above")
    return sum(units / elapsed for units, elapsed in found)


@contextmanager
def hold(target: Target, script: Script, connections: int) -> Iterator[None]:
    """Keep so many connections at ``script`` beside what the block does; all of them have sent their first request."""
    if not connections:
        yield
        return
    context = multiprocessing.get_context("fork")
    begun, results = context.Event(), context.SimpleQueue()
    process = context.Process(target=_load, args=(target, script, LONGEST_S, connections, 0, results, begun))
    process.start()
    try:
        if not begun.wait(30):
            raise RuntimeError("the connections could not be opened")
        yield
    finally:
        process.kill()
        process.join()


def _load(
    target: Target, script: Script, seconds: float, connections: int, number: int, results: Any, begun_all: Any = None
) -> None:
    units = 0

    def count(done: int) -> None:
        nonlocal units
        units += done

    ready = select.epoll()
    begun = time.perf_counter()
    end = begun + seconds
    open_ones = {}
    for index in range(connections):
        connection = _Connection(target, script(number * connections + index, count))
        open_ones[connection.socket.fileno()] = connection
        ready.register(connection.socket, select.EPOLLIN)
    if begun_all is not None:
        begun_all.set()
    while open_ones and time.perf_counter() < end:
        for descriptor, _ in ready.poll(0.1):
            connection = open_ones[descriptor]
            connection.readable()
            if connection.finished:
                ready.unregister(descriptor)
                del open_ones[descriptor]
    results.put((units, time.perf_counter() - begun))


def submission(queue: str, number: int) -> bytes:
    """The job that every measurement submits: some data and three metadata fields."""
    return json.dumps(
        {
            "queue": queue,
            "data": {"to": "user@example.com", "subject": "Welcome!", "number": number},
            "metadata": {"priority": "high", "customerId": f"cust-{number % 100}", "type": "transactional"},
        },
        separators=(",", ":"),
    ).encode()
