"""A delivery: one event on its way to one receiver, its attempts and how each ended."""

from dataclasses import dataclass, field
from enum import StrEnum

from mech_queue.model.job import State

EXCERPT_BYTES = 16_384
"""How much of a receiver's answer is read and kept."""

TOTAL_S = 15.0
"""Longest attempt, from resolving the name to the last byte of the answer."""

CONNECT_S = 5.0
"""Longest wait for connections to all addresses of a receiver, within the total."""

LEASE_MARGIN_S = 15.0
"""How much longer than its attempt a delivery is leased: a worker that is alive has reported by then."""


class ErrorCode(StrEnum):
    """Why an attempt failed."""

    STATUS = "http_status"  # the receiver answered, but not with 2xx
    REDIRECT = "redirect"  # 3xx: never followed
    GONE = "gone"  # 410: the receiver wants no more
    TIMEOUT = "timeout"
    DNS = "dns_error"
    BLOCKED = "blocked_address"  # the name leads to a private or reserved address
    CONNECT = "connect_error"
    TLS = "tls_error"
    CLOSED = "connection_closed"  # before an answer
    PROTOCOL = "protocol_error"  # an answer that is no HTTP
    INVALID = "invalid_request"  # our own side: a stored URL, header or secret cannot be used
    INTERRUPTED = "interrupted"  # the worker died while it was sending


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended. ``status`` is the receiver's, None when there was no answer."""

    success: bool
    status: int | None = None
    error_code: ErrorCode | None = None
    error: str | None = None  # one sentence; names no address and no secret
    duration_ms: int = 0
    excerpt: bytes = b""
    truncated: bool = False
    retry_after_ms: int | None = None

    @property
    def permanent(self) -> bool:
        """Whether another attempt makes no sense: the receiver said 410."""
        return self.error_code is ErrorCode.GONE

    @property
    def overloaded(self) -> bool:
        """Whether the receiver is short of breath, so that all its deliveries should wait."""
        return self.status in (429, 502, 503, 504) or self.error_code is ErrorCode.TIMEOUT


class DeliveryState(StrEnum):
    """What the API shows of a delivery. Stored as the state of the job that it is inside."""

    PENDING = "pending"  # waits for its first or next attempt
    SENDING = "sending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # after its last attempt
    CANCELLED = "cancelled"  # its subscription was disabled or deleted meanwhile
    SKIPPED = "skipped"  # its subscription was disabled when the event happened; replay sends it


BY_STATE = {
    State.WAITING: DeliveryState.PENDING,
    State.DELAYED: DeliveryState.PENDING,
    State.ACTIVE: DeliveryState.SENDING,
    State.COMPLETED: DeliveryState.SUCCEEDED,
    State.FAILED: DeliveryState.FAILED,
    State.CANCELLED: DeliveryState.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of a delivery's log. ``number`` counts from 1; ``at_ms`` is unix time."""

    number: int
    at_ms: int
    duration_ms: int
    success: bool
    status: int | None = None
    error_code: str | None = None
    error: str | None = None
    excerpt: bytes = b""
    truncated: bool = False
    manual: bool = False


@dataclass(slots=True)
class DeliveryRecord:
    """A delivery as the store knows it; ``url`` is shown without its query. Times are unix ms.

    ``body``, what every attempt sends, and ``attempts`` are those of one that was asked for by itself.
    """

    id: str
    application_id: str
    job_id: str
    event: str
    state: DeliveryState
    url: str = field(repr=False)
    subscription_id: str | None
    sequence: int
    queue: str
    created_ms: int
    attempt: int = 0
    next_attempt_ms: int | None = None
    ended_ms: int | None = None
    last_status: int | None = None
    last_error_code: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    body: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class DeliveryQuery:
    """Filters of the list, which must all hold. Times are unix ms, ``after`` inclusive, ``before`` exclusive."""

    job_id: str | None = None
    subscription_id: str | None = None
    states: tuple[DeliveryState, ...] = ()
    after_ms: int | None = None
    before_ms: int | None = None
    limit: int = 100
    cursor: str | None = None


@dataclass(slots=True)
class DeliveryPage:
    """One page. ``next_cursor`` None: the deliveries ended here."""

    deliveries: list[DeliveryRecord] = field(default_factory=list)
    next_cursor: str | None = None


def shown_url(url: str) -> str:
    """A URL as it may be shown: without its query, where tokens stand."""
    head, mark, _ = url.partition("?")
    return f"{head}?…" if mark else head


def excerpt_text(excerpt: bytes) -> str:
    """A receiver's answer as text, whatever bytes it sent."""
    return excerpt.decode("utf-8", "replace")
