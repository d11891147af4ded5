"""The waits between attempts of a delivery."""

import time
from collections import Counter
from email.utils import formatdate
from random import Random

import pytest

from mech_queue.model.backoff import (
    MAX_DELAY_MS,
    SCHEDULE_MS,
    RetryConfig,
    delay_ms,
    max_attempts,
    retry_after_ms,
)


def test_the_schedule_has_ten_attempts_in_three_days() -> None:
    assert max_attempts(None) == 10
    waits = [delay_ms(failures, None, 0.5) for failures in range(1, 11)]
    assert waits == [*SCHEDULE_MS, None]
    assert 74 < sum(SCHEDULE_MS) / 3_600_000 < 76


@pytest.mark.parametrize("failures", range(1, 10))
def test_jitter_is_a_fifth_in_both_directions(failures: int) -> None:
    base = SCHEDULE_MS[failures - 1]
    assert delay_ms(failures, None, 0.0) == round(base * 0.8)
    assert delay_ms(failures, None, 0.999999) == pytest.approx(base * 1.2, rel=1e-4)


def test_failures_of_one_moment_do_not_come_back_in_one_second() -> None:
    random = Random(7)
    seconds = Counter((delay_ms(2, None, random.random()) or 0) // 1000 for _ in range(1000))
    assert max(seconds.values()) <= 30


def test_an_own_schedule_doubles_up_to_a_day() -> None:
    config = RetryConfig(max_attempts=20, backoff_ms=1000)
    assert [delay_ms(failures, config, 0.5) for failures in (1, 2, 3, 4)] == [1000, 2000, 4000, 8000]
    assert delay_ms(19, config, 0.5) == MAX_DELAY_MS
    assert delay_ms(20, config, 0.5) is None
    assert delay_ms(1, RetryConfig(1, 1000), 0.5) is None


def test_retry_after_is_a_floor_and_spreads_upwards_only() -> None:
    assert delay_ms(1, None, 0.0, 60_000) == 60_000
    assert delay_ms(1, None, 0.5, 60_000) == 66_000
    assert delay_ms(2, None, 0.5, 1_000) == 300_000
    assert delay_ms(1, None, 0.0, 10 * MAX_DELAY_MS) == MAX_DELAY_MS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7000),
        (" 120 ", 120_000),
        ("0", 0),
        ("999999999", MAX_DELAY_MS),
        ("-1", None),
        ("1.5", None),
        ("NaN", None),
        ("inf", None),
        ("1e308", None),
        ("٣", None),
        ("9" * 400, None),
        ("", None),
        ("soon", None),
        (None, None),
        ("Thu, 99 Foo 2020 99:99:99 GMT", None),
        ("Thu, 01 Jan 1970 00:00:10 GMT", None),
    ],
)
def test_retry_after_reads_numbers_and_ignores_junk(text: str | None, expected: int | None) -> None:
    assert retry_after_ms(text, time.time()) == expected


def test_retry_after_reads_dates() -> None:
    now = 1_800_000_000.0
    assert retry_after_ms(formatdate(now + 90, usegmt=True), now) == 90_000
