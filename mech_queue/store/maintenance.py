"""What is due: read by the scheduler, moved by due_run.lua. Any number of replicas may run."""

from typing import TYPE_CHECKING

from mech_queue.store import keys
from mech_queue.store.connection import translated

if TYPE_CHECKING:
    from mech_queue.store.store import Store

STEP = 25  # entries per script run: at most some 5 ms of the store's time, where each is of another queue
STATE_LETTERS = {
    "w": "waiting",
    "a": "active",
    "d": "delayed",
    "c": "completed",
    "f": "failed",
    "x": "cancelled",
}


class Maintenance:
    """Due entries of all shards, and the totals that /health shows."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def due(self, now_ms: int | None = None) -> list[tuple[int, str]]:
        """(shard, application) pairs with something due, earliest first within a shard."""
        if now_ms is None:
            now_ms = self._store.now_ms()
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for shard in range(keys.SHARDS):
                pipe.zrangebyscore(keys.shard_prefix(shard) + b"next", "-inf", now_ms, 0, 200)
            found = pipe.execute()
        return [(shard, application.decode()) for shard, row in enumerate(found) for application in row]

    def run(self, shard: int, application_id: str) -> tuple[int, list[bytes], list[tuple[str, str]]]:
        """One step for one application: (entries handled, due schedules, steps only Python can take)."""
        handled, schedules, steps = self._store.scripts.run(
            "due_run", application_id, {"limit": STEP}, idempotent=True, shard=shard
        )
        return handled, schedules, [(kind.decode(), name.decode()) for kind, name in steps]

    def totals(self) -> dict[str, int]:
        """Jobs per state over all applications."""
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for shard in range(keys.SHARDS):
                pipe.hgetall(keys.shard_prefix(shard) + b"totals")
            rows = pipe.execute()
        totals = dict.fromkeys(STATE_LETTERS.values(), 0)
        for row in rows:
            for letter, number in row.items():
                totals[STATE_LETTERS[letter.decode()]] += int(number)
        return totals
