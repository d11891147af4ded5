"""Identifiers and secrets that the service makes itself."""

import secrets

import uuid_utils

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_job_id() -> bytes:
    """A UUIDv7 as its 16 bytes, which is how keys and members of the store carry it."""
    return uuid_utils.uuid7().bytes


def job_id_text(raw: bytes) -> str:
    """16 bytes -> the usual 36 characters."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def job_id_bytes(text: str) -> bytes | None:
    """36 characters -> 16 bytes; None when the text is no canonical UUID (so the job cannot exist)."""
    if len(text) != 36:
        return None
    try:
        raw = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return None
    return raw if len(raw) == 16 and job_id_text(raw) == text else None


def new_application_id() -> str:
    """``app-`` and 12 of [a-z0-9]."""
    return "app-" + "".join(secrets.choice(_ALPHABET) for _ in range(12))


def new_lease_token() -> str:
    """22 unguessable characters. A claim of many jobs appends ``.1``, ``.2`` … to one of these."""
    return secrets.token_urlsafe(16)


def new_api_key() -> str:
    """``sk_`` and 43 unguessable characters."""
    return "sk_" + secrets.token_urlsafe(32)
