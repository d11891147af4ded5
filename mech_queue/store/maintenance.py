"""What is due: read by the scheduler, moved by due_run.lua. Any number of replicas may run."""

from typing import TYPE_CHECKING, Any

from mech_queue.model.job import BY_LETTER, State
from mech_queue.store import keys
from mech_queue.store.connection import translated

if TYPE_CHECKING:
    from mech_queue.store.store import Store

STEP = 25  # entries per script run: at most some 5 ms of the store's time, where each is of another queue


class Maintenance:
    """Due entries of all shards, and the totals that /health shows."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def due(self, now_ms: int | None = None) -> list[tuple[int, str]]:
        """(shard, application) pairs with something due, earliest first within a shard."""
        if now_ms is None:
            now_ms = self._store.now_ms()
        found = self._of_all_shards("ZRANGEBYSCORE", b"next", "-inf", now_ms, "LIMIT", 0, 200)
        return [(shard, application.decode()) for shard, row in found for application in row]

    def run(self, shard: int, application_id: str) -> tuple[int, list[bytes], list[tuple[str, str]]]:
        """One step for one application: (entries handled, due schedules, steps only Python can take)."""
        handled, schedules, steps = self._store.scripts.run(
            "due_run", application_id, {"limit": STEP}, idempotent=True, shard=shard
        )
        return handled, schedules, [(kind.decode(), name.decode()) for kind, name in steps]

    def totals(self) -> dict[str, int]:
        """Jobs per state over all applications."""
        totals = {state.value: 0 for state in State}
        for _, row in self._of_all_shards("HGETALL", b"totals"):
            for letter, number in row.items():
                totals[BY_LETTER[letter.decode()].value] += int(number)
        return totals

    def _of_all_shards(self, command: str, name: bytes, *rest: Any) -> list[tuple[int, Any]]:
        """(shard, answer) of those that answer: a node of a cluster that is away must not stop the others."""
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for shard in range(keys.SHARDS):
                pipe.execute_command(command, keys.shard_prefix(shard) + name, *rest)
            answers = pipe.execute(raise_on_error=False)
            found = [(shard, one) for shard, one in enumerate(answers) if not isinstance(one, Exception)]
            if not found:
                raise answers[0]
        return found
