"""Endings that a body reaches by itself, reported in its own process, where the real value is.

Connected once for all tasks; an ordinary call carries no job and is left alone. Celery swallows what a
receiver raises, so these never rely on it: ``settle`` tries again and otherwise leaves it to the lease.
"""

import time
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.exceptions import Ignore
from celery.utils.log import get_logger

from mech_queue.celery.endings import error_json, error_of, settle
from mech_queue.celery.held import HeldJob, Retry, held_by
from mech_queue.celery.runtime import Runtime, runtime_of
from mech_queue.celery.tasks import encode_result
from mech_queue.model.errors import Refusal
from mech_queue.model.job import Claim, Report, Reported
from mech_queue.services import jobs

logger = get_logger("mech_queue")

FOR_EVER = 2**31 - 1
"""Allowed failures of a task without limit (``max_retries=None``)."""


def connect() -> None:
    """Connect all receivers; a second call changes nothing."""
    signals.task_success.connect(on_success, weak=False, dispatch_uid="mech_queue.success")
    signals.task_failure.connect(on_failure, weak=False, dispatch_uid="mech_queue.failure")
    signals.task_retry.connect(on_retry, weak=False, dispatch_uid="mech_queue.retry")
    signals.task_postrun.connect(on_postrun, weak=False, dispatch_uid="mech_queue.postrun")


def on_success(sender: Any = None, result: Any = None, **_: Any) -> None:
    """The body returned."""
    held = _unsettled(sender)
    if held is None:
        return
    if held.retry is not None:  # self.retry(throw=False), and then it returned
        _finish(sender, held, _retry_report(held, error_json("Retry", "the task asked to be run again")))
        return
    if held.result is None:  # a custom __call__ that does not use run()
        try:
            held.result = encode_result(sender, result)
        except Exception as error:
            _finish(sender, held, Report(held.id, "fail", error=error_of(error), retry=False))
            return
    settle(
        runtime_of(sender.app).store,
        held,
        Report(held.id, "complete", result=held.result),
        send=_exchange(runtime_of(sender.app), held),
    )


def on_failure(sender: Any = None, exception: Any = None, einfo: Any = None, **_: Any) -> None:
    """The body raised; the job's attempts decide whether it is repeated."""
    held = _unsettled(sender)
    if held is None or exception is None:
        return
    error = error_of(exception, str(einfo.traceback) if einfo else "")
    # An error that repeating cannot mend says so itself (ResultNotJson).
    _finish(sender, held, Report(held.id, "fail", error=error, retry=not getattr(exception, "permanent", False)))


def on_retry(sender: Any = None, reason: Any = None, einfo: Any = None, **_: Any) -> None:
    """``self.retry`` or autoretry: Celery has granted it (``max_retries``) and published nothing."""
    held = _unsettled(sender)
    if held is None:
        return
    held.retry = held.retry or _retry_of(reason)
    cause = getattr(reason, "exc", None)
    text = str(einfo.traceback) if einfo and cause is not None else ""
    error = error_of(cause, text) if isinstance(cause, BaseException) else error_json("Retry", str(reason))
    _finish(sender, held, _retry_report(held, error))


def on_postrun(sender: Any = None, retval: Any = None, state: Any = None, **_: Any) -> None:
    """Endings without a signal of their own. ``state`` None: a BaseException is on its way out, and whoever
    called the body settles."""
    held = _unsettled(sender)
    if held is None or state is None:
        return
    if state == "REJECTED" and getattr(retval, "requeue", False):
        # "Not me, not now": repeated like a retry, under the limit of the job or the task.
        limit = sender.max_retries
        report = Report(held.id, "fail", error=error_json("Reject", _reason(retval)))
        report.allowed_failures = FOR_EVER if limit is None else limit
        _finish(sender, held, report)
    elif state == "REJECTED":
        _finish(sender, held, Report(held.id, "fail", error=error_json("Reject", _reason(retval)), retry=False))
    elif state in ("IGNORED", "SUCCESS") or isinstance(retval, Ignore):
        _finish(sender, held, Report(held.id, "complete", result=b"null"))


def _reason(rejected: Any) -> str:
    return str(getattr(rejected, "reason", None) or "the task rejected it")


def _unsettled(task: Any) -> HeldJob | None:
    held = held_by(task)
    return held if held is not None and not held.settled else None


def _finish(task: Any, held: HeldJob, report: Report) -> None:
    settle(runtime_of(task.app).store, held, report)


def _exchange(runtime: Runtime, held: HeldJob) -> Callable[[Report], Reported] | None:
    """How to report while the wake-up goes on (chain.py): together with the claim of its next job, since the way to the
    store is the dearest part of a short job. None: the report alone."""
    if not held.claims or (held.in_series and not runtime.board.open):
        return None
    if not runtime.chain.goes_on():
        held.following = Claim([])
        return None

    def send(report: Report) -> Reported:
        reported, held.following = jobs.exchange(
            runtime.store,
            held.application_id,
            report,
            queue=held.place.queue,
            lease_ms=runtime.options.lease_ms,
            worker_id=held.worker_id,
            nonce=held.job.lease_token,
        )
        if isinstance(reported, Refusal):
            raise reported
        return reported

    return send


def _retry_report(held: HeldJob, error: bytes) -> Report:
    """A failure that is forgiven once more: Celery compared ``retries`` with ``max_retries`` already, whoever
    gave that limit, so where the job names no attempts this very failure is the last one allowed so far."""
    asked = held.retry
    return Report(
        held.id,
        "fail",
        error=error,
        delay_ms=asked.delay_ms if asked else None,
        data=asked.data if asked else None,
        allowed_failures=held.job.failures + 1,
    )


def _retry_of(reason: Any) -> Retry:
    when = getattr(reason, "when", None)
    if when is None:
        return Retry()
    if isinstance(when, int | float):
        return Retry(delay_ms=max(0, int(when * 1000)))
    return Retry(delay_ms=max(0, int((when.timestamp() - time.time()) * 1000)))
