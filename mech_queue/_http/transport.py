"""Sends requests: timeouts, errors as Refusal, and retries only where they are safe.

A request is repeated when it cannot do anything twice: the connection was refused (nothing was sent),
the service said that it did nothing (429), or the caller knows that a repetition changes nothing
(``safe=True``: reads, submits with an Idempotency-Key, claims with a nonce, endings with a lease token).
"""

import json
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter

from mech_queue.model.errors import Code, Refusal

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0

RETRIES = 4
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
CONNECTIONS = 64
"""Kept connections of one process; more threads than this still work, with connections of their own."""

_NOT_SENT = (requests.exceptions.ConnectTimeout,)
_LOST = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
_PASSING = frozenset({502, 503, 504})


class Unreachable(ConnectionError):
    """The service did not answer, also after the retries that were safe.

    What was asked may have happened or not; a repeated submit with the same ``idempotency_key`` is harmless.
    ``__context__`` is what ``requests`` said.
    """


class Transport:
    """One service and one key. Thread-safe; after a fork the child opens connections of its own."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        application_id: str | None = None,
        timeout_s: float = READ_TIMEOUT_S,
        retries: int = RETRIES,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the service's address must start with http:// or https://, not {url!r}")
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self.retries = retries
        self._headers = {"x-api-key": (api_key or "").strip(), "Accept": "application/json"}
        if application_id:
            self._headers["X-Application-Id"] = application_id
        self._lock = threading.Lock()
        self._session: requests.Session | None = None
        self._owner = 0

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        safe: bool | None = None,
        wait_s: float = 0,
    ) -> dict[str, Any]:
        """The answer's JSON object. Raises Refusal or Unreachable.

        ``safe``: repeating the request changes nothing (default: for GET only). ``wait_s``: how long the
        service was asked to wait before it answers.
        """
        answer = self.send(method, path, body, query=query, headers=headers, safe=safe, wait_s=wait_s)
        return decode(answer)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        safe: bool | None = None,
        wait_s: float = 0,
        stream: bool = False,
    ) -> requests.Response:
        """The answer itself, already checked: a refusal is raised."""
        content = None if body is None else encode(body)
        sent = {**self._headers, **(headers or {})}
        if content is not None:
            sent["Content-Type"] = "application/json"
        repeatable = method == "GET" if safe is None else safe
        read_timeout = self.timeout_s + wait_s
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                answer = self._open().request(
                    method,
                    self.url + path,
                    params=_texts(query),
                    data=content,
                    headers=sent,
                    timeout=(CONNECT_TIMEOUT_S, read_timeout),
                    allow_redirects=False,
                    stream=stream,
                )
            except _LOST as error:
                if last or not (repeatable or _never_sent(error)):
                    raise Unreachable(f"no answer from {self.url}: {_reason(error)}") from None
                time.sleep(pause_s(attempt))
                continue
            if answer.status_code < 300:
                return answer
            refusal = refusal_of(answer)
            passing = answer.status_code in _PASSING and repeatable
            if last or not (passing or refusal.code is Code.RATE_LIMITED):
                raise refusal
            time.sleep(pause_s(attempt, refusal.retry_after))
        raise AssertionError("the last attempt returns or raises")

    def pages(self, path: str, member: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Every item of a list, fetched page by page while the caller goes on."""
        asked = {name: value for name, value in query.items() if value is not None}
        while True:
            page = self.request("GET", path, query=asked)
            yield from page[member]
            cursor = page.get("nextCursor")
            if not cursor:
                return
            asked["cursor"] = cursor

    def close(self) -> None:
        """Close the kept connections; the next request opens new ones."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def _open(self) -> requests.Session:
        with self._lock:
            if self._session is None or self._owner != os.getpid():
                self._session, self._owner = requests.Session(), os.getpid()
                adapter = HTTPAdapter(pool_connections=2, pool_maxsize=CONNECTIONS, max_retries=0)
                self._session.mount("http://", adapter)
                self._session.mount("https://", adapter)
            return self._session


def encode(body: Any) -> bytes:
    """JSON as UTF-8; NaN and Infinity, which are no JSON, raise ValueError here and not at the service."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def segment(value: str) -> str:
    """A name as one part of a path. Raises ValueError for an empty one, which would ask for something else."""
    if not value:
        raise ValueError("an id or a name must not be empty")
    return quote(value, safe="")


def refusal_of(answer: requests.Response) -> Refusal:
    """The refusal that an answer carries; also for answers that are not the service's own (a proxy's)."""
    passing = answer.status_code in _PASSING
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or "error" not in body:
        whose = "" if passing else ": is this the address of mech-queue?"
        body = {"error": f"HTTP {answer.status_code} without the service's own body{whose}"}
    refusal = refusal_from(body, Code.STORE_UNAVAILABLE if passing else Code.INTERNAL)
    refusal.retry_after = _seconds(answer.headers.get("Retry-After"))
    request_id = answer.headers.get("X-Request-Id")
    if request_id:
        refusal.add_note(f"request id {request_id}")
    return refusal


def refusal_from(item: Mapping[str, Any], unknown: Code = Code.INTERNAL) -> Refusal:
    """The refusal that an object carries, such as an item of a batch; ``unknown``: where it has no code known here."""
    try:
        code = Code(item.get("code", ""))
    except ValueError:
        code = unknown
    return Refusal(code, str(item.get("error", "")), item.get("details") or {})


def pause_s(attempt: int, asked_for: float | None = None) -> float:
    """Seconds before repetition ``attempt`` + 1: doubling and random, so that clients keep out of step."""
    own: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0)
    return max(own, min(asked_for or 0, 60.0))


def decode(answer: requests.Response) -> dict[str, Any]:
    """The JSON object of an answer that was no refusal."""
    if not answer.content:
        return {}
    try:
        found = json.loads(answer.content)
    except ValueError:
        message = f"HTTP {answer.status_code} without JSON: is this the address of mech-queue?"
        raise Refusal(Code.INTERNAL, message) from None
    return found if isinstance(found, dict) else {"value": found}


def _never_sent(error: Exception) -> bool:
    """Whether the connection could not even be made, so that nothing can have happened."""
    return isinstance(error, _NOT_SENT) or "NewConnectionError" in repr(error)


def _reason(error: BaseException) -> str:
    """The innermost cause: each library above it repeats it in words of its own."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _seconds(header: str | None) -> float | None:
    try:
        return float(header) if header else None
    except ValueError:
        return None


def _texts(query: Mapping[str, Any] | None) -> dict[str, str] | None:
    if not query:
        return None
    return {name: _text(value) for name, value in query.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)
