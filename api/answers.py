"""What every answer has in common, free of any framework: envelope, request id, headers.

An answer is (status, headers, body). The hot lane hands it to WSGI as it is, the Flask routes wrap
it; both add ``common_headers``.
"""

import math
import random
import re
from typing import Any, NamedTuple

import msgspec

from mech_queue.model.errors import Refusal

Headers = list[tuple[str, str]]

JSON_TYPE = ("Content-Type", "application/json")
SAFE: Headers = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]
SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

encode = msgspec.json.encode


class Answer(NamedTuple):
    """A finished answer; ``body`` is JSON unless ``headers`` name another Content-Type."""

    status: int
    body: bytes
    headers: Headers = []


def ok(_status: int = 200, **fields: Any) -> Answer:
    """``{"success": true, …}``; values may be ``msgspec.Raw`` for JSON that must come back as it was sent."""
    return Answer(_status, encode({"success": True, **fields}))


def refused(refusal: Refusal, request_id: str) -> Answer:
    """The error envelope of CONTRACT.md; Retry-After only where waiting helps (429 and 503)."""
    body = {
        "success": False,
        "error": refusal.message,
        "code": refusal.code.value,
        "details": refusal.details,
        "requestId": request_id,
    }
    headers: Headers = []
    if refusal.status in (429, 503):
        headers.append(("Retry-After", str(max(1, math.ceil(refusal.retry_after or 1)))))
    if refusal.status == 401:
        headers.append(("WWW-Authenticate", "Bearer"))
    return Answer(refusal.status, encode(body), headers)


def request_id_of(environ: dict[str, Any]) -> str:
    """The client's X-Request-Id when it is sane, else a new one."""
    given = environ.get("HTTP_X_REQUEST_ID")
    if given and SANE_REQUEST_ID.fullmatch(given):
        return str(given)
    return f"{random.getrandbits(96):024x}"  # tells requests apart, guards nothing


def cors_headers(origins: tuple[str, ...], environ: dict[str, Any]) -> Headers:
    """CORS for configured origins only; without configuration no header at all."""
    if not origins:
        return []
    headers: Headers = [("Vary", "Origin")]
    origin = environ.get("HTTP_ORIGIN", "")
    if origin and (origin in origins or "*" in origins):
        headers.append(("Access-Control-Allow-Origin", origin))
        headers.append(("Access-Control-Expose-Headers", EXPOSED))
    return headers


ACCEPTED = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Api-Key, X-Application-Id, X-Request-Id"
EXPOSED = (
    "Location, Retry-After, X-Request-Id, Idempotency-Replayed, X-RateLimit-Limit, X-RateLimit-Remaining, "
    "X-RateLimit-Reset"
)
