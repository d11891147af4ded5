"""Signatures of deliveries by Standard Webhooks: HMAC-SHA256 over ``id.timestamp.body``.

Only the standard library, because receivers import it through ``mech_queue.webhooks``.
"""

import base64
import binascii
import hmac
import secrets as random
from collections.abc import Iterable

PREFIX = "whsec_"
VERSION = "v1"

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"


def new_secret() -> str:
    """``whsec_`` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(random.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """The key inside a secret (with or without ``whsec_``); raises ValueError when it is none."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a webhook secret is whsec_ and base64") from None
    if not key:
        raise ValueError("a webhook secret must not be empty")
    return key


def signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """One signature, ``v1,<base64>``."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp_s, body)
    return f"{VERSION},{base64.b64encode(hmac.digest(key_of(secret), signed, 'sha256')).decode()}"


def sign(secrets: Iterable[str], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers of one attempt. ``secrets``: newest first; during a rotation both sign."""
    signatures = [signature(secret, message_id, timestamp_s, body) for secret in secrets]
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp_s),
        SIGNATURE_HEADER: " ".join(signatures),
    }
