"""A job: its states, what may change them, what is submitted and what is read back.

``TRANSITIONS`` is the only table of allowed state changes. The Lua scripts get it injected by the
script loader, the diagram in docs/ is generated from it and the tests use it as their oracle.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import msgspec


class State(StrEnum):
    """Where a job is. The first letter is what the store keeps, so all six must differ."""

    WAITING = "waiting"  # may start as soon as a worker asks and the limits allow it
    DELAYED = "delayed"  # not due yet, backing off, or waiting for its parents
    ACTIVE = "active"  # a worker holds its lease
    COMPLETED = "completed"  # ended well; removed after its retention
    FAILED = "failed"  # ended badly: the dead letters; removed after their retention
    CANCELLED = "cancelled"  # ended by request; removed after its retention

    @property
    def letter(self) -> str:
        """The one-letter form used inside the store (``x`` for cancelled)."""
        return "x" if self is State.CANCELLED else self.value[0]

    @property
    def ended(self) -> bool:
        """True when no worker will touch the job again unless it is retried."""
        return self in ENDED


ENDED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
BY_LETTER = {state.letter: state for state in State}

_W, _D, _A = State.WAITING, State.DELAYED, State.ACTIVE
_C, _F, _X = State.COMPLETED, State.FAILED, State.CANCELLED

# action -> {state before: states it may lead to}. "start" is every way to take a job (claim, PUT
# started, implicit start by a report). A report on a waiting job starts it first.
TRANSITIONS: dict[str, dict[State, frozenset[State]]] = {
    "start": {_W: frozenset({_A})},
    "complete": {_A: frozenset({_C})},
    "fail": {_A: frozenset({_F, _D, _W})},
    "stall": {_A: frozenset({_W, _F})},
    "release": {_A: frozenset({_W, _D})},
    "expire": {_W: frozenset({_F}), _D: frozenset({_F})},
    "promote": {_D: frozenset({_W})},
    "postpone": {_W: frozenset({_D}), _D: frozenset({_D})},
    "orphan": {_D: frozenset({_F})},
    "cancel": {_W: frozenset({_X}), _D: frozenset({_X}), _A: frozenset({_X})},
    "retry": {_C: frozenset({_W}), _F: frozenset({_W}), _X: frozenset({_W})},
}


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a failed job waits before its next attempt. Durations in ms; ``delay_ms`` None: as its queue says."""

    type: Literal["exponential", "fixed"] = "exponential"
    delay_ms: int | None = None
    max_delay_ms: int | None = None
    jitter: float = 0.0


@dataclass(slots=True)
class JobSpec:
    """What a caller submits, already validated. JSON stays text: it comes back as it was sent.

    ``fields`` are the filterable metadata: (name, canonical JSON text of the scalar), see
    ``model.metadata``. ``None`` means "not given" everywhere.
    """

    queue: str
    data: bytes = b"null"
    metadata: bytes = b"{}"
    fields: tuple[tuple[str, str], ...] = ()
    webhooks: dict[str, str] = field(default_factory=dict)
    task: str | None = None
    priority: int = 0
    delay_ms: int | None = None
    run_at_ms: int | None = None
    attempts: int | None = None
    backoff: Backoff | None = None
    timeout_ms: int | None = None
    expires_in_ms: int | None = None
    max_stalls: int | None = None
    retention_seconds: int | None = None
    concurrency_key: str | None = None
    dedupe_key: str | None = None
    dedupe_ttl_ms: int | None = None
    debounce: Literal["replace", "extend"] | None = None
    depends_on: tuple[str, ...] = ()
    on_parent_failure: Literal["fail", "run"] = "fail"


@dataclass(slots=True)
class Submitted:
    """Answer to one submitted job."""

    job_id: str
    deduplicated: bool = False
    replayed: bool = False  # the same Idempotency-Key and body were answered before


@dataclass(slots=True)
class ClaimedJob:
    """A job whose lease the caller now holds. ``lease_expires_ms`` is unix time in ms."""

    id: str
    queue: str
    task: str
    data: bytes
    metadata: bytes
    attempt: int
    max_attempts: int
    attempts_given: bool  # False: nobody asked for a number of attempts (CONTRACT.md, options.attempts)
    failures: int  # reported failures so far; stalls are not among them
    stalls: int
    priority: int
    lease_token: str
    lease_expires_ms: int
    timeout_ms: int | None = None
    submitted_ms: int = 0
    parents: bytes | None = None  # JSON object: parent id -> its result, when it has parents


@dataclass(slots=True)
class Claim:
    """Answer to a claim: the jobs, and how many more could start at once (0: nothing, or unknown)."""

    jobs: list[ClaimedJob]
    runnable: int = 0


@dataclass(slots=True)
class Started:
    """Answer to PUT started."""

    job_id: str
    lease_token: str
    lease_expires_ms: int
    attempt: int


ReportKind = Literal["progress", "complete", "fail", "stall", "release"]


@dataclass(slots=True)
class Report:
    """What a worker says of a job it runs.

    ``lease_token`` None: a tokenless write (CONTRACT.md, PUT). ``result``, ``error`` and ``progress`` are
    JSON texts. ``retry`` False: a permanent failure. ``delay_ms``: the worker wishes this pause before
    the next attempt (fail) or before the job may be claimed again (release). ``allowed_failures``: how
    many failures are forgiven when the job did not ask for a number of attempts (a native task's
    ``max_retries``). ``data``: replaces the job's data for the next attempt (Celery's retry with new
    arguments). ``lease_ms``: renew by this much instead of the length the lease was taken with.
    """

    job_id: str
    kind: ReportKind
    lease_token: str | None = None
    progress: bytes | None = None
    result: bytes | None = None
    error: bytes | None = None
    error_code: str | None = None
    retry: bool = True
    delay_ms: int | None = None
    allowed_failures: int | None = None
    data: bytes | None = None
    metadata: dict[str, Any] | None = None  # merge patch, null removes
    lease_ms: int | None = None
    worker_id: str | None = None


@dataclass(slots=True)
class Reported:
    """Answer to a report: the state the job is in now. ``ignored``: nothing was changed, on purpose."""

    job_id: str
    state: State
    ignored: bool = False
    attempt: int = 0
    lease_token: str | None = None
    lease_expires_ms: int | None = None


@dataclass(slots=True)
class Attempt:
    """One line of a job's history: an attempt, or a change of status between attempts. Times in ms."""

    kind: str  # attempt | promoted | retried
    at_ms: int
    attempt: int = 0
    outcome: str | None = None  # completed | failed | retrying | stalled | cancelled
    started_ms: int | None = None
    ended_ms: int | None = None
    worker_id: str | None = None
    error: bytes | None = None


class JobRecord(msgspec.Struct, kw_only=True):
    """A job as the store knows it. JSON fields are texts, times unix ms; absent things are None."""

    id: str
    queue: str
    task: str
    state: State
    sequence: int
    data: bytes
    metadata: bytes
    webhooks: dict[str, str]
    max_attempts: int
    submitted_ms: int
    priority: int = 0
    attempt: int = 0
    failures: int = 0
    stalls: int = 0
    result: bytes | None = None
    error: bytes | None = None
    error_code: str | None = None
    progress: bytes | None = None
    worker_id: str | None = None
    run_at_ms: int | None = None
    started_ms: int | None = None
    heartbeat_ms: int | None = None
    ended_ms: int | None = None
    lease_expires_ms: int | None = None
    concurrency_key: str | None = None
    version: int = 0
    history: list[Attempt] = []
    depends_on: tuple[str, ...] = ()
    parents: bytes | None = None
