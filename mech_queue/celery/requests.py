"""A claimed job as a Celery request: the user's own task, under the job's id.

Where an attempt ends: its body's own endings are reported in the body's process (signals.py), because
only there is the real return value. Here, in the main process, are the endings that no body lives to tell:
a hard time limit, a lost process, a revoke, a shutdown. Each attempt sends exactly one closing event.
"""

import contextlib
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery import signals
from celery.exceptions import Ignore, Reject, Retry, Terminated, TimeLimitExceeded
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.request import Request

from mech_queue.celery.arguments import call_arguments
from mech_queue.celery.board import process_by
from mech_queue.celery.endings import ENDED_ELSEWHERE, MAIN_PAUSES_S, error_json, error_of, settle
from mech_queue.celery.held import REQUEST_KEY, HeldJob
from mech_queue.celery.options import Options
from mech_queue.celery.summary import ARGUMENTS, kwargs_summary
from mech_queue.model.errors import Refusal
from mech_queue.model.job import ClaimedJob, Report, State
from mech_queue.services import jobs

if TYPE_CHECKING:
    from mech_queue.celery.runtime import Runtime
    from mech_queue.celery.wake import WakeRequest

logger = get_logger("mech_queue")

NO_CANVAS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
HIGHEST_BROKER_PRIORITY = 9

EVENT_OF_STATE: dict[State | None, str] = {
    State.COMPLETED: "task-succeeded",
    State.FAILED: "task-failed",
    State.CANCELLED: "task-revoked",
    State.WAITING: "task-retried",
    State.DELAYED: "task-retried",
}


class JobRequest(Request):
    """Built directly, not by Celery's ``create_request_cls``, whose class overrides these methods without
    calling ours. ``claimed_in_main``: prefork; elsewhere the job is claimed by the thread that runs it.
    ``series``: under prefork, the jobs that its process runs one after another (series.py)."""

    def __init__(self, runtime: "Runtime", wake: "WakeRequest", held: HeldJob, task: Any, runnable: int) -> None:
        job = held.job
        args, kwargs = call_arguments(task, job.data)
        # The data has become arguments: do not send it into the pool's process twice.
        job.data = b""
        self.runtime, self.wake, self.held, self.runnable = runtime, wake, held, runnable
        self.claimed_in_main = False
        self.series: Any = None
        self.lost_since: float | None = None
        self._told = False
        self.claimed_at = time.monotonic()
        headers = job_headers(task, held, runtime.options)
        message = SimpleNamespace(
            headers=headers, delivery_info=wake.message.delivery_info, properties=job_properties(job)
        )
        super().__init__(
            message,
            app=wake.app,
            hostname=wake.hostname,
            eventer=wake.consumer.event_dispatcher,
            task=task,
            connection_errors=wake.connection_errors,
            body=(args, kwargs, dict(NO_CANVAS)),
            headers=headers,
            decoded=True,
            utc=True,
        )
        # The wake-up is acknowledged at the claim: nothing is left for acks_late or reject_on_worker_lost.
        self.acknowledged = True

    def received(self, consumer: Any) -> None:
        """Known to the worker, to its monitors, and from now on renewed."""
        worker_state.task_reserved(self)
        self.runtime.running.add(self)
        signals.task_received.send(sender=consumer, request=self)
        self.send_event(
            "task-received",
            name=self.name,
            args=self.argsrepr,
            kwargs=self.kwargsrepr,
            root_id=self.id,
            parent_id=None,
            retries=self._request_dict["retries"],
            eta=None,
            expires=None,
        )
        logger.info("Job %s[%s] received", self.name, self.id)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """For ``inspect`` and Flower: the summary in place of the arguments, which are the job's data."""
        return dict(super().info(safe=True), args=self.argsrepr, kwargs=self.kwargsrepr)

    def forget(self) -> None:
        """No more renewals; waits while somebody is stopping this very body."""
        self.runtime.running.remove(self)

    def close(self, report: Report) -> State | None:
        """Settle in the main process, unless the body's process has (where the two share the job)."""
        state = settle(self.runtime.store, self.held, report, MAIN_PAUSES_S)
        if state is None and self.held.claims:
            # A process that died on its way from the store to us: the job has ended, and the claim may have another.
            self.runtime.gate.lost(self.held.place, self.held.job.lease_token)
        return state

    def give_back(self) -> State | None:
        """Not started after all: back to its queue, the attempt not counted."""
        self.forget()
        worker_state.task_ready(self)
        return self.close(Report(self.id, "release"))

    # Stops that Celery asks for.

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """``control revoke --terminate``, and the lease thread for a job that is ours no longer.

        A pool that cannot stop a body raises NotImplementedError. A job that was revoked is cancelled all the same.
        """
        if self.held.in_series and not self.held.gone and not self._cancel():
            return  # it has ended by itself: its process runs the next one, or will say so
        if self.is_followed(pool):
            return
        try:
            super().terminate(pool, signal)
        except NotImplementedError:
            if self.held.gone:
                raise
            jobs.cancel(self.runtime.store, self.held.application_id, self.id)  # the lease thread tells the body

    def is_followed(self, pool: Any) -> bool:
        """Has its process ended it and begun with the next one? The message that says so may be on its way."""
        process = process_by(pool, self.worker_pid) if self.held.in_series else None
        entry = None if process is None else self.runtime.board.of(process)
        return entry is not None and entry.lease_token != self.held.job.lease_token

    def is_in_pool(self) -> bool:
        """Prefork: has the pool's call not come to its end yet?"""
        result = self._apply_result() if self._apply_result else None
        return result is not None and not result.ready()

    def cancel(self, pool: Any, signal: Any = None, **more: Any) -> None:
        """A cold shutdown. Where a pool cannot stop a body, its lease decides; solo would hear of it in the body."""
        with contextlib.suppress(NotImplementedError):
            super().cancel(pool, signal, **more)

    # Endings that Celery calls.

    def on_success(self, failed__retval__runtime: tuple[Any, Any, Any], **_: Any) -> None:
        """The body's process has reported; state, event, and the next job for the same wake-up."""
        if isinstance(failed__retval__runtime, ExceptionInfo):  # a BaseException in a thread
            return self.on_failure(failed__retval__runtime)
        failed, returned, runtime_s = failed__retval__runtime
        if failed:
            return self.on_failure(returned, return_ok=True)
        self.succeeded(runtime_s)
        if self.claimed_in_main and self.runnable:
            self.wake.serve_again(returned)

    def succeeded(self, runtime_s: float) -> None:
        """The body's process has reported its success."""
        self.forget()
        worker_state.task_ready(self)  # not among its successes: those are kept for messages that come twice
        self._tell("task-succeeded", runtime_s=runtime_s)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """``return_ok``: the body's own ending, already reported there. Else the body is gone."""
        self.forget()
        exception = _unwrapped(exc_info.exception)
        worker_state.task_ready(self)
        if return_ok:
            self._tell(self._guess(exception), exc_info)
        elif self.held.gone or self._already_revoked:
            return  # we stopped it: told by whoever did
        elif isinstance(exception, Terminated):
            self._announce_revoked("terminated", True, str(exception), False)
        elif isinstance(exception, TimeLimitExceeded):  # billiard calls this before on_timeout
            self._timed_out(exc_info)
        elif not self.held.settled:
            # A body that calls sys.exit has failed; anything else is a lost process or a cold shutdown, not the task's
            # fault: a stall.
            if type(exception) is SystemExit and not self.wake.stopping():
                self.close(Report(self.id, "fail", error=error_of(exception, str(exc_info.traceback))))
                self._tell(self._guess(exception), exc_info)
            else:
                logger.error("Job %s[%s] lost its process: %r", self.name, self.id, exception)
                self.close(Report(self.id, "stall", error=error_of(exception)))
                self._tell("task-retried", exc_info)

    def on_retry(self, exc_info: Any) -> None:
        """``self.retry`` and autoretry."""
        self._tell(self._guess(exc_info.exception), exc_info)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A hard limit: the process is being killed, so the failure is reported here."""
        if soft:
            super().on_timeout(soft, timeout)
            return
        self.forget()
        worker_state.task_ready(self)
        if not (self.held.settled or self.held.gone):
            try:
                raise TimeLimitExceeded(timeout)
            except TimeLimitExceeded:
                self._timed_out(ExceptionInfo())

    def time_out(self, limit: float) -> bool:
        """Report its hard time limit (s). False: it has just ended by itself, so its process may be at another job."""
        state = settle(self.runtime.store, self.held, self._over_time(limit), MAIN_PAUSES_S)
        return state is not None or self.held.outcome is None

    def _over_time(self, limit: float) -> Report:
        sentence = f"the attempt ran longer than its hard time limit of {limit} s"
        return Report(self.id, "fail", error=error_json("TimeLimitExceeded", sentence), error_code="TIMEOUT")

    def _timed_out(self, exc_info: Any) -> None:
        if self._told:
            return
        exception = _unwrapped(exc_info.exception)
        logger.error("Job %s[%s] ran into its hard time limit: %r", self.name, self.id, exception)
        self.close(self._over_time(exception.args[0]))
        self._call_failure_hooks(exception, exc_info)
        self._tell("task-failed", exc_info)

    def _call_failure_hooks(self, exception: BaseException, exc_info: Any) -> None:
        """As Celery does where no body is left to do it; our own receiver finds the job settled."""
        try:
            self.task.on_failure(exception, self.id, self.args, self.kwargs, exc_info)
            signals.task_failure.send(
                sender=self.task,
                task_id=self.id,
                exception=exception,
                args=self.args,
                kwargs=self.kwargs,
                traceback=exc_info.traceback,
                einfo=exc_info,
            )
        except Exception:
            logger.exception("Job %s: a failure hook of its task failed", self.id)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """Stopped by a cancel or by ``control revoke``; the latter cancels the job in the store."""
        self.forget()
        worker_state.task_ready(self)
        self._already_revoked = True
        if not (self.held.gone or self.held.settled):
            self._cancel()
        self._tell("task-revoked")
        signals.task_revoked.send(
            sender=self.task, request=self._context, terminated=terminated, signum=signum, expired=expired
        )

    def _cancel(self) -> bool:
        """Cancel the job in the store. From then on its end claims nothing. False: it had ended before."""
        try:
            jobs.cancel(self.runtime.store, self.held.application_id, self.id)
        except Exception as error:
            logger.warning("Job %s was revoked here but not cancelled in the store: %s", self.id, error)
            if isinstance(error, Refusal) and error.code in ENDED_ELSEWHERE:
                return False
        self.held.settled, self.held.gone = True, "cancelled"
        return True

    def _announce_cancelled(self, emit_retry: bool = True) -> None:
        """A cold shutdown stops the body: a stall, so that another worker takes it at once."""
        self.forget()
        worker_state.task_ready(self)
        self._already_cancelled = True
        self.close(Report(self.id, "stall"))
        self._tell("task-retried")

    def _retry_worker_lost(self, exc: Any, exc_info: Any) -> bool:
        return False  # the store decides

    def _success_was_stored(self) -> bool:
        return False  # there is no result backend to ask

    # The closing event.

    def _guess(self, exception: BaseException) -> str:
        """What the store most likely made of this ending: under prefork its answer stayed in the child."""
        if isinstance(exception, Ignore):
            return "task-succeeded"
        if isinstance(exception, Reject):
            return "task-retried" if exception.requeue and self.held.repeats(asked=True) else "task-failed"
        if getattr(exception, "permanent", False):
            return "task-failed"
        return "task-retried" if self.held.repeats(asked=isinstance(exception, Retry)) else "task-failed"

    def _tell(self, guess: str, exc_info: Any = None, runtime_s: Any = 0) -> None:
        """Send the one closing event of this attempt. What the store said wins over how it looks here."""
        if self._told:
            return
        self._told = True
        event = EVENT_OF_STATE.get(self.held.outcome, "task-retried" if self.held.gone == "lost" else guess)
        if self.held.gone == "cancelled":
            event = "task-revoked"
        if event == "task-succeeded":
            # Never the result: it is data of the job, and GET /api/jobs/{id} has it.
            self.send_event(event, result="", runtime=runtime_s)
        elif event == "task-revoked":
            self.send_event(event, terminated=True, signum=None, expired=False)
        else:
            exception = getattr(exc_info, "exception", None)
            exception = getattr(exception, "exc", None) or exception or "the attempt ended outside its body"
            traceback = str(getattr(exc_info, "traceback", "") or "")
            self.send_event(event, exception=_repr(exception), traceback=traceback)


def job_headers(task: Any, held: HeldJob, options: Options) -> dict[str, Any]:
    """What a message of Celery would say of the job."""
    job = held.job
    return {
        "lang": "py",
        "task": job.task,
        "id": job.id,
        "root_id": job.id,
        "parent_id": None,
        "group": None,
        # Stalls are no retries: a task that counts its retries counts reported failures.
        "retries": job.failures,
        "timelimit": [_hard_limit(task, job.timeout_ms), None],
        "argsrepr": ARGUMENTS,
        "kwargsrepr": kwargs_summary(held, options.show_metadata),
        "origin": "mech-queue",
        "ignore_result": True,  # the store keeps the result
        REQUEST_KEY: held,
    }


def job_properties(job: ClaimedJob) -> dict[str, Any]:
    """The properties that go with ``job_headers``."""
    priority = min(max(job.priority, 0), HIGHEST_BROKER_PRIORITY)  # what a broker's message could carry
    return {"correlation_id": job.id, "reply_to": None, "priority": priority}


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # an exception of the user's with a broken repr
        return f"<{type(value).__name__}>"


def _unwrapped(exception: BaseException) -> BaseException:
    return exception.exc if isinstance(exception, ExceptionWithTraceback) else exception


def _hard_limit(task: Any, timeout_ms: int | None) -> float | None:
    """The job's own timeout where it is the shorter one; the store enforces it too, here the body stops."""
    if timeout_ms is None:
        return None
    limit = timeout_ms / 1000
    return None if task.time_limit and task.time_limit <= limit else limit
