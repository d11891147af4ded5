"""Queues in the store: settings, counts, steps over what they hold."""

from typing import TYPE_CHECKING, Any

from mech_queue.model.job import BY_LETTER
from mech_queue.model.queue import QueueRecord
from mech_queue.store import keys
from mech_queue.store.connection import translated

if TYPE_CHECKING:
    from mech_queue.store.store import Store


NAMES = 100  # queues per script run


class Queues:
    """Queues of any application."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def names(self, application_id: str) -> list[str]:
        """All queues, sorted."""
        with translated():
            found = self._store.redis.smembers(keys.prefix(application_id) + b"queues")
        return sorted(name.decode() for name in found)

    def get_many(self, application_id: str, names: list[str]) -> list[QueueRecord | None]:
        """Settings and counts of queues in one round trip; None for those nobody used yet."""
        place = keys.prefix(application_id)
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(place + b"q:" + name.encode())
            rows = pipe.execute()
        return [_record(name, row) if row.get(b"known") else None for name, row in zip(names, rows, strict=True)]

    def oldest_waiting(self, application_id: str, name: str) -> int | None:
        """Submission time (ms) of the oldest waiting job; None when none waits."""
        prefix = b"sw" + name.encode() + b"\0"
        with translated():
            found = self._store.redis.zrangebylex(
                keys.prefix(application_id) + b"ix", b"[" + prefix, b"(" + prefix + b"\xff", 0, 1
            )
        return int.from_bytes(found[0][len(prefix) :], "big") // 1024 if found else None

    def change(
        self,
        application_id: str,
        name: str,
        *,
        set_fields: dict[str, Any] | None = None,
        clear: list[str] | None = None,
        steps: list[str] | None = None,
    ) -> None:
        """Set or clear settings (creates the queue) and file steps: ``k`` regroup keys, ``p`` purge,
        ``n`` and the letter of a state: remove ended jobs beyond the count that is kept."""
        args = {"queue": name, "set": set_fields or {}, "clear": clear or [], "steps": steps or []}
        self._store.scripts.run("queue_change", application_id, args, idempotent=True)

    def delete(self, application_id: str, name: str) -> None:
        """Forget an empty queue. Raises Refusal(NOT_FOUND | CONFLICT)."""
        self._store.scripts.run("queue_delete", application_id, {"queue": name})

    def metrics(self, application_id: str, name: str) -> dict[str, int]:
        """The counters that the scripts keep (``m:<queue>``)."""
        with translated():
            row = self._store.redis.hgetall(keys.prefix(application_id) + b"m:" + name.encode())
        return {field.decode(): int(number) for field, number in row.items()}

    def worker_seen(self, application_id: str, kind: str, worker_id: str, names: list[str]) -> None:
        """A worker waits for work of these queues."""
        for at in range(0, len(names), NAMES):
            args = {"kind": kind, "worker": worker_id, "queues": names[at : at + NAMES]}
            self._store.scripts.run("worker_seen", application_id, args, idempotent=True)

    def workers(self, application_id: str, since_ms: int) -> list[tuple[str, str, str, int]]:
        """(kind, worker, queue, last seen ms) of the workers seen since then; forgotten after a day."""
        key = keys.prefix(application_id) + b"workers"
        with translated():
            rows = self._store.redis.zrevrangebyscore(key, "+inf", since_ms, 0, 10_000, withscores=True)
        seen = []
        for member, score in rows:
            kind, worker, queue = member.decode().split("\0")
            seen.append((kind, worker, queue, int(score)))
        return seen


def _record(name: str, row: dict[bytes, bytes]) -> QueueRecord:
    fields = {field.decode(): value.decode("utf-8", "replace") for field, value in row.items()}
    counts = {state.value: int(fields.get(f"n{letter}", 0)) for letter, state in BY_LETTER.items()}
    return QueueRecord(name=name, fields=fields, counts=counts)
