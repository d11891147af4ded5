"""A wake-up that waits for a free slot; with the slot it claims the next job from the store.

Wake-ups are fungible: this one names an application and a queue, and whatever is next there is what it
gets. It is acknowledged without a trace when there is nothing to do.
"""

import os
import time
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo
from celery import bootsteps
from celery.app import trace
from celery.exceptions import TaskRevokedError, WorkerShutdown, WorkerTerminate
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.request import Request

from mech_queue.celery.endings import MAIN_PAUSES_S, error_json, error_of, give_back, settle
from mech_queue.celery.held import HeldJob, Place
from mech_queue.celery.requests import JobRequest
from mech_queue.celery.series import Series
from mech_queue.celery.tasks import task_of
from mech_queue.model.job import Claim, Report

if TYPE_CHECKING:
    from mech_queue.celery.runtime import Runtime

logger = get_logger("mech_queue")

UNKNOWN_TASK = "UNKNOWN_TASK"
MISFITS_PER_WAKE_UP = 20
"""Jobs of unknown tasks that one wake-up puts aside before it leaves the rest to the next one: the main
process must not spend seconds on a queue that is full of them."""


class WakeRequest(Request):
    """See the module. ``exchanges``: the end of any job may claim the next one in the same step.
    ``received_at``: monotonic seconds. ``_following``: what the end of the last job claimed."""

    def __init__(
        self, runtime: "Runtime", consumer: Any, place: Place, message: Any, *, exchanges: bool, **options: Any
    ) -> None:
        super().__init__(message, body=([], {}, {}), headers=message.headers, decoded=True, **options)
        self.runtime, self.consumer, self.place = runtime, consumer, place
        self.exchanges = exchanges
        self.received_at = time.monotonic()
        self._following: Claim | None = None

    # Claiming.

    def next_job(self) -> JobRequest | None:
        """Claim and build the next job; None when there is nothing to do, and this wake-up is done with."""
        for _ in range(MISFITS_PER_WAKE_UP):
            claim, self._following = self._following, None
            claim = claim or self.runtime.gate.claim(self.place, self.received_at, self.hostname)
            if claim is None:
                break
            request = self._build(claim)
            if request is None:
                continue  # put aside; the slot is still free
            if request.id in worker_state.revoked:  # `celery control revoke` before it started
                request._announce_revoked("revoked", False, None, False)
                continue
            self._done()
            return request
        if self.runtime.refused:
            # Newer workers understand this wake-up; it is theirs.
            self._done(requeue=True)
        else:
            self._done()
        return None

    def _build(self, claim: Claim) -> JobRequest | None:
        held = HeldJob.of(claim, self.place, self.hostname, self.exchanges)
        task = task_of(self.app, held.job.task)
        if task is None:
            self._put_aside(held)
            return None
        try:
            return JobRequest(self.runtime, self, held, task, claim.runnable)
        except Exception as error:  # data that cannot be read must not take the worker down
            logger.exception("Job %s cannot be run", held.id)
            report = Report(held.id, "fail", error=error_of(error), retry=False)
            settle(self.runtime.store, held, report, MAIN_PAUSES_S)
            return None

    def _put_aside(self, held: HeldJob) -> None:
        """No such task here. In a mixed fleet another worker may know it, so the job goes back for a while,
        its attempt not counted; the store counts these returns and fails the job at the fifth."""
        sentence = f"no worker that took the job has a task named {held.job.task!r}"
        logger.error("Job %s: %s", held.id, sentence)
        report = Report(held.id, "release", error=error_json("UnknownTask", sentence), error_code=UNKNOWN_TASK)
        report.delay_ms = self.runtime.options.unknown_task_delay_ms
        settle(self.runtime.store, held, report, MAIN_PAUSES_S)

    def _done(self, requeue: bool = False) -> None:
        try:
            if requeue:
                self.reject(requeue=True)
            else:
                self.acknowledge()
        except Exception:
            logger.exception("A wake-up could not be acknowledged")  # harmless: it will be empty
        worker_state.task_ready(self)

    def stopping(self) -> bool:
        """Is this worker on its way out? Then nothing is claimed, and the broker gets its message back."""
        return (
            self.runtime.quitting
            or worker_state.should_stop not in (None, False)
            or worker_state.should_terminate not in (None, False)
            or self.consumer.blueprint.state != bootsteps.RUN
            or self.consumer.controller.blueprint.state != bootsteps.RUN
        )

    # Running.

    def execute_using_pool(self, pool: Any, **_: Any) -> Any:
        """Called with a free slot under prefork, at receipt elsewhere; there the pool's thread claims."""
        if self.stopping():
            self._give_following_back()
            raise TaskRevokedError(self.id)  # unacknowledged: the closing channel returns it
        if not pool.uses_semaphore:
            return pool.apply_async(self._run_in_pool, (pool,), callback=_ignore)
        try:
            if self._start_in_child(pool):
                return None
        except Exception:
            logger.exception("A wake-up failed")
        self.runtime.slots.release(self.consumer.controller)
        return None

    def _start_in_child(self, pool: Any) -> bool:
        """Claim here, in the main process, and hand the job to a child. True: it is on its way."""
        job = self.next_job()
        if job is None:
            return False
        try:
            job.received(self.consumer)
            if Series(job).start(pool):
                return True
            logger.warning("Job %s: the pool is closing; given back", job.id)
        except Exception:
            logger.exception("Job %s could not be started; given back", job.id)
        job.give_back()
        return False

    def serve_again(self, following: Claim | None) -> None:
        """The chain under prefork: with what the end of the last job claimed, or by asking for a slot once more.

        The slot of that job is free again, unless a message that waited for one has it now.
        """
        if following is not None and not following.jobs:
            return
        self._following = following
        if following is None and not self.runtime.chain.goes_on():
            return
        if self.stopping() or (following and self.consumer.controller.semaphore.value <= 0):
            self._give_following_back()
            return
        self.received_at = time.monotonic()
        worker_state.task_reserved(self)
        self.consumer.on_task_request(self)

    def _give_following_back(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            give_back(self.runtime.store, self.place, following)

    def _run_in_pool(self, pool: Any) -> None:
        """In a thread or greenlet of the pool, or inline in solo; the chain is a loop here."""
        while self._run_one(pool) and (self._following or self.runtime.chain.goes_on()):
            self.received_at = time.monotonic()

    def _run_one(self, pool: Any) -> bool:
        """Run the next job here. True: there is more, and nothing speaks against going on."""
        job: JobRequest | None = None
        try:
            if self.stopping():
                self._give_following_back()
                worker_state.task_ready(self)  # unacknowledged: returned to the broker
                return False
            job = self.next_job()
            if job is None:
                return False
            job.received(self.consumer)
            job.on_accepted(getattr(pool, "getpid", os.getpid)(), time.monotonic())
            returned = self._trace(pool, job)
            if returned is None:
                return False
            job.on_success(returned)
            following = job.held.following
            if following is not None:
                self._following = following if following.jobs else None
                return bool(following.jobs)
            return bool(job.runnable and not returned[0])
        except BaseException as error:  # sys.exit, GreenletExit, and mistakes of ours
            self._broken(job, error)
            return False

    def _trace(self, pool: Any, job: JobRequest) -> Any:
        """Run the body as Celery does; None when gevent's time limit cut it."""
        run = trace.fast_trace_task if self.app.use_fast_trace_task else trace.trace_task_ret
        arguments = (job.type, job.id, job.request_dict, job.body, None, None)
        limit = job.time_limits[0] or job.task.time_limit
        if not (limit and pool.is_green and pool.__module__.endswith("gevent")):
            return run(*arguments)  # threads and solo have no time limits, as in Celery itself
        from gevent import Timeout

        with Timeout(limit, False):
            return run(*arguments)
        job.on_timeout(False, limit)
        return None

    def _broken(self, job: JobRequest | None, error: BaseException) -> None:
        if job is None:
            logger.error("A wake-up failed", exc_info=error)
            if not isinstance(error, Exception):
                raise error
            return
        worker_state.task_ready(job)
        if type(error).__name__ == "GreenletExit":  # stopped by terminate or cancel, which tell it
            if not (job._already_revoked or job._already_cancelled):
                job._announce_revoked("terminated", True, None, False)
            return
        job.on_failure(ExceptionInfo())
        if isinstance(error, WorkerShutdown | WorkerTerminate):
            raise error


def _ignore(*_: Any) -> None:
    """The pool's callback: the wake-up itself has no result."""
