"""Wait for a condition instead of sleeping for a guess."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

STEP_S = 0.01
"""Pause between two looks: short against every deadline, long against the cost of a look."""


def wait_until(condition: Callable[[], T], deadline_s: float = 10, message: str = "") -> T:
    """Return the first true answer of ``condition``; fail when ``deadline_s`` seconds have passed.

    The failure shows the last answer, so let the condition return what it looked at.
    """
    end = time.monotonic() + deadline_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            text = message or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"{text} did not come true in {deadline_s} s; last answer: {answer!r}")
        time.sleep(STEP_S)
