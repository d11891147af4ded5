"""Prefork: the jobs that one process of the pool runs one after another.

The end of a short job claims the next one (ADR 0010), and the process that ran it begins with that by itself: it tells
the main process through the pool's own pipe and does not wait for it (ADR 0011). To the pool all of them are one call.
"""

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from billiard.process import current_process
from celery import current_app
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.request import Request
from kombu.asynchronous import get_event_loop

from mech_queue.celery.arguments import call_arguments
from mech_queue.celery.board import Entry
from mech_queue.celery.endings import MAIN_PAUSES_S, give_back, settle
from mech_queue.celery.held import REQUEST_KEY, HeldJob, Place
from mech_queue.celery.limits import TimeLimits
from mech_queue.celery.requests import NO_CANVAS, JobRequest, job_headers, job_properties
from mech_queue.celery.runtime import runtime_of
from mech_queue.celery.tasks import task_of
from mech_queue.model.job import Claim, Report
from mech_queue.services import jobs

if TYPE_CHECKING:
    from mech_queue.celery.runtime import Runtime

logger = get_logger("mech_queue")

FOLLOWED = "mech_queue.followed"
"""Kind of message in the pool's pipe: a job has succeeded, and its process runs what that end has claimed."""


class Series:
    """The main process's view. ``current``: the job that the process runs, as far as it has told."""

    def __init__(self, first: JobRequest) -> None:
        self.current = first
        self._limits: TimeLimits | None = None

    def start(self, pool: Any) -> bool:
        """Hand the first job to a process of the pool. False: the pool is closing."""
        first = self.current
        self._take(first)
        if first.runtime.board.open and _may_go_on(pool._pool):
            first.held.in_series, first.held.claims = True, first.runnable > 0
        _listen(pool._pool, first.runtime)

        def apply_async(trace: Any, args: tuple[Any, ...], **options: Any) -> Any:
            options["callback"] = lambda returned: self.current.on_success(returned)
            options["error_callback"] = self._fail
            options["timeout_callback"] = lambda soft, timeout: self.current.on_timeout(soft, timeout)
            call = pool.apply_async(run_series, (trace, *args), **options)
            if call is not None and first.held.in_series:
                self._limits = TimeLimits(pool._pool, call, first)
            return call

        return Request.execute_using_pool(first, SimpleNamespace(apply_async=apply_async)) is not None

    def follow(self, claim: Claim, runtime_s: float, accepted_at: float) -> None:
        """The current job has succeeded after ``runtime_s``, and since ``accepted_at`` (monotonic seconds) its process
        has run the claimed one."""
        ended = self.current
        held = following_of(ended.held, claim)
        job = self.current = JobRequest(ended.runtime, ended.wake, held, ended.app.tasks[held.job.task], claim.runnable)
        self._take(job)
        job._apply_result, job.worker_pid = ended._apply_result, ended.worker_pid
        if self._limits is not None:
            self._limits.begin(job, accepted_at)
        # as on_accepted does, which may come much later
        job.time_start = time.time() - (time.monotonic() - accepted_at)
        try:
            job.received(ended.wake.consumer)  # first of all: the rest waits for the broker, where there are monitors
        finally:
            ended.succeeded(runtime_s)
        job.on_accepted(ended.worker_pid, accepted_at)
        if job.id in worker_state.revoked:  # in this very moment, or the process would have asked us
            job.terminate(ended.wake.consumer.pool)

    def _fail(self, exc_info: Any) -> None:
        """The body or its process broke off. Where two die at once, the pool drops what the second process has told."""
        current = self.current
        token = current.held.job.lease_token
        entries = [entry for entry in current.runtime.board.all() if entry.pid == current.worker_pid]
        give_back_untold(current.runtime, [entry for entry in entries if entry.lease_token != token])
        current.on_failure(exc_info)

    def _take(self, job: JobRequest) -> None:
        job.claimed_in_main, job.series = True, self


def _may_go_on(pool: Any) -> bool:
    """May its processes go on by themselves? Limits of the pool (memory, number of calls) are for one call; time limits
    need the main loop (limits.py)."""
    return not (pool._maxtasksperchild or pool._max_memory_per_child or get_event_loop() is None)


def _listen(pool: Any, runtime: "Runtime") -> None:
    def followed(ended_id: str, *told: Any) -> None:
        try:
            _followed(runtime, ended_id, *told)
        except Exception:
            logger.exception("What follows job %s is known to its process only", ended_id)

    pool._result_handler.state_handlers.setdefault(FOLLOWED, followed)


def _followed(runtime: "Runtime", ended_id: str, place: Place, claim: Claim, *times: float) -> None:
    ended = runtime.running.find(ended_id)
    if ended is not None:
        ended.series.follow(claim, *times)
    else:  # stopped here meanwhile, and with it the process
        settle(runtime.store, HeldJob(place, claim.jobs[0]), Report(claim.jobs[0].id, "stall"), MAIN_PAUSES_S)


def give_back_untold(runtime: "Runtime", entries: list[Entry]) -> None:
    """What stopped processes had, as far as the main process has not heard of it."""
    for entry in entries:
        if runtime.running.knows(entry.job_id, entry.lease_token):
            continue
        report = Report(entry.job_id, "stall" if entry.begun else "release", entry.lease_token)
        try:
            jobs.report(runtime.store, entry.application_id, report)
        except Exception as error:
            logger.info("Job %s was not given back: %s", entry.job_id, error)
            if entry.begun:  # it may have ended before, and this end have claimed another
                runtime.gate.lost(Place(entry.application_id, entry.queue), entry.lease_token)


def following_of(ended: HeldJob, claim: Claim) -> HeldJob:
    """What the end of a job has claimed."""
    held = HeldJob.of(claim, ended.place, ended.worker_id, ended.claims)
    held.in_series = ended.in_series
    return held


# In the process of the pool.


def run_series(trace: Any, task: str, job_id: str, request: dict[str, Any], *body: Any) -> tuple[Any, Any, Any]:
    """Run bodies as Celery does. Where that sends a repr of the result to the main process, which shows it to nobody,
    goes what the last end has claimed (a Claim or None)."""
    runtime, number = runtime_of(current_app._get_current_object()), current_process().index
    held: HeldJob = request[REQUEST_KEY]
    held.in_series = held.in_series and runtime.board.write(number, Entry.of(held, begun=True))
    while True:
        failed, returned, runtime_s = trace(task, job_id, request, *body)
        claim = held.following
        if failed and claim is not None:  # Celery broke off between the report and its return
            give_back(runtime.store, held.place, claim)
        following = None
        if not failed and held.in_series and claim is not None and claim.jobs:
            following = _following(runtime, number, request, claim)
        if following is None:
            _over(runtime, number, held, None if failed else claim)
            return failed, returned if failed else claim, runtime_s
        current_process().outq.put((FOLLOWED, (job_id, held.place, claim, runtime_s, time.monotonic())))
        request, body = following
        held, task, job_id = request[REQUEST_KEY], request["task"], request["id"]
        held.job.data = b""  # it has become arguments


def _following(
    runtime: "Runtime", number: int, request: dict[str, Any], claim: Claim
) -> tuple[dict[str, Any], tuple[Any, ...]] | None:
    """Request and body of the claimed job; None when the main process must start it."""
    held = following_of(request[REQUEST_KEY], claim)
    task = task_of(runtime.app, held.job.task)
    if task is None:
        return None
    try:
        args, kwargs = call_arguments(task, held.job.data)
    except Exception:  # the main process says what is wrong with it
        return None
    if not runtime.board.write(number, Entry.of(held, begun=True)):
        return None
    properties = job_properties(held.job)
    request = {
        **request,
        **job_headers(task, held, runtime.options),
        "properties": properties,
        "correlation_id": held.id,
        "delivery_info": {**request["delivery_info"], "priority": properties["priority"]},
    }
    return request, ((args, kwargs, dict(NO_CANVAS)), None, None)


def _over(runtime: "Runtime", number: int, ended: HeldJob, claim: Claim | None) -> None:
    """The series is over; the main process starts what was claimed, or gives it back in a cold shutdown."""
    if claim is not None and claim.jobs:
        runtime.board.write(number, Entry.of(following_of(ended, claim), begun=False))
    else:
        runtime.board.clear(number)
