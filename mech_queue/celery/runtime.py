"""What one process of a Celery app with mech-queue shares: options, the store, the gate, running jobs."""

import weakref
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger

from mech_queue.celery.board import Board
from mech_queue.celery.chain import Chain
from mech_queue.celery.gate import Gate
from mech_queue.celery.options import Options
from mech_queue.celery.publish import Publisher
from mech_queue.celery.running import RunningJobs
from mech_queue.celery.slots import SlotReleaser
from mech_queue.store import Store

if TYPE_CHECKING:
    from celery import Celery

logger = get_logger("mech_queue")

_runtimes: "weakref.WeakKeyDictionary[Any, Runtime]" = weakref.WeakKeyDictionary()


class Runtime:
    """One per Celery app and process; a forked pool process inherits it (the store reconnects by itself).

    ``refused``: the store's sentence when it serves this library version no longer. ``quitting``: a soft or cold
    shutdown has begun. ``turned_at``: when the main loop of prefork turned last, in monotonic seconds. ``publisher``,
    there as soon as the store is open: sends wake-ups where another broker than the store carries them.
    """

    publisher: Publisher

    def __init__(self, app: "Celery", options: Options) -> None:
        self.app = app
        self.options = options
        self.refused: str | None = None
        self.quitting = False
        self.turned_at = 0.0
        self.running = RunningJobs()
        self.slots = SlotReleaser()
        self.chain = Chain(options.chain_ms)
        self.board = Board()
        self.gate = Gate(lambda: self.store, options, self.refuse)

    @cached_property
    def store(self) -> Store:
        """The store, opened at first use: importing an app must not need a server."""
        store = Store.open(self.options.store_url or self._broker_url())
        self.publisher = Publisher(store, self.app.connection_for_write)
        return store

    def _broker_url(self) -> str:
        url = str(self.app.conf.broker_url or "")
        if not url.startswith(("redis", "valkey", "unix")):
            raise ValueError(
                "mech-queue does not know its store: set MECH_QUEUE_STORE_URL or REDIS_URL to its address (redis://…)."
            )
        return url

    def refuse(self, sentence: str) -> None:
        """The store does not serve this version: say so once; the worker's steps stop consuming."""
        if self.refused is None:
            self.refused = sentence
            logger.critical("%s This worker takes no more jobs.", sentence)


def register(runtime: Runtime) -> None:
    """Make ``runtime`` the one of its app."""
    _runtimes[runtime.app] = runtime


def runtime_of(app: "Celery") -> Runtime:
    """The runtime of an app that ``install`` has seen."""
    return _runtimes[app]


def installed(app: "Celery") -> bool:
    """Has ``install`` seen this app?"""
    return app in _runtimes
