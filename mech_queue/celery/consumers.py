"""Which Celery queues this worker consumes: added as applications and queues appear, cancelled when they are deleted,
all cancelled when the store refuses this library version.

A refused worker that went on consuming would eat the wake-ups of newer workers. One that went on consuming what was
deleted would ask its broker for more and more queues, and with RabbitMQ keep each of them there: a queue of wake-ups
that nobody uses removes itself (``QUEUE_ARGUMENTS`` in broker.py), and nobody else may, since it may be in use again.
"""

import threading
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger

from mech_queue.celery.broker import is_amqp, wakeup_queue
from mech_queue.celery.held import WAKE_UP_PREFIX, Place
from mech_queue.model.application import MASTER
from mech_queue.model.errors import Code, Refusal
from mech_queue.services import applications, queues

if TYPE_CHECKING:
    from mech_queue.celery.runtime import Runtime

logger = get_logger("mech_queue")

REFUSED_LOOK_S = 1.0
APPLICATIONS_PER_PAGE = 100


def define_queues(app: Any, names: Iterable[str]) -> None:
    """Tell Celery how queues of wake-ups are declared, where the broker has kinds of queues; others are left alone."""
    if is_amqp(app.connection_for_read()):
        for name in names:
            if name.startswith(WAKE_UP_PREFIX):
                app.amqp.queues.add(wakeup_queue(name))


class Consumers:
    """Watches the store for one consumer. Changes are made in the consumer's own thread.

    ``_told``: the queues of ``-Q``, consumed whether they exist or not. ``_known``: those found in the store.
    ``_judged``: applications that were looked for.
    """

    def __init__(self, runtime: "Runtime", consumer: Any) -> None:
        self._runtime = runtime
        self._consumer = consumer
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._told = {place.broker_queue for place in consumed(consumer)}
        self._known: set[str] = set()
        self._judged = {MASTER}  # the API makes it, maybe later

    def start(self) -> None:
        """Start watching; after a reconnect the queues known so far are consumed again at once."""
        self.stop()
        self._stop = threading.Event()
        if self._runtime.refused:
            self._cancel_all()
            return
        for name in sorted(self._known):
            self._consume(name)
        self._thread = threading.Thread(target=self._run, args=(self._stop,), daemon=True, name="mech-queue-queues")
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _run(self, stop: threading.Event) -> None:
        period = self._runtime.options.discover_seconds
        pause, since = 0.0, period
        while not stop.wait(pause):
            pause = min(REFUSED_LOOK_S, period)
            if self._runtime.refused:
                self._consumer.call_soon(self._cancel_all)
                return
            since += pause
            if since >= period:
                since = 0.0
                self._look(stop)

    def _look(self, stop: threading.Event) -> None:
        try:
            self._warn_of_unknown_applications()
            found = {place.broker_queue for place in self.places()}
        except Exception as error:
            logger.warning("Could not look for new queues: %s", error)
            return
        new, gone = sorted(found - self._known), sorted(self._known - found - self._told)
        if (new or gone) and not stop.is_set():
            self._known = found
            self._consumer.call_soon(self._change, new, gone)

    def _warn_of_unknown_applications(self) -> None:
        """Once for each: nothing will ever come from there, and the worker looks healthy."""
        named = {application_id for application_id in self._runtime.options.applications if application_id != "*"}
        named.update(place.application_id for place in consumed(self._consumer))
        for application_id in sorted(named - self._judged):
            if not self._exists(application_id):
                logger.warning(
                    "There is no application %r in this store, so it brings no jobs. Compare its id in -Q or install() "
                    "with those of GET /api/applications, and the store of this worker with the service's.",
                    application_id,
                )
            self._judged.add(application_id)

    def _exists(self, application_id: str) -> bool:
        try:
            applications.get(self._runtime.store, application_id)
        except Refusal as refusal:
            if refusal.code is not Code.NOT_FOUND:
                raise
            return False
        return True

    def places(self) -> list[Place]:
        """The queues of the store that the worker's options name."""
        options, store = self._runtime.options, self._runtime.store
        wanted: list[str] = []
        for application in options.applications:
            wanted += self._all_applications() if application == "*" else [application]
        return [
            Place(application_id, name)
            for application_id in dict.fromkeys(wanted)
            for name in queues.names(store, application_id)
            if any(fnmatchcase(name, pattern) for pattern in options.queues)
        ]

    def _all_applications(self) -> list[str]:
        ids = [MASTER]  # lists leave it out
        cursor: str | None = None
        while True:
            page, cursor = applications.list_(self._runtime.store, limit=APPLICATIONS_PER_PAGE, cursor=cursor)
            ids += [application.id for application in page]
            if cursor is None:
                return ids

    def _change(self, new: list[str], gone: list[str]) -> None:
        if self._consumer.task_consumer is None:
            self._known.symmetric_difference_update([*new, *gone])  # between two connections: found by the next look
            return
        for at, name in enumerate(new):
            try:
                self._consume(name)
            except Exception:  # the broker could not: they are found again by the next look
                self._known.difference_update(new[at:])
                raise
        for name in gone:
            self._consumer.cancel_task_queue(name)

    def _consume(self, name: str) -> None:
        define_queues(self._consumer.app, [name])
        self._consumer.add_task_queue(name)

    def _cancel_all(self) -> None:
        for place in consumed(self._consumer):
            self._consumer.cancel_task_queue(place.broker_queue)


def consumed(consumer: Any) -> list[Place]:
    """The places whose wake-ups reach this worker now."""
    tasks = consumer.task_consumer
    names = [str(getattr(queue, "name", queue)) for queue in list(tasks.queues if tasks is not None else ())]
    return [place for place in map(Place.of, names) if place is not None]
