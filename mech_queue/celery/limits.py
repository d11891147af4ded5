"""Prefork: the time limits of the jobs that a process of the pool runs one after another (series.py).

To the pool they are one call, and its limits are for calls. Here each job has its own: the pool's way of stopping a
body, with timers that begin anew with each job.
"""

import time
from typing import TYPE_CHECKING, Any

from kombu.asynchronous import get_event_loop

if TYPE_CHECKING:
    from mech_queue.celery.requests import JobRequest


class TimeLimits:
    """Of one call of the pool. ``pool``: billiard's; ``call``: what it made of ``apply_async``, not accepted yet."""

    def __init__(self, pool: Any, call: Any, first: "JobRequest") -> None:
        self._pool, self._call, self._job = pool, call, first
        self._timer: Any = None
        self._loop: Any = get_event_loop()
        call._on_timeout_set = lambda *_: self.begin(first, call._time_accepted)
        call._on_timeout_cancel = lambda *_: self.end()

    def begin(self, job: "JobRequest", accepted_at: float) -> None:
        """The call is at this job since ``accepted_at`` (monotonic seconds)."""
        self.end()
        self._job = job
        self._call._time_accepted = accepted_at  # a shutdown looks at it, without these timers
        self._call._timeout, self._call._soft_timeout = hard, soft = limits_of(job, self._pool)
        passed = time.monotonic() - accepted_at
        if soft:
            self._timer = self._loop.call_later(max(0, soft - passed), self._soft)
        elif hard:
            self._timer = self._loop.call_later(max(0, hard - passed), self._hard)

    def end(self) -> None:
        """Nothing is limited any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _soft(self) -> None:
        if self._is_over():
            return
        hard, soft = self._call._timeout, self._call._soft_timeout
        self._timer = self._loop.call_later(hard - soft, self._hard) if hard else None
        self._pool.on_soft_timeout(self._call)

    def _hard(self) -> None:
        # The store hears of it before the process is killed: from then on the job's end claims nothing.
        if not self._is_over() and self._job.time_out(self._call._timeout) and not self._is_over():
            self._pool.on_hard_timeout(self._call)

    def _is_over(self) -> bool:
        """Has the job ended, though the message that says so is on its way? It brings the limits of the next one."""
        return self._call.ready() or self._job.is_followed(self._job.wake.consumer.pool)


def limits_of(job: "JobRequest", pool: Any) -> tuple[float | None, float | None]:
    """Hard and soft limit in seconds: of the job, its task, or the pool (billiard's)."""
    hard, soft = job.time_limits
    return hard or job.task.time_limit or pool.timeout, soft or job.task.soft_time_limit or pool.soft_timeout
