"""Bulk operations: their record and the booking of their steps."""

from typing import TYPE_CHECKING

from mech_queue.store import keys
from mech_queue.store.connection import translated

if TYPE_CHECKING:
    from mech_queue.store.store import Store


class Operations:
    """``op:<id>`` of any application; kept for 7 days."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def create(self, application_id: str, operation_id: str, action: str, filter_json: bytes) -> None:
        """Record it and file its first step."""
        args = {"id": operation_id, "create": {"action": action, "filter": filter_json}}
        self._store.scripts.run("operation_step", application_id, args, idempotent=True)

    def get(self, application_id: str, operation_id: str) -> dict[str, str] | None:
        """Its hash as texts, or None."""
        with translated():
            row = self._store.redis.hgetall(keys.prefix(application_id) + b"op:" + operation_id.encode())
        return {name.decode(): value.decode("utf-8", "replace") for name, value in row.items()} or None

    def book(
        self, application_id: str, operation_id: str, before: str, after: str, done: int, failed: int, finished: bool
    ) -> bool:
        """Book one step; False when another replica has booked it."""
        args = {
            "id": operation_id,
            "before": before,
            "after": after,
            "done": done,
            "failed": failed,
            "finished": int(finished),
        }
        return bool(self._store.scripts.run("operation_step", application_id, args))
