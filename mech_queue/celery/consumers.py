"""Which Celery queues this worker consumes: added as applications and queues appear, all cancelled when
the store refuses this library version.

A refused worker that went on consuming would eat the wake-ups of newer workers.
"""

import threading
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger

from mech_queue.celery.broker import is_amqp, wakeup_queue
from mech_queue.celery.held import WAKE_UP_PREFIX, Place
from mech_queue.services import applications, queues

if TYPE_CHECKING:
    from mech_queue.celery.runtime import Runtime

logger = get_logger("mech_queue")

REFUSED_LOOK_S = 1.0
APPLICATIONS_PER_PAGE = 100
MASTER = "master"
"""The built-in application, which lists leave out."""


def define_queues(app: Any, names: Iterable[str]) -> None:
    """Tell Celery how queues of wake-ups are declared, where the broker has kinds of queues; others are left alone."""
    if is_amqp(app.connection_for_read()):
        for name in names:
            if name.startswith(WAKE_UP_PREFIX):
                app.amqp.queues.add(wakeup_queue(name))


class Consumers:
    """Watches the store for one consumer. Changes are made in the consumer's own thread."""

    def __init__(self, runtime: "Runtime", consumer: Any) -> None:
        self._runtime = runtime
        self._consumer = consumer
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._known: set[str] = set()

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
        options = self._runtime.options
        pause, since = 0.0, options.discover_seconds
        while not stop.wait(pause):
            pause = min(REFUSED_LOOK_S, options.discover_seconds)
            if self._runtime.refused:
                self._consumer.call_soon(self._cancel_all)
                return
            since += pause
            if options.applications and since >= options.discover_seconds:
                since = 0.0
                self._look(stop)

    def _look(self, stop: threading.Event) -> None:
        try:
            found = {place.broker_queue for place in self.places()}
        except Exception as error:
            logger.warning("Could not look for new queues: %s", error)
            return
        new = sorted(found - self._known)
        if new and not stop.is_set():
            self._known.update(new)
            self._consumer.call_soon(self._add, new)

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
        ids = [MASTER]
        cursor: str | None = None
        while True:
            page, cursor = applications.list_(self._runtime.store, limit=APPLICATIONS_PER_PAGE, cursor=cursor)
            ids += [application.id for application in page]
            if cursor is None:
                return ids

    def _add(self, names: list[str]) -> None:
        if self._consumer.task_consumer is None:
            self._known.difference_update(names)  # between two connections; the next look finds them again
            return
        for name in names:
            self._consume(name)

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
