"""The ASGI application of an API process: hot routes in the event loop, all others by Flask in threads.

A hot request runs in a greenlet (``mech_queue.store.greenlets``), so that its plain code neither holds up the loop nor
needs a thread. Its environ is that of WSGI, whatever serves it.
"""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask
from greenlet import GreenletExit

from api.answers import Headers
from api.hot.lane import HotLane, find
from mech_queue.store.greenlets import Greenlets

Environ = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SHORT = 65_536
"""Bytes: longer bodies take milliseconds to parse, so that they go to a thread."""

LONG_AT_ONCE = 200
"""Requests with longer bodies, or of untold length, at a time. Others wait before theirs is read: memory is bounded."""

LONG_WITHIN_S = 30
"""A longer body must have come by then."""


class Asgi:
    """Serves the application of ``create_app``; ``most`` is the largest body in bytes."""

    def __init__(
        self,
        app: Flask,
        greenlets: Greenlets,
        threads: ThreadPoolExecutor,
        most: int,
        long_within_s: float = LONG_WITHIN_S,
    ) -> None:
        assert isinstance(app.wsgi_app, HotLane)
        self._lane = app.wsgi_app
        self._greenlets = greenlets
        self._threads = threads
        self._most = most
        self._long = asyncio.Semaphore(LONG_AT_ONCE)
        self._long_within_s = long_within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        environ = environ_of(scope)
        if told_length(environ) <= SHORT:
            body = await read_body(receive, environ, self._most)
            if body is not None:
                await self._answer(environ, body, receive, send)
            return
        async with self._long:
            reading = asyncio.ensure_future(read_body(receive, environ, self._most))
            await asyncio.wait({reading}, timeout=self._long_within_s)
            if not reading.done():
                reading.cancel()
                await send({"type": "http.response.start", "status": 408, "headers": [(b"connection", b"close")]})
                await send({"type": "http.response.body", "body": b""})
            elif (body := reading.result()) is not None:
                await self._answer(environ, body, receive, send)

    async def _answer(self, environ: Environ, body: bytes, receive: Receive, send: Send) -> None:
        environ["wsgi.input"] = BytesIO(body)
        found = find(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if found is None or len(body) > SHORT:
            await self._in_thread(environ, receive, send)
            return
        client = Client(receive)
        try:
            status, headers, answer = await self._greenlets.run(
                self._lane.answer, *found, environ, waits=lambda event: client.watch(event.give_up)
            )
        except GreenletExit:
            return  # the client hung up while it waited
        finally:
            client.close()
        await send({"type": "http.response.start", "status": status, "headers": encoded(headers)})
        await send({"type": "http.response.body", "body": answer})

    async def _in_thread(self, environ: Environ, receive: Receive, send: Send) -> None:
        """Call the WSGI application in a thread, and send what it answers piece by piece, as fast as it is read."""
        loop = asyncio.get_running_loop()
        client, hung_up = Client(receive), threading.Event()
        started: list[tuple[str, Headers]] = []

        def start_response(status: str, headers: Headers, _: Any = None) -> None:
            started[:] = [(status, headers)]

        async def sent(message: dict[str, Any]) -> None:
            await send(message)

        def say(message: dict[str, Any]) -> None:
            asyncio.run_coroutine_threadsafe(sent(message), loop).result()

        def work() -> tuple[bytes, bool]:
            """The whole body of an answer of one piece; what has more is sent from here."""
            pieces = self._lane(environ, start_response)
            try:
                if any(name.lower() == "content-length" for name, _ in started[0][1]):
                    return b"".join(pieces), True
                loop.call_soon_threadsafe(client.watch, hung_up.set)
                say(_start(*started[0]))
                for piece in pieces:
                    if hung_up.is_set():
                        break
                    say({"type": "http.response.body", "body": piece, "more_body": True})
                return b"", False
            finally:
                if hasattr(pieces, "close"):
                    pieces.close()

        try:
            body, whole = await loop.run_in_executor(self._threads, work)
            if whole:
                await send(_start(*started[0]))
            await send({"type": "http.response.body", "body": body})
        finally:
            client.close()


def _start(status: str, headers: Headers) -> dict[str, Any]:
    return {"type": "http.response.start", "status": int(status[:3]), "headers": encoded(headers)}


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


class Client:
    """The other end of a request whose body has been read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None

    def watch(self, hung_up: Callable[[], None]) -> None:
        """Call back when it hangs up before ``close``."""
        self._watching = asyncio.ensure_future(self._watch(hung_up))

    async def _watch(self, hung_up: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        hung_up()

    def close(self) -> None:
        """Watch no longer."""
        if self._watching is not None:
            self._watching.cancel()


def told_length(environ: Environ) -> int:
    """The length of the body in bytes as told; of one whose length is not told: more than any."""
    length = environ.get("CONTENT_LENGTH", "")
    if length.isdecimal():
        return int(length)
    return sys.maxsize if "HTTP_TRANSFER_ENCODING" in environ else 0


async def read_body(receive: Receive, environ: Environ, most: int) -> bytes | None:
    """The body; None when the client hung up before its end.

    Of one that is too large nothing, or, when its length is not told, little more than ``most`` bytes: enough to
    refuse it.
    """
    told = told_length(environ)
    left = min(told, most + 1)
    if most < told < sys.maxsize:
        return b""
    body = b""
    while left > 0:
        message = await receive()
        if message["type"] != "http.request":
            return None
        piece = message.get("body", b"")
        body = body + piece if body else piece
        left -= len(piece)
        if not message.get("more_body"):
            break
    return body


def environ_of(scope: Scope) -> Environ:
    """The WSGI environ of an ASGI request (PEP 3333), yet without its body."""
    server, client = scope["server"] or ("", ""), scope["client"] or ("", "")
    raw: bytes = scope["raw_path"]
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": (unquote_to_bytes(raw) if b"%" in raw else raw).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.errors": sys.stderr,
        "wsgi.input_terminated": True,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        key = NAMES.get(name) or _remembered(name)
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


NAMES = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}


def _remembered(name: bytes) -> str:
    """A header's name in the environ, kept in ``NAMES`` while they are few, as clients may invent any number.

    One with an underscore must not pass for one with a dash, for example that of a trusted proxy.
    """
    text = name.decode("latin-1").upper()
    key = f"HTTP_{text.replace('-', '_')}" if "_" not in text else f"mech_queue.not_taken.{text}"
    if len(NAMES) < 100:
        NAMES[name] = key
    return key
