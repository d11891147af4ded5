"""A raw loopback server that misbehaves as a test tells it to."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

Behaviour = Callable[[socket.socket, threading.Event], None]


class Hostile:
    """Accepts, reads one request, then hands the connection to ``behave(connection, closing)``."""

    def __init__(self, behave: Behaviour, context: ssl.SSLContext | None = None, read: bool = True) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self._behave = behave
        self._context = context
        self._read = read
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def url(self, path: str = "/", scheme: str = "http", host: str = "127.0.0.1") -> str:
        """Its address."""
        return f"{scheme}://{host}:{self.port}{path}"

    def close(self) -> None:
        """Stop and wait for everything."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> "Hostile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(connection):
            try:
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                if self._read:
                    self.requests.append(read_request(connection))
                self._behave(connection, self._closing)
            finally:
                connection.close()


def read_request(connection: socket.socket) -> bytes:
    """One request, head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        part = connection.recv(65536)
        if not part:
            break
        body += part
    return head + b"\r\n\r\n" + body


def says(*parts: bytes) -> Behaviour:
    """Send these bytes and close."""

    def behave(connection: socket.socket, _: threading.Event) -> None:
        for part in parts:
            connection.sendall(part)

    return behave


def repeats(start: bytes, part: bytes, pause_s: float = 0.02) -> Behaviour:
    """Send a start, then a part again and again, with pauses."""

    def behave(connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(start)
        while not closing.wait(pause_s):
            connection.sendall(part)

    return behave


def silent(_: socket.socket, closing: threading.Event) -> None:
    """Never answer."""
    closing.wait()


def floods(start: bytes, total: int) -> Behaviour:
    """Send a start, then ``total`` bytes as fast as the sender takes them."""

    def behave(connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(start)
        sent = 0
        while sent < total and not closing.is_set():
            connection.sendall(b"x" * 65536)
            sent += 65536

    return behave


def chunks(data: bytes) -> Iterator[bytes]:
    """Byte by byte."""
    for position in range(len(data)):
        yield data[position : position + 1]
