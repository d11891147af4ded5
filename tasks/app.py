"""The Celery application of the service's own stages: ``celery -A tasks.app worker -Q webhooks.00,…``.

Its tasks are ordinary ones, visible in Flower. A message is a wake-up: acknowledged early, holding
nothing, its loss repaired by the scheduler. Jobs' own tasks live in users' Celery applications.
"""

from typing import Any

from celery import Celery, signals

from config import celery as options
from config import logging as logs
from config.settings import load
from mech_queue.celery.broker import is_amqp
from mech_queue.celery.steps import PrefetchStep
from tasks import process
from tasks.queues import queues

settings = load()

app = Celery("mech-queue", include=["tasks.matching", "tasks.delivery"])  # by name: the API never loads them
app.conf.update(options.options(settings))
app.conf.task_queues = queues(is_amqp(app.connection_for_read()))
app.steps["consumer"].add(PrefetchStep)

_names = {"process": "celery"}


@signals.celeryd_init.connect
def _name(sender: str = "", **_: Any) -> None:
    """``webhooks-123@host`` -> the name that stands in log lines."""
    _names["process"] = sender.partition("-")[0] or "celery"


@signals.setup_logging.connect
def _log(**_: Any) -> None:
    """Celery's own lines look like all others."""
    logs.configure(settings, _names["process"])


@signals.worker_init.connect
def _start(**_: Any) -> None:
    """Open and greet the store; one that speaks another protocol ends the process with a sentence."""
    process.start(settings)


@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    """After the last task."""
    process.stop()
