"""Checks of single values that callers send; each names its field and says what would be right."""

from typing import Any

from mech_queue.model.problems import Problems, unknown
from mech_queue.model.times import parse_iso

MAX_DURATION_MS = 10 * 366 * 86_400_000
"""Longest duration anyone may ask for: ten years, far from the end of every clock in use."""

MAX_KEY_BYTES = 255
"""Longest key, id or name that callers choose, in bytes of UTF-8."""


def check_key(value: Any) -> str | None:
    """What is wrong with a key that a caller chose; None when it is fine."""
    if not isinstance(value, str) or not value:
        return "must be a string of at least one character"
    size = len(value.encode("utf-8", "surrogatepass"))
    return None if size <= MAX_KEY_BYTES else f"must have at most {MAX_KEY_BYTES} bytes, it has {size}"


def whole_number(value: Any) -> int | None:
    """An integer (also written 5.0, as JSON makes no difference); None when it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class Reader:
    """Reads the members of one object; ``null`` counts as not given.

    Each method answers None for what is absent or wrong; what is wrong is added to ``problems`` under
    ``prefix`` + name.
    """

    def __init__(self, value: dict[str, Any], problems: Problems, prefix: str = "") -> None:
        self.value = value
        self.problems = problems
        self.prefix = prefix

    def only(self, names: tuple[str, ...], elsewhere: tuple[str, ...] = ()) -> None:
        """Refuse all other members, so that a misspelt one cannot pass silently; ``elsewhere`` as in ``unknown``."""
        if self.value.keys() <= set(names):
            return
        for name in self.value:
            if name not in names:
                self._add(name, unknown(name, names, elsewhere))

    def integer(self, name: str, least: int, most: int) -> int | None:
        """An integer between ``least`` and ``most``."""
        value = self.value.get(name)
        if value is None:
            return None
        number = whole_number(value)
        if number is None or not least <= number <= most:
            self._add(name, f"must be an integer from {least} to {most}")
            return None
        return number

    def duration(self, name: str, least: int = 0) -> int | None:
        """A duration in ms, at most ten years."""
        value = self.value.get(name)
        if value is None:
            return None
        number = whole_number(value)
        if number is None or not least <= number <= MAX_DURATION_MS:
            self._add(name, f"must be a number of ms from {least} to {MAX_DURATION_MS}")
            return None
        return number

    def number(self, name: str, least: float, most: float) -> float | None:
        """Any number between ``least`` and ``most``."""
        value = self.value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self._add(name, f"must be a number from {least} to {most}")
            return None
        return float(value)

    def text(self, name: str, longest: int) -> str | None:
        """A text of 1 to ``longest`` characters."""
        value = self.value.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not 1 <= len(value) <= longest:
            self._add(name, f"must be a string of 1 to {longest} characters")
            return None
        return value

    def boolean(self, name: str) -> bool | None:
        """True or false."""
        value = self.value.get(name)
        if value is not None and not isinstance(value, bool):
            self._add(name, "must be true or false")
            return None
        return value

    def key(self, name: str) -> str | None:
        """A key that the caller chose (at most 255 bytes)."""
        value = self.value.get(name)
        if value is None:
            return None
        sentence = check_key(value)
        if sentence:
            self._add(name, sentence)
            return None
        return str(value)

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        """One of a few words."""
        value = self.value.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or value not in choices:
            self._add(name, f"must be one of: {', '.join(choices)}")
            return None
        return value

    def time(self, name: str) -> int | None:
        """An ISO-8601 time with zone, as unix ms."""
        value = self.value.get(name)
        if value is None:
            return None
        ms = parse_iso(value) if isinstance(value, str) else None
        if ms is None:
            self._add(name, "must be a time such as 2030-01-31T12:00:00Z")
            return None
        return ms

    def _add(self, name: str, sentence: str) -> None:
        self.problems.add(self.prefix + name, sentence)
