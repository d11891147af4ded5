"""Which events a subscription wants: its filters, the comparison, and where the index keeps it.

A subscription stands in one index entry for each of its (event type, queue) pairs, under six bytes
that stand for one of its metadata conditions; a job's searchable fields have the same six bytes
(``metadata.fields_hash``), so an event finds its few candidates without meeting the others. What
the index cannot hold (null, arrays, objects) stands under ``ANY_FIELD``. Candidates are then
compared exactly, by JSON type.
"""

from dataclasses import dataclass, field
from typing import Any

from mech_queue.model import metadata as job_metadata
from mech_queue.model.checks import Reader
from mech_queue.model.event import EventType, mask
from mech_queue.model.problems import Problems
from mech_queue.model.submission import check_queue

ANY_FIELD = b"\x00" * 6
"""The place of a subscription whose filters name no scalar metadata."""

ANY_QUEUE = "*"
"""The place of a subscription that names no queue; no queue can have this name."""

EVENT_NAMES = (*(one.value for one in EventType), "*")
NOTICES = ("subscription.failing", "subscription.disabled")
"""What a subscription may ask to be told about the application's other subscriptions; not part of ``*``."""

NOTICE_LETTER = "!"
"""Where the index keeps those that ask for notices; no event type has this letter."""
MEMBERS = ("queues", "statuses", "metadata")
MAX_VALUES = 100

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Filters:
    """All that are given must hold; an empty one matches everything."""

    queues: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the API shows them: only what was given."""
        shown: dict[str, Any] = {}
        if self.queues:
            shown["queues"] = list(self.queues)
        if self.statuses:
            shown["statuses"] = list(self.statuses)
        if self.metadata:
            shown["metadata"] = self.metadata
        return shown


def parse_filters(value: Any, problems: Problems, path: str = "filters") -> Filters:
    """Validated filters; what is wrong is added to ``problems``. ``None`` means no filters."""
    if value is None:
        return Filters()
    if not isinstance(value, dict):
        problems.add(path, "must be an object")
        return Filters()
    Reader(value, problems, f"{path}.").only(MEMBERS)
    queues = parse_queues(value.get("queues"), problems, f"{path}.queues")
    statuses = _names(value.get("statuses"), problems, f"{path}.statuses")
    for name in statuses:
        if name not in EVENT_NAMES[:-1]:
            problems.add(f"{path}.statuses", f"must be names of events: {', '.join(EVENT_NAMES[:-1])}")
    return Filters(queues, statuses, _metadata(value.get("metadata"), problems, f"{path}.metadata"))


def parse_queues(value: Any, problems: Problems, path: str) -> tuple[str, ...]:
    """Validated names of queues; none for ``None``."""
    names = _names(value, problems, path)
    for name in names:
        sentence = check_queue(name)
        if sentence:
            problems.add(path, sentence)
    return names


def parse_events(
    value: Any, problems: Problems, path: str = "events", known: tuple[str, ...] = EVENT_NAMES
) -> tuple[str, ...]:
    """Validated names out of ``known``; at least one."""
    names = _names(value, problems, path)
    if value is not None and isinstance(value, list) and not value:
        problems.add(path, "must name at least one event")
    for name in names:
        if name not in known:
            problems.add(path, f"may name: {', '.join(known)}; {name!r} is none of them")
    return names


def wanted(events: tuple[str, ...], filters: Filters) -> int:
    """Mask of the event types that can match: ``events`` cut by ``filters.statuses``."""
    bits = mask([name for name in events if name not in NOTICES])
    return bits & mask(list(filters.statuses)) if filters.statuses else bits


def places(events: tuple[str, ...], filters: Filters) -> list[tuple[str, str]]:
    """(letter of the event type, queue or ``*``) of every index entry of a subscription.

    Filters speak of jobs, and a notice is about none: a subscription with filters gets no notices.
    """
    bits = wanted(events, filters)
    letters = [one.letter for one in EventType if bits & one.bit]
    if filters == Filters() and any(name in NOTICES for name in events):
        letters.append(NOTICE_LETTER)
    return [(letter, queue) for letter in letters for queue in filters.queues or (ANY_QUEUE,)]


def matches(events: tuple[str, ...], filters: Filters, event: EventType, queue: str, metadata: dict[str, Any]) -> bool:
    """Whether a subscription wants this event of a job in ``queue`` with this metadata."""
    if not wanted(events, filters) & event.bit:
        return False
    if filters.queues and queue not in filters.queues:
        return False
    return all(same(_look_up(metadata, name), value) for name, value in filters.metadata.items())


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values by type: 3 is not "3", true is not 1, 1 is 1.0, 0 is not null."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return type(one) is type(other) and bool(one == other)


def _look_up(metadata: dict[str, Any], name: str) -> Any:
    """The value of a literal key, else of a path ``a.b`` one level down, else nothing (never null)."""
    if name in metadata:
        return metadata[name]
    for outer, inner in metadata.items():
        if isinstance(inner, dict) and name.startswith(f"{outer}.") and name[len(outer) + 1 :] in inner:
            return inner[name[len(outer) + 1 :]]
    return _ABSENT


def _names(value: Any, problems: Problems, path: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        problems.add(path, "must be a list of strings")
        return ()
    if len(value) > MAX_VALUES:
        problems.add(path, f"must have at most {MAX_VALUES} entries, it has {len(value)}")
        return ()
    return tuple(dict.fromkeys(value))


def _metadata(value: Any, problems: Problems, path: str) -> dict[str, Any]:
    if value is None:
        return {}
    sentence = job_metadata.problem_of(value)
    if sentence:
        problems.add(path, sentence)
        return {}
    operator = _operator_in(value)
    if operator is not None:
        problems.add(path, f"has no operators such as {operator!r}; values are compared for equality")
    return dict(value)


def _operator_in(value: Any) -> str | None:
    """The first key that starts with ``$``, at any depth: somebody expects more than equality."""
    if isinstance(value, dict):
        for name, inner in value.items():
            found = name if name.startswith("$") else _operator_in(inner)
            if found is not None:
                return str(found)
    elif isinstance(value, list):
        for inner in value:
            found = _operator_in(inner)
            if found is not None:
                return found
    return None
