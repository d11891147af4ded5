"""``current_job()``: what a task body may ask and tell about the job it runs."""

import json
import time
from typing import Any

from celery import current_task
from celery.exceptions import Ignore

from mech_queue.celery.held import HeldJob, held_by
from mech_queue.celery.runtime import runtime_of
from mech_queue.celery.tasks import report_progress
from mech_queue.model.errors import Code, Refusal
from mech_queue.services import jobs

CANCEL_LOOK_S = 1.0
"""``check_cancelled`` may stand in a tight loop: it asks the store at most this often."""


class JobCancelled(Ignore):
    """The job was cancelled, or another worker has it now: stop. Let it pass and the task just ends."""


class CurrentJob:
    """The job that the running task body works on."""

    def __init__(self, task: Any, held: HeldJob) -> None:
        self._task = task
        self._held = held

    @property
    def id(self) -> str:
        """The job's id; also ``self.request.id``."""
        return self._held.id

    @property
    def application_id(self) -> str:
        """The application that submitted it."""
        return self._held.application_id

    @property
    def queue(self) -> str:
        """Its queue."""
        return self._held.place.queue

    @property
    def attempt(self) -> int:
        """Which start this is, from 1."""
        return self._held.job.attempt

    @property
    def max_attempts(self) -> int:
        """How many reported failures end it."""
        return self._held.job.max_attempts

    @property
    def priority(self) -> int:
        """Its priority when it was claimed."""
        return self._held.job.priority

    @property
    def metadata(self) -> dict[str, Any]:
        """Its metadata when it was claimed (a fresh copy)."""
        parsed = json.loads(self._held.job.metadata or b"{}")
        return parsed if isinstance(parsed, dict) else {}

    @property
    def parents(self) -> dict[str, Any]:
        """Results of the jobs it depended on, by their id."""
        parsed = json.loads(self._held.job.parents or b"{}")
        return parsed if isinstance(parsed, dict) else {}

    def progress(self, value: Any) -> None:
        """Report progress (any JSON value, usually a number or an object) and renew the lease.

        Raises JobCancelled when the job is not ours any more; a store that is away is passed over.
        """
        self._ask(lambda: report_progress(self._task, self._held, value))

    def log(self, line: str) -> None:
        """Add a line to the job's log (``GET /api/jobs/{id}/logs``). Raises JobCancelled."""
        store = runtime_of(self._task.app).store
        self._ask(lambda: jobs.log(store, self.application_id, self.id, [line]))

    def check_cancelled(self) -> None:
        """Raise JobCancelled when the job was cancelled or lost. Cheap enough for every turn of a loop.

        Pools that can stop a body (prefork, gevent) do so by themselves; in threads and solo a long body
        should call this.
        """
        held, now = self._held, time.monotonic()
        if held.gone:
            raise JobCancelled(held.gone)
        if now - held.asked_at >= CANCEL_LOOK_S:
            held.asked_at = now
            self._ask(self._heartbeat)

    def _heartbeat(self) -> None:
        runtime, held = runtime_of(self._task.app), self._held
        answer = jobs.heartbeat(
            runtime.store,
            held.application_id,
            held.id,
            held.job.lease_token,
            lease_ms=runtime.options.lease_ms,
        )
        if answer.cancelled:
            raise Refusal(Code.JOB_CANCELLED, "the job was cancelled")

    def _ask(self, call: Any) -> None:
        try:
            call()
        except Refusal as refusal:
            if refusal.code in (Code.STORE_UNAVAILABLE, Code.STORE_FULL):
                return  # the work goes on; the lease thread keeps the job as long as it can
            if refusal.code in (Code.JOB_CANCELLED, Code.LEASE_LOST, Code.JOB_ENDED, Code.NOT_FOUND):
                self._held.gone = "cancelled" if refusal.code is Code.JOB_CANCELLED else "lost"
                raise JobCancelled(refusal.message) from None
            raise


def current_job() -> CurrentJob | None:
    """The job that this body runs; None in an ordinary ``.delay()`` or direct call: one body can do both."""
    if not current_task:
        return None
    task = current_task._get_current_object()
    held = held_by(task)
    return CurrentJob(task, held) if held is not None else None
