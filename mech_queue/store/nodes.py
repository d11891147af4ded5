"""Which server has a key: one server (or the primary that Sentinels name) has all, a cluster spreads them over nodes.

Scripts and plain commands ask here, and report what went wrong there. What a server says it did not do ("not
here", "I am a replica now") is tried again elsewhere; what may have been done is for the caller to judge.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import redis

from mech_queue.model.errors import StoreStopped

T = TypeVar("T")

REDIRECTS = 3  # a slot that moves while it is looked for


class Nodes(Protocol):
    """What a store lives on. ``client`` runs plain commands, like ``redis.Redis``, which asks here itself."""

    client: Any

    def of(self, key: bytes) -> "redis.Redis":
        """The server that has this key."""

    def elsewhere(self, server: "redis.Redis", error: redis.exceptions.RedisError) -> bool:
        """Hear of an error of ``server``: whether nothing was done there and the call may be made again now."""

    def part_of(self, key: bytes) -> str:
        """The name of the part with this key: parts fail by themselves. Never raises, never waits."""

    def primaries(self) -> list["redis.Redis"]:
        """All servers that have keys."""

    def close(self) -> None:
        """Give the connections back."""


def follow(nodes: Nodes, key: bytes, call: Callable[["redis.Redis"], T]) -> T:
    """Make a call at the server that has the key, also when that is another one than a moment ago."""
    for _ in range(REDIRECTS):
        server = nodes.of(key)
        try:
            return call(server)
        except redis.exceptions.RedisError as error:
            if not nodes.elsewhere(server, error):
                raise
    return call(nodes.of(key))


class OneServer:
    """One server, by itself or as whatever is the primary now."""

    def __init__(self, client: "redis.Redis") -> None:
        self.client = client

    def of(self, key: bytes) -> "redis.Redis":
        """That one."""
        return self.client

    def elsewhere(self, server: "redis.Redis", error: redis.exceptions.RedisError) -> bool:
        """A primary that became a replica is left (its connections are dropped); the next one is asked for."""
        if isinstance(error, redis.exceptions.MovedError):
            raise StoreStopped("The store is a cluster of several nodes: its address must be redis+cluster://…")
        return isinstance(error, redis.exceptions.ReadOnlyError)

    def part_of(self, key: bytes) -> str:
        """There is one only."""
        return ""

    def primaries(self) -> list["redis.Redis"]:
        """That one."""
        return [self.client]

    def close(self) -> None:
        """Close the idle connections."""
        self.client.close()
