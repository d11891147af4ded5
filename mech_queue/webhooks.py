"""For receivers: check that a request came from mech-queue, unchanged and now.

    from mech_queue.webhooks import SignatureError, verify

    try:
        event = verify(request.headers, request.get_data(), "whsec_…")
    except SignatureError:
        return "", 400

Only the standard library. Deliveries may come more than once with the same ``webhook-id``: keep the
ids of the last days and ignore the second.
"""

import hmac
import json
import re
import time
from collections.abc import Iterable
from typing import Any, Protocol

from mech_queue.model.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, VERSION, signature


class SignatureError(Exception):
    """The request is not what mech-queue sent, or not now. Do not act on it; answer 400."""


class Headers(Protocol):
    """The headers of a request, as any framework or a plain dict has them; names in any case."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Names and values."""


def verify(headers: Headers, body: bytes | str, secret: str | Iterable[str], tolerance_s: int = 300) -> Any:
    """Check the signature over the body's exact bytes and return the parsed body.

    ``secret``: the ``whsec_…`` that was shown once, or several of them while they change.
    ``tolerance_s``: how many seconds the timestamp may lie from now, in both directions.
    Raises SignatureError; ValueError only when a secret itself is malformed.
    """
    given = {str(name).lower(): value for name, value in headers.items()}
    raw = body.encode() if isinstance(body, str) else bytes(body)
    message_id = _required(given, ID_HEADER)
    timestamp = _required(given, TIMESTAMP_HEADER)
    signatures = _required(given, SIGNATURE_HEADER).split()
    if not re.fullmatch(r"[0-9]{1,12}", timestamp, re.ASCII):
        raise SignatureError(f"{TIMESTAMP_HEADER} is no number of seconds")
    if abs(time.time() - int(timestamp)) > tolerance_s:
        raise SignatureError(f"{TIMESTAMP_HEADER} is more than {tolerance_s} s from now")
    secrets = [secret] if isinstance(secret, str) else list(secret)
    expected = [signature(one, message_id, int(timestamp), raw).encode() for one in secrets]
    offered = [one.encode() for one in signatures if one.startswith(f"{VERSION},")]
    if not any(hmac.compare_digest(one, other) for one in expected for other in offered):
        raise SignatureError(f"no {SIGNATURE_HEADER} fits the secret and the body")
    try:
        return json.loads(raw)
    except ValueError:
        raise SignatureError("the body is no JSON") from None


def _required(headers: dict[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise SignatureError(f"the header {name} is missing")
    return value
