"""Pages of lists that are short and sorted by a name: the cursor is the last name, opaque to callers."""

import base64
from collections.abc import Callable
from typing import TypeVar

from api.queries import limit_of
from mech_queue.model.checks import Reader
from mech_queue.model.problems import Problems, invalid

T = TypeVar("T")
MAX_CURSOR = 1_000


def page_of(query: dict[str, str], items: list[T], name_of: Callable[[T], str]) -> tuple[list[T], str | None]:
    """The items of this page in the order of their names, and the cursor of the next. Raises INVALID."""
    problems = Problems()
    Reader(dict(query), problems).only(("limit", "cursor"))
    limit = limit_of(query, problems)
    problems.raise_any()
    last = _decoded(query["cursor"]) if "cursor" in query else None
    ordered = sorted(items, key=name_of)
    if last is not None:
        ordered = [item for item in ordered if name_of(item) > last]
    page = ordered[:limit]
    more = len(ordered) > limit
    return page, _encoded(name_of(page[-1])) if more else None


def _encoded(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _decoded(cursor: str) -> str:
    try:
        if len(cursor) > MAX_CURSOR:
            raise ValueError
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise invalid("cursor", "is not a cursor of this service") from None
