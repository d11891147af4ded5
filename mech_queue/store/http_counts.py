"""Counts of HTTP requests over all API processes: one hash, added to every few seconds (``keys.HTTP_COUNTERS``)."""

from typing import TYPE_CHECKING

from mech_queue.store import keys

if TYPE_CHECKING:
    from mech_queue.store import Store


def add(store: "Store", deltas: dict[str, float]) -> None:
    """Add to the counts. A field is a sample: ``["<name>",{"<label>":"<value>",…}]`` as JSON."""
    with store.redis.pipeline(transaction=True) as pipe:
        for sample, amount in deltas.items():
            pipe.hincrbyfloat(keys.HTTP_COUNTERS, sample, amount)
        pipe.execute()


def read(store: "Store") -> dict[str, float]:
    """All counts."""
    found = store.redis.hgetall(keys.HTTP_COUNTERS)
    return {name.decode(): float(value) for name, value in found.items()}
