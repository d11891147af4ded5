"""Times on the wire: ISO-8601 in UTC with milliseconds and ``Z``; inside, unix time in ms."""

from datetime import UTC, datetime
from functools import lru_cache

MAX_MS = 253_402_300_799_999
"""The last ms of the year 9999, where ISO-8601's four digits end."""


def iso(ms: int) -> str:
    """1705744800000 -> 2024-01-20T10:00:00.000Z"""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


def iso_or_none(ms: int | None) -> str | None:
    """The same; None for a time that never came."""
    return None if ms is None else iso(ms)


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")


def parse_iso(text: str) -> int | None:
    """The unix time in ms of an ISO-8601 time with zone (``Z`` or an offset); None when it is no such time."""
    if not 19 <= len(text) <= 40 or text[10] not in "Tt ":
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return None
        ms = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return ms if 0 <= ms <= MAX_MS else None
