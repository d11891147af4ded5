"""When a failed delivery is tried again: pure, the caller brings the random number.

The schedule takes three days in all, so that a receiver's weekend outage loses nothing. Jitter
spreads what failed together; a receiver's Retry-After is a floor and never shortens the wait.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000

SCHEDULE_MS = (
    5 * SECOND,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
)
"""Waits after the first, second … failure: ten attempts in about 75 hours."""

MAX_DELAY_MS = 24 * HOUR
JITTER = 0.2
MAX_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """A subscription's own schedule: ``backoff_ms`` · 2^(n-1) after failure n, at most a day."""

    max_attempts: int
    backoff_ms: int


def max_attempts(config: RetryConfig | None) -> int:
    """How many attempts there are in all."""
    return config.max_attempts if config else len(SCHEDULE_MS) + 1


def delay_ms(failures: int, config: RetryConfig | None, random: float, retry_after_ms: int | None = None) -> int | None:
    """The wait after failure number ``failures`` (1-based), or None when that was the last attempt.

    ``random`` is uniform in [0, 1). The wait is spread by ± 20 %, over a Retry-After only upwards.
    """
    if failures >= max_attempts(config):
        return None
    if config is None:
        base = float(SCHEDULE_MS[failures - 1])
    else:
        base = min(float(config.backoff_ms) * 2.0 ** min(failures - 1, 40), MAX_DELAY_MS)
    wait = base * (1 - JITTER + 2 * JITTER * random)
    if retry_after_ms is not None:
        floor = min(retry_after_ms, MAX_DELAY_MS)
        wait = max(wait, floor * (1 + JITTER * random))
    return round(min(wait, MAX_DELAY_MS * (1 + JITTER)))


def retry_after_ms(text: str | None, now_s: float) -> int | None:
    """What a Retry-After header asks for, in ms from now, at most a day; None for anything odd."""
    if text is None:
        return None
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        seconds = float(text)
    else:
        try:
            date = parsedate_to_datetime(text)
            seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now_s
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return min(round(seconds * 1000), MAX_DELAY_MS)
