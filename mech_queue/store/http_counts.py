"""Counts of HTTP requests over all API processes: one hash, added to every few seconds (key ``mq:http``)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mech_queue.store import Store

KEY = b"mq:http"


def add(store: "Store", deltas: dict[str, float]) -> None:
    """Add to the counts. A field is a sample: ``["<name>",{"<label>":"<value>",…}]`` as JSON."""
    with store.redis.pipeline(transaction=True) as pipe:
        for sample, amount in deltas.items():
            pipe.hincrbyfloat(KEY, sample, amount)
        pipe.execute()


def read(store: "Store") -> dict[str, float]:
    """All counts."""
    found = store.redis.hgetall(KEY)
    return {name.decode(): float(value) for name, value in found.items()}
