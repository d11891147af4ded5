"""``install``: one call makes a Celery app's workers serve jobs."""

from collections.abc import Iterable
from typing import Any, TypeVar

from mech_queue.celery import signals, steps
from mech_queue.celery.options import options_from
from mech_queue.celery.runtime import Runtime, installed, register
from mech_queue.store.wakeups import WAKE_TASK

A = TypeVar("A")


def install(
    app: A,
    *,
    store_url: str | None = None,
    application: str | Iterable[str] | None = None,
    queues: str | Iterable[str] | None = None,
    **options: Any,
) -> A:
    """Let workers of ``app`` run mech-queue jobs; returns the app.

    ``store_url``: the store (default: ``MECH_QUEUE_STORE_URL``, ``REDIS_URL``, else the app's Redis broker).
    ``application``: ids of applications whose queues are consumed as they appear, ``"*"`` for all of them;
    without it the worker serves what ``-Q jobs.<application id>.<queue>`` says. ``queues``: patterns of queue
    names for that. Other keywords: the fields of :class:`~mech_queue.celery.options.Options`.

    Nothing is connected here, so importing the app needs no server. A worker greets the store when it
    starts and ends with one sentence and exit code 1 if this library version is not served there.
    """
    if installed(app):
        return app
    given = dict(options, store_url=store_url, applications=_names(application), queues=_names(queues))
    celery: Any = app
    register(Runtime(celery, options_from(given)))

    @celery.task(
        name=WAKE_TASK,
        Strategy="mech_queue.celery.strategy:strategy",
        ignore_result=True,
        send_events=False,
        rate_limit=None,
    )
    def wake() -> None:
        raise RuntimeError("a wake-up is served by its strategy and never runs as a task")

    celery.add_defaults(steps.no_prefetching)
    celery.steps["worker"].add(steps.TasksStep)
    celery.steps["consumer"].update((steps.PrefetchStep, steps.JobsStep))
    signals.connect()
    steps.connect()
    return app


def _names(value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return (value,) if isinstance(value, str) else tuple(value)
