"""The job that a task body runs, as its own process knows it.

It travels inside Celery's request (``task.request.mech_queue``) into the pool's process, thread or
greenlet, so the place where the real return value is can report it under the job's lease.
"""

import json
from dataclasses import dataclass
from typing import Any

from mech_queue.model.job import Claim, ClaimedJob, State
from mech_queue.store import keys

WAKE_UP_PREFIX = "jobs."

REQUEST_KEY = "mech_queue"
"""Key in Celery's request; absent for ordinary ``.delay()`` calls."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where work waits: one queue of one application."""

    application_id: str
    queue: str

    @property
    def broker_queue(self) -> str:
        """The Celery queue of its wake-ups."""
        return keys.broker_list(self.application_id, self.queue)

    @classmethod
    def of(cls, broker_queue: str) -> "Place | None":
        """The place that a Celery queue stands for; None for one without wake-ups."""
        application_id, _, queue = broker_queue.removeprefix(WAKE_UP_PREFIX).partition(".")
        return cls(application_id, queue) if broker_queue.startswith(WAKE_UP_PREFIX) and queue else None


@dataclass(slots=True)
class Retry:
    """What a body asked for by ``self.retry``. ``data`` None: the same arguments again."""

    delay_ms: int | None = None
    data: bytes | None = None


@dataclass(slots=True)
class HeldJob:
    """A job under our lease. Under prefork the pool's process has a copy, elsewhere it is shared.

    ``settled``: this process has reported its end. ``outcome``: what the store made of it, where known.
    ``result``: JSON text of the return value, set when the body returns. ``gone``: why somebody else
    ended the job (``cancelled`` or ``lost``), set by the lease thread. ``worker_id``: the worker that claimed it.
    ``claims``: its end may claim the next job for the same wake-up. ``following``: what it got, None: it did not ask.
    ``in_series``: the pool's process may begin with that by itself.
    ``asked_at``: when the body last asked whether it was cancelled.
    """

    place: Place
    job: ClaimedJob
    settled: bool = False
    outcome: State | None = None
    result: bytes | None = None
    retry: Retry | None = None
    gone: str | None = None
    worker_id: str = ""
    claims: bool = False
    following: Claim | None = None
    in_series: bool = False
    asked_at: float = 0.0

    @classmethod
    def of(cls, claim: Claim, place: Place, worker_id: str, claims: bool) -> "HeldJob":
        """The one job of ``claim``."""
        return cls(place, claim.jobs[0], worker_id=worker_id, claims=claims and claim.runnable > 0)

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def application_id(self) -> str:
        """The application whose job this is."""
        return self.place.application_id

    def repeats(self, asked: bool) -> bool:
        """Would one more reported failure be followed by another attempt? The rule of the store.

        ``asked``: the task asked for the retry itself and Celery's ``max_retries`` granted it.
        """
        if asked and not self.job.attempts_given:
            return True
        return self.job.failures + 1 < self.job.max_attempts


def held_by(task: Any) -> HeldJob | None:
    """The job that ``task`` runs right now in this thread, or None for an ordinary call."""
    held = getattr(task.request, REQUEST_KEY, None)
    return held if isinstance(held, HeldJob) else None


def json_bytes(value: Any) -> bytes:
    """JSON text as the service accepts it: no NaN, no lone surrogates. Raises TypeError or ValueError."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
