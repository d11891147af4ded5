"""What one can do with queues."""

from dataclasses import dataclass
from typing import Any

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import State
from mech_queue.model.queue import QueueRecord
from mech_queue.store import Store

SEEN_MS = 60_000  # a worker counts as there when it asked within this time
MINUTE_MS = 60_000
TRIMMED = {f"keep_{state.value}_n": state.letter for state in (State.COMPLETED, State.FAILED, State.CANCELLED)}


@dataclass(slots=True)
class QueueStats:
    """Flat numbers for an autoscaler. Ages in ms; ``last_minute``: what the totals have grown in 60 s."""

    counts: dict[str, int]
    oldest_waiting_ms: int | None
    workers: int
    submitted_total: int
    completed_total: int
    failed_total: int
    last_minute: dict[str, int]


def missing() -> Refusal:
    """The refusal for a queue nobody used."""
    return Refusal(Code.NOT_FOUND, "There is no such queue.")


def names(store: Store, application_id: str) -> list[str]:
    """The names of an application's queues, sorted."""
    return store.queues.names(application_id)


def get_many(store: Store, application_id: str, some: list[str]) -> list[QueueRecord]:
    """Those of the named queues that exist, in the order of the names."""
    return [found for found in store.queues.get_many(application_id, some) if found]


def get(store: Store, application_id: str, queue: str) -> QueueRecord:
    """One queue. Raises Refusal(NOT_FOUND)."""
    found = store.queues.get_many(application_id, [queue])[0]
    if found is None:
        raise missing()
    return found


def change(store: Store, application_id: str, queue: str, patch: dict[str, Any]) -> QueueRecord:
    """Change settings; creates the queue. ``patch``: names of the store's queue hash -> value, None clears.

    Names: concurrency, per_key, rate_max, rate_per (ms), lease, started_lease (ms), attempts, backoff_type,
    backoff_delay, backoff_max (ms), backoff_jitter, paused, draining, keep_<state>_s, keep_<state>_n.
    """
    set_fields = {name: _text(value) for name, value in patch.items() if value is not None and value is not False}
    clear = [name for name, value in patch.items() if value is None or value is False]
    steps = ["k"] if "per_key" in patch else []
    steps += ["n" + letter for name, letter in TRIMMED.items() if patch.get(name) is not None]
    store.queues.change(application_id, queue, set_fields=set_fields, clear=clear, steps=steps)
    return get(store, application_id, queue)


def _text(value: Any) -> str:
    return "1" if value is True else str(value)


def pause(store: Store, application_id: str, queue: str) -> QueueRecord:
    """Start nothing more, at once, for every kind of worker; what runs goes on."""
    return change(store, application_id, queue, {"paused": True})


def resume(store: Store, application_id: str, queue: str) -> QueueRecord:
    """Undo pause and drain."""
    return change(store, application_id, queue, {"paused": None, "draining": None})


def drain(store: Store, application_id: str, queue: str) -> QueueRecord:
    """Refuse new jobs, finish the rest."""
    return change(store, application_id, queue, {"draining": True})


def purge(store: Store, application_id: str, queue: str) -> int:
    """Drop what waits (waiting and delayed), in steps; returns how many there were when it began."""
    found = get(store, application_id, queue)
    store.queues.change(application_id, queue, steps=["p"])
    return found.counts["waiting"] + found.counts["delayed"]


def delete(store: Store, application_id: str, queue: str) -> None:
    """Forget an empty queue. Raises Refusal(NOT_FOUND | CONFLICT)."""
    store.queues.delete(application_id, queue)


def stats(store: Store, application_id: str, queue: str) -> QueueStats:
    """What an autoscaler asks for."""
    found = get(store, application_id, queue)
    now_ms = store.now_ms()
    oldest = store.queues.oldest_waiting(application_id, queue)
    workers = store.queues.workers(application_id, now_ms - SEEN_MS)
    seen = {(kind, worker) for kind, worker, name, _ in workers if name == queue}
    numbers = store.queues.metrics(application_id, queue)
    return QueueStats(
        counts=found.counts,
        oldest_waiting_ms=max(0, now_ms - oldest) if oldest is not None else None,
        workers=len(seen),
        submitted_total=numbers.get("submitted", 0),
        completed_total=numbers.get("completed", 0),
        failed_total=numbers.get("failed", 0),
        last_minute=found.within(MINUTE_MS, numbers, now_ms),
    )
