"""A cluster: the map of its slots, and plain commands with redis-py's own methods, each at the node that has its key.

redis-py's ``RedisCluster`` is not used: it repeats commands, and while nodes hang, all threads queue up behind one
lock, each to wait for the map in its turn.
"""

import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import redis
from redis.commands import CoreCommands
from redis.crc import key_slot

from mech_queue.model.errors import StoreStopped
from mech_queue.store.connection import CONNECT_TIMEOUT_S, connect
from mech_queue.store.nodes import REDIRECTS, Nodes, follow

log = logging.getLogger("mech_queue")

SLOTS = 16_384
LOOK_EVERY_S = 0.5  # least time between two looks at the map while there is trouble
SILENT_S = 5.0  # so long nobody waits for a node that let a call time out: the other nodes' work must go on
TELL_EVERY_S = 60.0
_TROUBLE = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.ReadOnlyError,
)

KEYLESS = ("TIME", "PING", "INFO")

Queued = tuple[tuple[Any, ...], dict[str, Any]]  # a command's words and redis-py's options


def key_of(words: tuple[Any, ...]) -> bytes | None:
    """The key of a command; None when it has none. All that the store uses name it first."""
    if words[0] in KEYLESS:
        return None
    return words[1].encode() if isinstance(words[1], str) else words[1]


class ClusterClient(CoreCommands):
    """Used like ``redis.Redis``, for what this package needs of it."""

    _event_dispatcher: Any = None  # of redis-py's own clients

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def execute_command(self, *words: Any, **options: Any) -> Any:
        """Run one command where its key is; without a key, at any node that answers."""

        def call(server: "redis.Redis") -> Any:
            return server.execute_command(*words, **options)  # type: ignore[no-untyped-call]

        key = key_of(words)
        return self._anywhere(call) if key is None else follow(self._nodes, key, call)

    def _anywhere(self, call: Callable[["redis.Redis"], Any]) -> Any:
        trouble: Exception = redis.exceptions.ConnectionError("no node is known")
        for server in self._nodes.primaries():
            try:
                return call(server)
            except redis.exceptions.RedisError as error:
                self._nodes.elsewhere(server, error)
                trouble = error
        raise trouble

    def pipeline(self, transaction: bool = True) -> "ClusterPipeline":
        """Commands that go together to each node; a transaction needs all its keys in one slot."""
        return ClusterPipeline(self._nodes, transaction)

    def close(self) -> None:
        """Nothing is its own: the nodes are closed by whoever opened them."""


class ClusterPipeline(CoreCommands):
    """Queues commands, then runs them node by node."""

    _event_dispatcher: Any = None

    def __init__(self, nodes: Nodes, transaction: bool) -> None:
        self._nodes = nodes
        self._transaction = transaction
        self._queued: list[Queued] = []

    def __enter__(self) -> "ClusterPipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self._queued = []

    def execute_command(self, *words: Any, **options: Any) -> "ClusterPipeline":
        """Queue a command. One without key goes to the node of the one before it."""
        self._queued.append((words, options))
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The answers in order. ``raise_on_error=False``: an error stands in place of each answer that is missing."""
        queued, self._queued = self._queued, []
        keys: list[Any] = [key_of(words) for words, _ in queued]
        keys = list(itertools.accumulate(keys, lambda last, key: key or last))
        answers: list[Any] = [None] * len(queued)
        left = list(range(len(queued)))
        for _ in range(REDIRECTS + 1):
            for at, answer in self._round(queued, keys, left):
                answers[at] = answer
            left = [at for at in left if isinstance(answers[at], redis.exceptions.MovedError)]
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers

    def _round(self, queued: list[Queued], keys: list[Any], left: list[int]) -> list[tuple[int, Any]]:
        """Ask each node once for what is left; an error for each command that it has not answered."""
        groups: dict[redis.Redis, list[int]] = {}
        found: list[tuple[int, Any]] = []
        for at in left:
            try:
                groups.setdefault(self._nodes.of(keys[at]), []).append(at)
            except redis.exceptions.RedisError as error:
                found.append((at, error))
        for server, places in groups.items():
            pipe = server.pipeline(transaction=self._transaction)
            for at in places:
                words, options = queued[at]
                pipe.execute_command(*words, **options)  # type: ignore[no-untyped-call]
            try:
                answers = pipe.execute(raise_on_error=self._transaction)
            except redis.exceptions.RedisError as error:
                answers = [error] * len(places)
            for answer in answers:
                if isinstance(answer, redis.exceptions.RedisError):
                    self._nodes.elsewhere(server, answer)
            found += zip(places, answers, strict=True)
        return found


class ClusterNodes:
    """The nodes of a cluster. Knows the map of slots from the first use on, and keeps it by what nodes answer."""

    def __init__(self, urls: tuple[str, ...], timeout_s: float, aside: Callable[..., Any] | None = None) -> None:
        self._aside = aside or (lambda look: look())
        self._urls = urls  # nodes to ask for the map; all others have the same login and options
        self._timeout_s = timeout_s
        self._owners: list[str | None] = []  # slot -> the address of its node
        self._servers: dict[str, redis.Redis] = {}
        self._looking = threading.Lock()
        self._looked_at = float("-inf")
        self._silent_until: dict[redis.Redis, float] = {}
        self._told: dict[redis.Redis, float] = {}
        self._pid = os.getpid()
        self.client = ClusterClient(self)

    def of(self, key: bytes) -> "redis.Redis":
        """The node that owns the key's slot. Raises redis-py's errors when no node tells."""
        if not self._owners:
            self._aside(partial(self._look, wait=True))
        owner = self._owners[key_slot(key)] if self._owners else None
        if owner is None:
            self._aside(self._look)
            raise redis.exceptions.ClusterDownError("no node is known that has this slot")
        server = self._server(owner)
        if self._silent(server):
            self._aside(self._look)
            raise redis.exceptions.ConnectionError("the node did not answer a moment ago")
        return server

    def elsewhere(self, server: "redis.Redis", error: redis.exceptions.RedisError) -> bool:
        """A moved slot is noted; a node that does not answer is a reason to look at the map."""
        if isinstance(error, redis.exceptions.MovedError):
            self._owners[error.slot_id] = _at(error.host or _host(server), error.port)
            return True
        if isinstance(error, redis.exceptions.TimeoutError):
            self._silent_until[server] = time.monotonic() + SILENT_S
        if isinstance(error, _TROUBLE):
            self._tell(server, error)
            self._aside(self._look)
        return False

    def part_of(self, key: bytes) -> str:
        """The node's address."""
        return (self._owners[key_slot(key)] or "") if self._owners else ""

    def primaries(self) -> list["redis.Redis"]:
        """The owners of slots; those that were silent a moment ago at last."""
        if not self._owners:
            self._aside(partial(self._look, wait=True))
        return sorted((self._server(owner) for owner in {*self._owners} if owner), key=self._silent)

    def close(self) -> None:
        """Close the idle connections."""
        for server in list(self._servers.values()):
            server.close()

    def _silent(self, server: "redis.Redis") -> bool:
        return bool(self._silent_until) and time.monotonic() < self._silent_until.get(server, 0.0)

    def _tell(self, server: "redis.Redis", error: Exception) -> None:
        """One line per node and minute: what works goes on, and nobody else says that a part is away."""
        now = time.monotonic()
        if now >= self._told.get(server, 0.0) + TELL_EVERY_S:
            self._told[server] = now
            log.warning("The store's node %s is in trouble: %r", _at(_host(server), _port(server)), error)

    def _server(self, at: str) -> "redis.Redis":
        found = self._servers.get(at)
        if found is None:
            found = self._servers.setdefault(at, connect(self._url(at), timeout_s=self._timeout_s))
        return found

    def _url(self, at: str) -> str:
        """A node's address, with the login and the options of the first one."""
        start, _, rest = self._urls[0].partition("://")
        login, _, rest = rest.rpartition("@")
        return f"{start}://{login}{'@' if login else ''}{at}{'?' if '?' in rest else ''}{rest.partition('?')[2]}"

    def _look(self, *, wait: bool = False) -> None:
        """Read the map. One thread at a time, and not too often: others go on with what is known, unless they wait."""
        if self._pid != os.getpid():  # the thread that held the lock at a fork is not here to give it back
            self._looking, self._pid = threading.Lock(), os.getpid()
        if not self._looking.acquire(blocking=wait):
            return
        try:
            if time.monotonic() - self._looked_at >= LOOK_EVERY_S:
                self._owners = self._map() or self._owners
                self._looked_at = time.monotonic()
        finally:
            self._looking.release()
        if wait and not self._owners:
            raise redis.exceptions.ConnectionError("no node of the cluster answers")

    def _map(self) -> list[str | None]:
        """Slot -> address as the first node has it that answers; [] when none does."""
        urls = list({*self._urls, *(self._url(at) for at in self._servers)})
        random.shuffle(urls)  # the one that was in trouble is not asked first for ever
        for url in urls:
            with closing(connect(url, timeout_s=CONNECT_TIMEOUT_S)) as node:
                try:
                    rows: Any = node.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
                except redis.exceptions.ResponseError as error:
                    if "cluster support disabled" in str(error):
                        raise StoreStopped("The store is no cluster: its address must be redis://…") from error
                    continue
                except (redis.exceptions.RedisError, OSError):
                    continue
            owners: list[str | None] = [None] * SLOTS
            for first, last, (host, port, *_), *_ in rows:
                owners[first : last + 1] = [_at(host.decode() or _host(node), port)] * (last + 1 - first)
            return owners
        return []


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host(server: "redis.Redis") -> str:
    """As we know it; a node that was not told its own name leaves it out."""
    return str(server.connection_pool.connection_kwargs["host"])


def _port(server: "redis.Redis") -> int:
    return int(server.connection_pool.connection_kwargs["port"])
