"""The one door to the store."""

import secrets
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from mech_queue.model.errors import StoreStopped
from mech_queue.store import keys
from mech_queue.store.address import open_nodes
from mech_queue.store.connection import translated
from mech_queue.store.library import PROTOCOL, WINDOW
from mech_queue.store.nodes import Nodes
from mech_queue.store.scripts import Scripts

if TYPE_CHECKING:
    from mech_queue.store.applications import Applications
    from mech_queue.store.deliveries import Deliveries
    from mech_queue.store.events import Events
    from mech_queue.store.greenlets import Greenlets
    from mech_queue.store.jobs import Jobs
    from mech_queue.store.logs import Logs
    from mech_queue.store.maintenance import Maintenance
    from mech_queue.store.metrics import Metrics
    from mech_queue.store.operations import Operations
    from mech_queue.store.queues import Queues
    from mech_queue.store.schedules import Schedules
    from mech_queue.store.subscriptions import Subscriptions

T = TypeVar("T")

PING_S = 0.5
SCHEMA = 1  # of the records; release N reads N - 1


class Store:
    """All nouns of the store, over the servers it lives on. Cheap to open, connects lazily, thread- and fork-safe."""

    def __init__(self, nodes: Nodes, url: str, window: int = WINDOW, greenlets: "Greenlets | None" = None) -> None:
        self.nodes = nodes
        self.redis: Any = nodes.client  # redis-py types answers as bytes | str; ours are bytes
        self.url = url
        self.greenlets = greenlets
        self.scripts = Scripts(nodes, window, greenlets)
        self.store_id: str | None = None
        self.secrets_key: str | None = None  # SECRETS_KEY; the service's processes set it at their start

    @classmethod
    def open(cls, url: str, *, window: int = WINDOW, greenlets: "Greenlets | None" = None) -> "Store":
        """A store at an address as in ``address.py``: a server, a primary behind Sentinels, or a cluster.

        ``greenlets``: those of the requests that share the thread of an event loop; they share a connection too.
        """
        nodes = open_nodes(url, aside=greenlets.aside if greenlets is not None else None)
        return cls(nodes, url, window, greenlets)

    def aside(self, function: Callable[..., T], *args: Any) -> T:
        """Call what asks the store otherwise than by a script; it holds up no other request of an event loop."""
        return self.greenlets.aside(function, *args) if self.greenlets is not None else function(*args)

    def ping(self) -> None:
        """Raise Refusal(STORE_UNAVAILABLE) unless the store answers within PING_S."""
        with translated():
            self._impatient.client.ping()

    def now_ms(self) -> int:
        """The store's time, by which everything is due (unix ms)."""
        if self.scripts.clock:
            return self.scripts.clock()
        with translated():
            seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def part_of(self, application_id: str) -> str:
        """The name of the part of the store that has this application: a node of a cluster; else all is one part.

        Parts fail by themselves, so trouble with one says nothing of the others.
        """
        return self.nodes.part_of(keys.prefix(application_id))

    @cached_property
    def _impatient(self) -> Nodes:
        return open_nodes(self.url, timeout_s=PING_S)

    def greet(
        self,
        initialise: bool = False,
        defaults: dict[str, int] | None = None,
        counts_wakeups: bool | None = None,
    ) -> None:
        """Check that this library and this store understand each other.

        ``initialise`` (only the start of the service): an empty store gets its id and protocol range.
        ``defaults``: what holds for jobs whose options, queue and application do not say; by the names of the
        shards' meta: keep_completed, keep_failed, keep_cancelled (s), attempts, backoff_delay (ms).
        ``counts_wakeups``: whether another broker than this store carries the wake-ups. Raises
        StoreStopped with one sentence otherwise, and Refusal when the store cannot be reached.
        """
        with translated():
            if initialise:
                self.redis.hsetnx(keys.META, "store_id", secrets.token_hex(8))
                self.redis.hsetnx(keys.META, "schema", SCHEMA)
                self.redis.hsetnx(keys.META, "shards", keys.SHARDS)
                self._copy_protocol(defaults or {}, counts_wakeups)
                self.scripts.load()
            meta = self.redis.hgetall(keys.META)
        if not meta:
            raise StoreStopped("The store is empty: start the service once to initialise it, or check its address.")
        if int(meta[b"schema"]) != SCHEMA or int(meta[b"shards"]) != keys.SHARDS:
            raise StoreStopped(
                f"The store has schema {meta[b'schema'].decode()} in {meta[b'shards'].decode()} shards, this release "
                f"reads {SCHEMA} in {keys.SHARDS}: start the release that made the store."
            )
        found = meta[b"store_id"].decode()
        if self.store_id not in (None, found):
            raise StoreStopped("This is another store than the one this process started with; restart the process.")
        self.store_id = found

    def _copy_protocol(self, defaults: dict[str, int], counts_wakeups: bool | None) -> None:
        """Each shard has its own copy of what scripts must know, since a script sees one slot only."""
        mapping: dict[str, Any] = {"protocol_min": PROTOCOL, "protocol_max": PROTOCOL, **defaults}
        if counts_wakeups is not None:
            mapping["wakeups"] = "count" if counts_wakeups else "push"
        pipe = self.redis.pipeline(transaction=False)
        for shard in range(keys.SHARDS):
            pipe.hset(keys.shard_prefix(shard) + b"meta", mapping=mapping)
        pipe.execute()

    def counts_wakeups(self) -> bool:
        """Whether another broker than this store carries the wake-ups; the service's scheduler says so."""
        with translated():
            return bool(self.redis.hget(keys.shard_prefix(0) + b"meta", "wakeups") == b"count")

    def close(self) -> None:
        """Give the connections back."""
        self.scripts.close()
        self.nodes.close()
        if "_impatient" in vars(self):
            self._impatient.close()

    @cached_property
    def jobs(self) -> "Jobs":
        """Jobs of any application."""
        from mech_queue.store.jobs import Jobs

        return Jobs(self)

    @cached_property
    def logs(self) -> "Logs":
        """Log lines of jobs."""
        from mech_queue.store.logs import Logs

        return Logs(self)

    @cached_property
    def queues(self) -> "Queues":
        """Queues: settings and counts."""
        from mech_queue.store.queues import Queues

        return Queues(self)

    @cached_property
    def events(self) -> "Events":
        """Events that wait for matching."""
        from mech_queue.store.events import Events

        return Events(self)

    @cached_property
    def deliveries(self) -> "Deliveries":
        """Webhook deliveries."""
        from mech_queue.store.deliveries import Deliveries

        return Deliveries(self)

    @cached_property
    def applications(self) -> "Applications":
        """Applications and their API keys."""
        from mech_queue.store.applications import Applications

        return Applications(self)

    @cached_property
    def subscriptions(self) -> "Subscriptions":
        """Subscriptions and their index."""
        from mech_queue.store.subscriptions import Subscriptions

        return Subscriptions(self)

    @cached_property
    def operations(self) -> "Operations":
        """Bulk operations and their progress."""
        from mech_queue.store.operations import Operations

        return Operations(self)

    @cached_property
    def maintenance(self) -> "Maintenance":
        """What is due."""
        from mech_queue.store.maintenance import Maintenance

        return Maintenance(self)

    @cached_property
    def metrics(self) -> "Metrics":
        """Reads of the metrics exporter."""
        from mech_queue.store.metrics import Metrics

        return Metrics(self)

    @cached_property
    def schedules(self) -> "Schedules":
        """Schedules and their runs."""
        from mech_queue.store.schedules import Schedules

        return Schedules(self)
