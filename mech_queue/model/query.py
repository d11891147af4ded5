"""What a caller may ask a list of jobs for, and the page that answers it."""

from dataclasses import dataclass, field
from typing import Literal

from mech_queue.model.job import JobRecord, State


@dataclass(slots=True)
class JobQuery:
    """Filters that must all hold; the limit applies after them (CONTRACT.md, ``GET /api/jobs``).

    ``fields`` are pairs (metadata name, accepted canonical JSON texts of its value): ``metadata.k=3`` accepts
    ``3`` and ``"3"``. Times are unix ms, ``submitted_after`` inclusive, ``submitted_before`` exclusive.
    ``order`` None: by submission, newest first; except one queue and only ``waiting``: as workers get them.
    """

    queue: str | None = None
    states: tuple[State, ...] = ()
    fields: tuple[tuple[str, tuple[str, ...]], ...] = ()
    task: str | None = None
    submitted_after: int | None = None
    submitted_before: int | None = None
    order: Literal["asc", "desc"] | None = None
    limit: int = 100
    cursor: str | None = None


@dataclass(slots=True)
class JobPage:
    """One page. ``next_cursor`` None: the jobs ended here."""

    jobs: list[JobRecord] = field(default_factory=list)
    next_cursor: str | None = None
