"""Sends one webhook and says how it ended: the only place of the service that calls out by HTTP.

Whatever a receiver does, ``send`` returns an Outcome within its deadline and bounded memory. No
redirect is followed, no cookie kept, no proxy or netrc of the environment used, nothing inflated.
"""

import http.client
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError

from mech_queue.model import address, backoff, endpoint
from mech_queue.model.delivery import CONNECT_S, EXCERPT_BYTES, TOTAL_S, ErrorCode, Outcome
from mech_queue.model.errors import Refusal
from mech_queue.outbound.deadline import Watchdog
from mech_queue.outbound.guard import (
    POOLS,
    Attempt,
    Guard,
    Resolver,
    Unreachable,
    attempt_of_this_thread,
    system_resolver,
)

USER_AGENT = "mech-queue-webhooks/1"
HOSTS_KEPT = 32
CONNECTIONS_KEPT = 16
"""Idle connections that are kept: at most HOSTS_KEPT · CONNECTIONS_KEPT file descriptors."""


class Sender:
    """Thread-safe; make one per process and close it.

    ``policy``: which addresses may be reached (default: this process's). ``total_s``: longest attempt
    in seconds, all in all. ``ca_file``: certificates (PEM) to trust beside the usual ones. ``proxy``: URL of an
    HTTP proxy through which everything goes; the proxy resolves the names, and has to judge where they lead.
    """

    def __init__(
        self,
        policy: address.AddressPolicy | None = None,
        *,
        connect_s: float = CONNECT_S,
        total_s: float = TOTAL_S,
        resolver: Resolver = system_resolver,
        ca_file: str | None = None,
        proxy: str | None = None,
    ) -> None:
        self.total_s = total_s
        self._proxies = dict.fromkeys(("http", "https"), proxy) if proxy else {}
        self._guard = Guard(policy or address.policy(), resolver, connect_s, _place(proxy) if proxy else None)
        self._watchdog = Watchdog()
        context = ssl.create_default_context(cafile=certifi.where())
        if ca_file:
            context.load_verify_locations(ca_file)
        self._adapter = _Adapter(context)
        for name in ("urllib3.connection", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.ERROR)  # their warnings show whole URLs

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Make one attempt. A connection that was closed while it lay idle is replaced once, silently."""
        started = time.monotonic()
        try:
            request = _prepare(method, url, headers, body)
        except Refusal as refusal:
            return Outcome(False, error_code=ErrorCode.INVALID, error=f"The URL {refusal.message}")
        outcome, reused = self._attempt(request, self.total_s)
        if reused and outcome.error_code is ErrorCode.CLOSED:
            left = self.total_s - (time.monotonic() - started)
            outcome, _ = self._attempt(request, max(0.001, left))
        return _timed(outcome, started)

    def close(self) -> None:
        """Close idle connections."""
        self._adapter.close()

    def _attempt(self, request: requests.PreparedRequest, seconds: float) -> tuple[Outcome, bool]:
        attempt = Attempt(self._guard, self._watchdog.watch(seconds))
        with attempt_of_this_thread(attempt):
            try:
                outcome = self._exchange(request, attempt)
            except Unreachable as problem:
                outcome = Outcome(False, error_code=problem.code, error=problem.sentence)
            except Exception as error:  # whatever a receiver makes the parsers do is an outcome, too
                outcome = _failure(error, late=attempt.deadline.passed)
            return outcome, attempt.reused

    def _exchange(self, request: requests.PreparedRequest, attempt: Attempt) -> Outcome:
        left = attempt.deadline.remaining_s
        self._guard.judge(endpoint.parse(str(request.url)).host)
        response = self._adapter.send(request, stream=True, timeout=(left, left), proxies=self._proxies)
        raw: urllib3.HTTPResponse = response.raw
        excerpt = bytearray()
        try:
            while len(excerpt) <= EXCERPT_BYTES:
                chunk = raw.read1(min(8192, EXCERPT_BYTES + 1 - len(excerpt)), decode_content=False)
                if not chunk:
                    break
                excerpt += chunk
        except (HTTPError, http.client.HTTPException, OSError, ValueError):
            pass  # an answer that breaks off was an answer
        finally:
            raw.close()  # no effect on a body read to its end: that connection is back in its pool
        if attempt.deadline.passed and len(excerpt) <= EXCERPT_BYTES:
            return _TOO_LATE  # a connection that the watchdog shut looks like the end of the answer
        return _answered(response, bytes(excerpt))


class _Adapter(HTTPAdapter):
    """Pools of guarded connections with one TLS context."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_connections=HOSTS_KEPT, pool_maxsize=CONNECTIONS_KEPT, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Its pools are guarded, too."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        """One TLS context for all; requests would load the certificates anew for each connection."""
        parsed = endpoint.parse(str(request.url))
        host = {"scheme": parsed.scheme, "host": parsed.host, "port": parsed.port}
        return host, {"ssl_context": self._context} if parsed.scheme == "https" else {}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """The context verifies."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Without requests' cookies and encodings: a receiver's headers are not to be parsed."""
        response = requests.Response()
        response.status_code = resp.status
        response.headers = CaseInsensitiveDict(resp.headers)
        response.raw = resp
        return response


def _prepare(method: str, url: str, headers: Mapping[str, str], body: bytes) -> requests.PreparedRequest:
    request = requests.PreparedRequest()
    request.method = method
    request.url = endpoint.parse(url).url
    request.headers = CaseInsensitiveDict(headers)
    request.headers.setdefault("User-Agent", USER_AGENT)
    request.headers["Accept-Encoding"] = "identity"
    request.headers["Content-Length"] = str(len(body))
    request.body = body
    return request


def _answered(response: requests.Response, excerpt: bytes) -> Outcome:
    status = response.status_code
    truncated = len(excerpt) > EXCERPT_BYTES
    excerpt = excerpt[:EXCERPT_BYTES]
    if 200 <= status <= 299:
        return Outcome(True, status, excerpt=excerpt, truncated=truncated)
    if status == 410:
        code, error = ErrorCode.GONE, "The receiver is gone (410): it wants no more deliveries."
    elif 300 <= status <= 399:
        code, error = ErrorCode.REDIRECT, f"The receiver redirects ({status}); redirects are not followed."
    else:
        code, error = ErrorCode.STATUS, f"The receiver answered {status}."
    wait = backoff.retry_after_ms(response.headers.get("Retry-After"), time.time())
    return Outcome(False, status, code, error, excerpt=excerpt, truncated=truncated, retry_after_ms=wait)


_TOO_LATE = Outcome(False, error_code=ErrorCode.TIMEOUT, error="The receiver did not answer in time.")


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), parts.port or 80


def _failure(error: Exception, *, late: bool) -> Outcome:
    causes = list(_causes(error))
    if late or any(isinstance(one, requests.Timeout | TimeoutError) for one in causes):
        return _TOO_LATE
    if any(isinstance(one, ssl.SSLError | requests.exceptions.SSLError) for one in causes):
        return Outcome(False, error_code=ErrorCode.TLS, error=_tls_sentence(causes))
    if any(isinstance(one, requests.exceptions.ProxyError) for one in causes):
        return Outcome(False, error_code=ErrorCode.CONNECT, error="The proxy made no connection to the receiver.")
    lost = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ConnectionAbortedError)
    if any(isinstance(one, lost) for one in causes):
        sentence = "The receiver closed the connection without an answer."
        return Outcome(False, error_code=ErrorCode.CLOSED, error=sentence)
    if isinstance(error, ValueError) and not isinstance(error, requests.RequestException):
        return Outcome(False, error_code=ErrorCode.INVALID, error="The request could not be written as HTTP.")
    return Outcome(False, error_code=ErrorCode.PROTOCOL, error="The receiver's answer is no valid HTTP.")


def _tls_sentence(causes: list[BaseException]) -> str:
    for one in causes:
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"The receiver's certificate is not trusted: {one.verify_message}."
    return "The TLS handshake with the receiver failed."


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it wraps: requests and urllib3 put it into arguments, reasons and causes."""
    found: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and not any(one is other for other in found):
            found.append(one)
            todo += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return found


def _timed(outcome: Outcome, started: float) -> Outcome:
    return replace(outcome, duration_ms=round((time.monotonic() - started) * 1000))
