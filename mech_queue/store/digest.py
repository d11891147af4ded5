"""Short names of fixed length for what may be long, or chosen by callers: parts of keys, ids, entries of the index."""

import hashlib


def digest(*parts: str | bytes) -> bytes:
    """16 bytes that stand for these parts, in this order."""
    whole = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        whole.update(b"%d:%s" % (len(raw), raw))
    return whole.digest()[:16]


def search_field(name: str, *values: str) -> bytes:
    """Six bytes that stand for "deliveries of this application, job or subscription" in the index."""
    return digest(name, *values)[:6]
