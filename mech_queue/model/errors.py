"""The closed list of refusals, in one place for every layer.

A refusal has one code, one HTTP status and one sentence that tells a person what to do. The
store, the services, the API and the client speak of refusals only with these words
(CONTRACT.md, "Envelope").
"""

from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """Why a request was refused. The value is what stands in ``code`` on the wire."""

    BAD_JSON = "BAD_JSON"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    QUEUE_NOT_ALLOWED = "QUEUE_NOT_ALLOWED"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    JOB_TAKEN = "JOB_TAKEN"
    NOT_DUE = "NOT_DUE"
    JOB_ENDED = "JOB_ENDED"
    JOB_CANCELLED = "JOB_CANCELLED"
    JOB_ACTIVE = "JOB_ACTIVE"
    LEASE_LOST = "LEASE_LOST"
    QUEUE_PAUSED = "QUEUE_PAUSED"
    LIMIT_REACHED = "LIMIT_REACHED"
    QUEUE_DRAINING = "QUEUE_DRAINING"
    CONFLICT = "CONFLICT"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    TOO_LARGE = "TOO_LARGE"
    NOT_JSON = "NOT_JSON"
    INVALID = "INVALID"
    QUEUE_FULL = "QUEUE_FULL"
    RATE_LIMITED = "RATE_LIMITED"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    STORE_FULL = "STORE_FULL"
    INTERNAL = "INTERNAL"


STATUS: dict[Code, int] = {
    Code.BAD_JSON: 400,
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.QUEUE_NOT_ALLOWED: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.JOB_TAKEN: 409,
    Code.NOT_DUE: 409,
    Code.JOB_ENDED: 409,
    Code.JOB_CANCELLED: 409,
    Code.JOB_ACTIVE: 409,
    Code.LEASE_LOST: 409,
    Code.QUEUE_PAUSED: 409,
    Code.LIMIT_REACHED: 409,
    Code.QUEUE_DRAINING: 409,
    Code.CONFLICT: 409,
    Code.IDEMPOTENCY_CONFLICT: 409,
    Code.TOO_LARGE: 413,
    Code.NOT_JSON: 415,
    Code.INVALID: 422,
    Code.QUEUE_FULL: 429,
    Code.RATE_LIMITED: 429,
    Code.STORE_UNAVAILABLE: 503,
    Code.STORE_FULL: 503,
    Code.INTERNAL: 500,
}


class Refusal(Exception):
    """A request that was understood and refused; nothing was changed.

    ``code`` says why to a program, ``message`` to a person, ``details`` names the fields (for
    ``INVALID``: field path -> list of sentences) or the facts. ``retry_after`` is in seconds.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        details: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or {}
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """The HTTP status that carries this refusal."""
        return STATUS[self.code]


class StoreStopped(Exception):
    """The store cannot serve this process at all (other protocol, other store id).

    Not a refusal of one request: the process prints the sentence and stops.
    """
