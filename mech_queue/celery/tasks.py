"""What changes on a user's plain task inside a worker, so that it can run jobs.

Four attributes of the task's instance, set once and only in workers; each does something only while the
task runs a job, and is the original otherwise:

- ``run``: the return value becomes JSON inside the body, so that one that cannot be JSON is an ordinary
  failure, with traceback and event, and not a success in Flower and a failure in the store.
- ``signature_from_request``: ``self.retry`` publishes by it. For a job nothing is published: the store
  keeps the delay and the new arguments.
- ``update_state``: is the job's progress.
- ``replace``: would hand the job's id to another task that nobody leases; refused in words.
"""

import functools
import time
from typing import Any

from celery.utils.log import get_logger

from mech_queue.celery.arguments import data_for
from mech_queue.celery.held import HeldJob, Retry, held_by, json_bytes
from mech_queue.celery.runtime import runtime_of
from mech_queue.model.job import Report
from mech_queue.services import jobs
from mech_queue.store.wakeups import WAKE_TASK

logger = get_logger("mech_queue")

_ADAPTED = "_mech_queue_adapted"


BUILT_IN = "celery."
"""Celery's own tasks (``celery.map``, ``celery.chord`` …) run other tasks by name: nothing for submitters."""


def task_of(app: Any, name: str) -> Any:
    """The task that a job names; None when this app has none for jobs."""
    task = app.tasks.get(name)
    return None if task is None or task.name == WAKE_TASK or task.name.startswith(BUILT_IN) else task


class ResultNotJson(TypeError):
    """The task returned what cannot be kept as the job's result. Running it again would not help."""

    permanent = True


def adapt(task: Any) -> None:
    """Make a task ready for jobs; a second call changes nothing."""
    if _ADAPTED in vars(task):
        return
    setattr(task, _ADAPTED, True)
    task.run = _encoding(task)
    task.signature_from_request = _not_publishing(task)
    task.update_state = _progressing(task)
    task.replace = _not_replacing(task)


def encode_result(task: Any, value: Any) -> bytes:
    """JSON text of a return value. Raises ResultNotJson."""
    limit = runtime_of(task.app).options.max_result_bytes
    try:
        text = json_bytes(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ResultNotJson(f"the result of the task {task.name!r} is not JSON: {error}") from None
    if len(text) > limit:
        raise ResultNotJson(f"the result of the task {task.name!r} has {len(text)} bytes, allowed are {limit}")
    return text


def _encoding(task: Any) -> Any:
    original = task.run

    @functools.wraps(original)
    def run(*args: Any, **kwargs: Any) -> Any:
        value = original(*args, **kwargs)
        held = held_by(task)
        if held is not None:
            held.result = encode_result(task, value)
        return value

    return run


def _not_publishing(task: Any) -> Any:
    original = task.signature_from_request

    def signature_from_request(
        request: Any = None, args: Any = None, kwargs: Any = None, queue: Any = None, **options: Any
    ) -> Any:
        signature = original(request, args, kwargs, queue, **options)
        held = held_by(task)
        if held is not None:
            changed = args is not None or kwargs is not None
            data = data_for(task, signature.args, signature.kwargs) if changed else None

            def note_instead_of_publishing(*_: Any, **__: Any) -> None:
                held.retry = Retry(_delay_ms(options), data)

            signature.apply_async = note_instead_of_publishing
        return signature

    return signature_from_request


def _delay_ms(options: dict[str, Any]) -> int | None:
    """Of ``countdown`` (seconds) or ``eta``; None: the job's own backoff."""
    if options.get("countdown") is not None:
        return max(0, int(options["countdown"] * 1000))
    if options.get("eta") is not None:
        return max(0, int((options["eta"].timestamp() - time.time()) * 1000))
    return None


def _progressing(task: Any) -> Any:
    original = task.update_state

    def update_state(task_id: Any = None, state: Any = None, meta: Any = None, **kwargs: Any) -> Any:
        held = held_by(task)
        if held is None or task_id not in (None, held.id):
            return original(task_id, state, meta, **kwargs)
        try:
            report_progress(task, held, meta if meta is not None else state)
        except Exception as error:  # as with Celery's own backend: progress never fails a task
            logger.warning("Job %s: progress was not reported: %s", held.id, error)
        return None

    return update_state


def report_progress(task: Any, held: HeldJob, value: Any) -> None:
    """Write the job's progress. Raises Refusal; TypeError or ValueError when it is no JSON."""
    report = Report(held.id, "progress", held.job.lease_token, progress=json_bytes(value))
    report.lease_ms = runtime_of(task.app).options.lease_ms
    jobs.report(runtime_of(task.app).store, held.application_id, report)


def _not_replacing(task: Any) -> Any:
    original = task.replace

    def replace(signature: Any) -> Any:
        if held_by(task) is not None:
            raise RuntimeError("Task.replace cannot be used in a mech-queue job: submit the other job instead")
        return original(signature)

    return replace
