"""Names of keys: where each thing lives (the whole map: docs/redis_keys.md).

The hash tag of a key is its shard, so every script of an application stays in one Cluster slot, and
the scheduler asks 16 places however many applications exist.
"""

import zlib
from functools import lru_cache

SHARDS = 16
META = b"mq:meta"
API_KEYS = b"mq:keys"
APPLICATIONS = b"mq:applications"
HTTP_COUNTERS = b"mq:http"
DELIVERIES = "~"  # the pseudo-application of each shard in which deliveries wait like jobs
WEBHOOKS = "webhooks"  # its only queue


def shard_of(application_id: str) -> int:
    """The shard that holds everything of an application."""
    return zlib.crc32(application_id.encode()) % SHARDS


@lru_cache(maxsize=SHARDS)
def shard_prefix(shard: int) -> bytes:
    """``mq:{s07}:``, the KEYS[1] of every script."""
    return b"mq:{s%02d}:" % shard


@lru_cache(maxsize=4096)
def prefix(application_id: str) -> bytes:
    """``mq:{s07}:<application id>:``, the start of every key of an application."""
    return shard_prefix(shard_of(application_id)) + application_id.encode() + b":"


def wake_channel(shard: int) -> bytes:
    """The channel on which the scripts of a shard say "there is startable work" and "this job ended"."""
    return b"mq:wake:%02d" % shard


def broker_list(application_id: str, queue: str) -> str:
    """The Celery queue that carries the wake-ups of a queue."""
    return f"jobs.{application_id}.{queue}"
