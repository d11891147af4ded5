"""When schedules run: cron in time zones with daylight saving, spans, instants, and what was missed."""

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from mech_queue.model.timing import Firing, Timing, check_cron, check_timezone, firing

BERLIN = "Europe/Berlin"  # forward 2026-03-29 02:00 -> 03:00, back 2026-10-25 03:00 -> 02:00
HOUR, DAY = 3_600_000, 86_400_000


def at(text: str, zone: str = BERLIN, fold: int = 0) -> int:
    """A wall-clock time as unix ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()) * 1000


def following(timing: Timing, after_ms: int, many: int) -> list[int]:
    """The next times."""
    found: list[int] = []
    for _ in range(many):
        ms = timing.next_after(found[-1] if found else after_ms)
        assert ms is not None
        found.append(ms)
    return found


def test_a_time_in_the_gap_runs_at_the_first_minute_after_it() -> None:
    timing = Timing(cron="30 2 * * *", timezone=BERLIN)
    expected = [at("2026-03-28 02:30"), at("2026-03-29 03:00"), at("2026-03-30 02:30")]
    assert following(timing, at("2026-03-28 00:00"), 3) == expected


def test_a_doubled_time_runs_once_the_first_time() -> None:
    timing = Timing(cron="30 2 * * *", timezone=BERLIN)
    expected = [at("2026-10-25 02:30", fold=0), at("2026-10-26 02:30")]
    assert following(timing, at("2026-10-25 00:00"), 2) == expected
    assert timing.next_after(at("2026-10-25 02:10", fold=1)) == at("2026-10-26 02:30")


def test_every_hour_on_the_wall_knows_no_gap_and_both_doubled_hours() -> None:
    timing = Timing(cron="0 * * * *", timezone=BERLIN)
    spring = following(timing, at("2026-03-29 00:30"), 3)
    assert [one - spring[0] for one in spring] == [0, HOUR, 2 * HOUR]
    assert spring[1:] == [at("2026-03-29 03:00"), at("2026-03-29 04:00")]
    autumn = following(timing, at("2026-10-25 01:30"), 3)
    assert autumn == [at("2026-10-25 02:00", fold=0), at("2026-10-25 02:00", fold=1), at("2026-10-25 03:00")]


@pytest.mark.parametrize("cron", ["30 2 * * *", "0 * * * *", "*/15 1-3 * * *", "5 2 * * SUN"])
@pytest.mark.parametrize("zone", [BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_the_latest_time_is_the_last_that_came(cron: str, zone: str) -> None:
    timing = Timing(cron=cron, timezone=zone)
    for start in ("2026-03-01 00:00", "2026-10-20 00:00"):
        times = following(timing, at(start, zone), 60)
        for before, after in pairwise(times):
            assert before < after
            assert timing.latest_until(after - 1, times[0]) == before
            assert timing.latest_until(after, times[0]) == after


def test_names_stand_for_expressions() -> None:
    noon = at("2026-05-05 12:00", "UTC")
    assert Timing(cron="@daily").next_after(noon) == at("2026-05-06 00:00", "UTC")
    assert Timing(cron="@Hourly").next_after(noon) == noon + HOUR


def test_every_counts_from_its_creation_or_its_start() -> None:
    assert following(Timing(every_ms=5_000, anchor_ms=1_000), 1_000, 3) == [6_000, 11_000, 16_000]
    assert following(Timing(every_ms=5_000, anchor_ms=1_000, start_ms=20_000), 1_000, 2) == [20_000, 25_000]
    assert Timing(every_ms=5_000, start_ms=0).next_after(12_345) == 15_000


def test_start_and_end_are_within() -> None:
    midnight = at("2026-05-06 00:00", "UTC")
    timing = Timing(cron="@daily", start_ms=midnight, end_ms=midnight + DAY)
    assert following(timing, midnight - 10 * DAY, 2) == [midnight, midnight + DAY]
    assert timing.next_after(midnight + DAY) is None
    assert Timing(cron="@daily", start_ms=midnight + 1).next_after(0) == midnight + DAY


def test_at_runs_once() -> None:
    assert Timing(at_ms=5_000).next_after(4_999) == 5_000
    assert Timing(at_ms=5_000).next_after(5_000) is None


def test_a_day_that_never_comes_has_no_time() -> None:
    assert Timing(cron="0 0 29 2 1#5").next_after(0) is not None
    assert Timing(cron="0 0 1 1 *", start_ms=253_402_300_799_000).next_after(0) is None


MISSED = Timing(every_ms=HOUR)


@pytest.mark.parametrize(
    ("catch_up", "late_ms", "expected"),
    [
        ("none", 50, Firing(True, HOUR, 2 * HOUR)),
        ("none", 90_000, Firing(False, HOUR, 2 * HOUR)),
        ("none", 3 * HOUR + 50, Firing(True, 4 * HOUR, 5 * HOUR)),
        ("none", 3 * HOUR + 90_000, Firing(False, 4 * HOUR, 5 * HOUR)),
        ("one", 3 * HOUR + 90_000, Firing(True, 4 * HOUR, 5 * HOUR)),
        ("all", 3 * HOUR + 90_000, Firing(True, HOUR, 2 * HOUR)),
    ],
)
def test_what_was_missed_is_caught_up_as_asked(catch_up, late_ms: int, expected: Firing) -> None:
    assert firing(MISSED, catch_up, due_ms=HOUR, now_ms=HOUR + late_ms) == expected


@pytest.mark.parametrize(
    "text", ["* * * *", "* * * * * *", "@reboot", "61 * * * *", "a b c d e", "1- * * * *", "0 0 31 2 *"]
)
def test_what_is_no_cron_expression_is_refused_in_words(text: str) -> None:
    assert check_cron(text)


@pytest.mark.parametrize("text", ["*/5 * * * *", "0 9 * * MON-FRI", "0 0 L * *", "@weekly", "0 8 * JAN,JUL 1#1"])
def test_cron_expressions(text: str) -> None:
    assert check_cron(text) is None


def test_time_zones() -> None:
    assert check_timezone("Europe/Berlin") is None
    assert check_timezone("UTC") is None
    assert check_timezone("../etc/passwd")
    assert check_timezone("Berlin")
