"""When a schedule runs. Times are unix ms, durations ms.

Daylight saving, for ``cron`` in a time zone that has it (the rules of Debian's cron, by cronsim):

- A time that does not exist (the clock springs forward over it) runs at the first minute after the gap.
- A time that exists twice (the clock falls back) runs once, the first time.
- Where minute or hour begins with ``*``, the schedule means every such minute on the wall: none in
  the gap, and both times in the repeated hour.

``every`` and ``at`` are spans and instants and know no daylight saving.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

CatchUp = Literal["none", "one", "all"]

GRACE_MS = 60_000
"""With ``catchUp: none``, a time is dropped when it is later than this: no scheduler ran when it came."""

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class Timing:
    """When. Exactly one of ``cron``, ``every_ms`` and ``at_ms`` is set.

    ``every`` counts from ``start_ms``, or from ``anchor_ms`` (its creation) without running then.
    """

    cron: str | None = None
    every_ms: int | None = None
    at_ms: int | None = None
    timezone: str = "UTC"
    start_ms: int | None = None
    end_ms: int | None = None
    anchor_ms: int = 0

    def next_after(self, after_ms: int) -> int | None:
        """The first time later than ``after_ms``; None when there is none any more."""
        if self.start_ms is not None and after_ms < self.start_ms:
            after_ms = self.start_ms - 1
        found = self._next(after_ms)
        return None if found is None or (self.end_ms is not None and found > self.end_ms) else found

    def _next(self, after_ms: int) -> int | None:
        if self.at_ms is not None:
            return self.at_ms if self.at_ms > after_ms else None
        if self.every_ms is not None:
            first = self.start_ms if self.start_ms is not None else self.anchor_ms + self.every_ms
            return first if after_ms < first else first + ((after_ms - first) // self.every_ms + 1) * self.every_ms
        try:
            times = CronSim(self._expression(), datetime.fromtimestamp(after_ms // 1000, self._zone()))
            return next((ms for ms in map(_ms, times) if ms > after_ms), None)
        except (OverflowError, ValueError):  # beyond the year 9999
            return None

    def latest_until(self, now_ms: int, due_ms: int) -> int:
        """The last time not later than ``now_ms``, where ``due_ms`` is one of them."""
        if self.at_ms is not None:
            return due_ms
        if self.end_ms is not None:
            now_ms = min(now_ms, self.end_ms)
        if self.every_ms is not None:
            return due_ms + max(0, now_ms - due_ms) // self.every_ms * self.every_ms
        moment = datetime.fromtimestamp(now_ms // 1000 + 1, self._zone())
        times = CronSim(self._expression(), moment, reverse=True)
        return max(due_ms, next((ms for ms in map(_ms, times) if ms <= now_ms), due_ms))

    def _expression(self) -> str:
        assert self.cron is not None
        return ALIASES.get(self.cron.lower(), self.cron)

    def _zone(self) -> tzinfo:
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def check_cron(text: str) -> str | None:
    """What is wrong with a cron expression, as a sentence after ``cron``; None when it is fine."""
    expression = ALIASES.get(text.lower(), text)
    if expression.startswith("@"):
        return f"is no known name; known are: {', '.join(ALIASES)}"
    if len(expression.split()) != 5:
        return "must have five fields: minute, hour, day of month, month, day of week"
    try:
        CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
    except (CronSimError, ValueError, TypeError, AssertionError, IndexError) as error:
        detail = str(error).lower().removeprefix("bad ")
        return f"is not valid in the field {detail}" if isinstance(error, CronSimError) else "is not valid"
    return None


@cache
def _zones() -> set[str]:
    return available_timezones()


def check_timezone(name: str) -> str | None:
    """What is wrong with the name of a time zone; None when it is fine."""
    return None if name in _zones() else "is no IANA time zone, such as Europe/Berlin"


class Firing(NamedTuple):
    """What to do for a time that has come: run or not, for which time, and when next."""

    run: bool
    for_ms: int
    next_ms: int | None


def firing(timing: Timing, catch_up: CatchUp, due_ms: int, now_ms: int) -> Firing:
    """Decide for a due time; other times may have passed since (no scheduler ran)."""
    following = timing.next_after(due_ms)
    if catch_up == "all":
        return Firing(True, due_ms, following)
    latest = due_ms
    if following is not None and following <= now_ms:
        latest, following = timing.latest_until(now_ms, due_ms), timing.next_after(now_ms)
    return Firing(catch_up == "one" or now_ms - latest <= GRACE_MS, latest, following)
