"""The counters of rate limits: one per key and window, taken in slices.

A separate small pool with short timeouts and no retries: a limiter must never be slower than what
it guards, and whoever asks has a fallback in memory.
"""

import redis

from mech_queue.store.address import open_nodes
from mech_queue.store.nodes import Nodes

TIMEOUT_S = 0.25
PREFIX = b"mq:rl:"


class RateCounters:
    """Counts in the store; every method raises ``RatesUnavailable`` when it does not answer in time."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    @classmethod
    def open(cls, url: str) -> "RateCounters":
        """Connects lazily. ``url`` as for the store."""
        return cls(open_nodes(url, timeout_s=TIMEOUT_S))

    def take(self, key: str, amount: int, ends_at_ms: int) -> int:
        """Take ``amount`` from a window's counter; answers how much is taken in all.

        The counter disappears a second after ``ends_at_ms`` (unix ms), when its window is over.
        """
        name = PREFIX + key.encode()
        try:
            with self._nodes.client.pipeline(transaction=True) as pipe:
                pipe.incrby(name, amount)
                pipe.pexpireat(name, ends_at_ms + 1000)
                return int(pipe.execute()[0])
        except (redis.RedisError, OSError) as error:
            raise RatesUnavailable(str(error)) from None

    def close(self) -> None:
        """Give the connections back."""
        self._nodes.close()


class RatesUnavailable(Exception):
    """The counters cannot be reached; count in memory until they can."""
