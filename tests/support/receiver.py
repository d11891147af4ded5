"""A recording HTTP server on loopback, for webhooks: it answers as a test tells it to."""

import contextlib
import json
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Answer:
    """What to answer: status, headers, body, and trouble (late, or the connection cut without answer)."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    delay_s: float = 0
    cut: bool = False


@dataclass(frozen=True)
class Received:
    """One request as it arrived. Header names are lower-case; ``at`` is time.time() in seconds."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


Script = Iterable[Answer | int]


class Receiver:
    """Records every request. ``script(path, [500, 500, 200])`` answers in that order, then ``default``.

    Used as a context manager, or through the fixture ``receiver``. ``respond`` may be replaced by a
    function from ``Received`` to ``Answer`` for anything that a list cannot say.
    """

    def __init__(self, default: Answer | int = 200) -> None:
        self.default = _answer(default)
        self.respond: Callable[[Received], Answer | None] | None = None
        self.requests: list[Received] = []
        self._scripts: dict[str, deque[Answer]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._server = _Server(self)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def url(self, path: str = "/") -> str:
        """The address of ``path`` here."""
        return f"http://127.0.0.1:{self.port}{path}"

    def script(self, path: str, answers: Script) -> str:
        """Answer the next requests for ``path`` (without query) in this order; returns its URL."""
        with self._lock:
            self._scripts[path].extend(_answer(one) for one in answers)
        return self.url(path)

    def of(self, path: str) -> list[Received]:
        """The requests for ``path`` (without query) so far, in order of arrival."""
        with self._lock:
            return [one for one in self.requests if one.path.partition("?")[0] == path]

    def wait_for(self, count: int, path: str | None = None, deadline_s: float = 10) -> list[Received]:
        """Wait until at least ``count`` requests (for ``path``) have arrived; returns them."""

        def arrived() -> list[Received] | None:
            found = list(self.requests) if path is None else self.of(path)
            return found if len(found) >= count else None

        return wait_until(arrived, deadline_s, f"{count} requests at {path or 'the receiver'}") or []

    def close(self) -> None:
        """Stop listening and cut what is still open."""
        self._closing.set()
        self._server.shutdown()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, received: Received) -> Answer:
        with self._lock:
            self.requests.append(received)
            script = self._scripts.get(received.path.partition("?")[0])
            if script:
                return script.popleft()
        return (self.respond(received) if self.respond else None) or self.default


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() then waits for them: nothing outlives the test
    request_queue_size = 128

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that hangs up is part of many tests; nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        with self.server.receiver._lock:
            self.server.receiver._open.add(self.connection)

    def finish(self) -> None:
        with self.server.receiver._lock:
            self.server.receiver._open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def _serve(self) -> None:
        receiver = self.server.receiver
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # its sender was killed while it spoke: nothing was received
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = receiver._take(Received(self.command, self.path, headers, body, time.time()))
        if answer.delay_s:
            receiver._closing.wait(answer.delay_s)
        if answer.cut or receiver._closing.is_set():
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_POST = do_PUT = do_GET = do_DELETE = do_PATCH = _serve

    def log_message(self, *_: Any) -> None:
        """Silent: the test reads ``requests``."""


def _answer(answer: Answer | int) -> Answer:
    return Answer(answer) if isinstance(answer, int) else answer
