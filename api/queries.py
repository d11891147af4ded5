"""Query strings of lists -> what the services take."""

from typing import Literal, cast

from mech_queue.model import metadata
from mech_queue.model.job import State
from mech_queue.model.problems import Problems, unknown
from mech_queue.model.query import JobQuery
from mech_queue.model.submission import check_queue
from mech_queue.model.times import parse_iso

FILTERS = ("queue", "status", "task", "submittedAfter", "submittedBefore")
PAGING = ("order", "limit", "cursor")
META = "metadata."
MAX_FIELDS = 20
MAX_LIMIT = 1_000
MAX_CURSOR = 400


def job_query(query: dict[str, str], *, paging: bool = True) -> JobQuery:
    """The filters of ``GET /api/jobs``; without ``paging`` those of a bulk action."""
    problems = Problems()
    known = FILTERS + PAGING if paging else FILTERS
    found = JobQuery()
    fields: list[tuple[str, tuple[str, ...]]] = []
    for name, value in query.items():
        if name.startswith(META) and len(name) > len(META):
            fields.append((name[len(META) :], metadata.accepted(value)))
        elif name not in known:
            problems.add(name, unknown(name, (*known, f"{META}<key>")))
    if len(fields) > MAX_FIELDS:
        problems.add("metadata", f"may be asked for at most {MAX_FIELDS} fields at once")
    found.fields = tuple(fields)
    _filters(query, found, problems)
    if paging:
        found.order = cast(Literal["asc", "desc"] | None, _order(query, problems))
        found.limit = limit_of(query, problems)
        found.cursor = query.get("cursor")
    problems.raise_any()
    return found


def limit_of(query: dict[str, str], problems: Problems, default: int = 100) -> int:
    """``limit``, 1 to 1,000."""
    text = query.get("limit")
    if text is None:
        return default
    if text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    problems.add("limit", f"must be an integer from 1 to {MAX_LIMIT}")
    return default


def _filters(query: dict[str, str], found: JobQuery, problems: Problems) -> None:
    found.queue = query.get("queue")
    if found.queue is not None and (sentence := check_queue(found.queue)):
        problems.add("queue", sentence)
    found.states = _states(query.get("status"), problems)
    found.task = query.get("task")
    if found.task is not None and not 1 <= len(found.task) <= 255:
        problems.add("task", "must have 1 to 255 characters")
    found.submitted_after = time_of(query, "submittedAfter", problems)
    found.submitted_before = time_of(query, "submittedBefore", problems)
    if len(query.get("cursor", "")) > MAX_CURSOR:
        problems.add("cursor", "is not a cursor of this service")


def _states(text: str | None, problems: Problems) -> tuple[State, ...]:
    if text is None:
        return ()
    names = [name.strip() for name in text.split(",")]
    known = [state.value for state in State]
    if all(name in known for name in names):
        return tuple(State(name) for name in dict.fromkeys(names))
    problems.add("status", f"must be a comma list of: {', '.join(known)}")
    return ()


def time_of(query: dict[str, str], name: str, problems: Problems) -> int | None:
    """A time with zone as unix ms; None when it is not given."""
    text = query.get(name)
    if text is None:
        return None
    # an unescaped + of an offset (+01:00) arrives as a blank
    ms = parse_iso(text[:19] + text[19:].replace(" ", "+"))
    if ms is None:
        problems.add(name, "must be a time such as 2030-01-31T12:00:00Z")
    return ms


def _order(query: dict[str, str], problems: Problems) -> str | None:
    text = query.get("order")
    if text is not None and text not in ("asc", "desc"):
        problems.add("order", "must be asc or desc")
    return text
