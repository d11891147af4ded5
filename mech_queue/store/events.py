"""Events that wait for matching."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mech_queue.model.event import BY_LETTER, EventType
from mech_queue.model.ids import job_id_text
from mech_queue.model.job import JobRecord
from mech_queue.store import job_codec, keys
from mech_queue.store.connection import translated
from mech_queue.store.packing import unpack
from mech_queue.store.subscriptions import ids_in

if TYPE_CHECKING:
    from mech_queue.store.store import Store


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """One event as the script wrote it. ``extra``: progress or error as JSON text, or None."""

    application_id: str
    type: EventType
    job_id: str
    sequence: int
    at_ms: int
    attempt: int
    extra: bytes | None


@dataclass(frozen=True, slots=True)
class Matchable:
    """An event whose job is still there. ``candidates``: 16-byte ids of subscriptions that may want it."""

    event: PendingEvent
    job: JobRecord
    candidates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Events under one lease; those whose job is gone are left out."""

    id: bytes
    events: list[Matchable]


class Events:
    """The pending lists of the shards."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def claim(self, shard: int, batch_id: bytes, *, limit: int = 100, lease_ms: int = 30_000) -> Batch | None:
        """Take the next events of a shard; a batch whose worker died comes first. None: nothing waits."""
        args = {"batch": batch_id, "limit": limit, "lease": lease_ms}
        answer = self._store.scripts.run("events_claim", keys.DELIVERIES, args, shard=shard)
        if not answer:
            return None
        batch, rows, views = answer
        records = [(application.decode(), job_codec.record(view)) for application, view in views]
        jobs = {(application, job.id): job for application, job in records}
        events = [(event_of(packed), ids_in(ids)) for packed, ids in rows]
        return Batch(batch, [Matchable(one, jobs[one.application_id, one.job_id], ids) for one, ids in events])

    def last_ids(self, application_ids: list[str]) -> list[str]:
        """The id of the newest entry of each application's event log (``0-0``: none), in one round trip."""
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for application_id in application_ids:
                pipe.xrevrange(_log(application_id), count=1)
            rows = pipe.execute()
        return [row[0][0].decode() if row else "0-0" for row in rows]

    def first_id(self, application_id: str) -> str:
        """The id of the oldest entry that the log still has (``0-0``: none)."""
        with translated():
            row = self._store.redis.xrange(_log(application_id), count=1)
        return row[0][0].decode() if row else "0-0"

    def read(self, application_id: str, after: str, count: int) -> list[tuple[str, PendingEvent]]:
        """Up to ``count`` entries of the event log behind an id, with their ids."""
        with translated():
            rows = self._store.redis.xrange(_log(application_id), min=f"({after}", count=count)
        return [(entry.decode(), event_of(fields[b"e"])) for entry, fields in rows]

    def pending(self, shard: int) -> int:
        """How many events of a shard wait."""
        with translated():
            return int(self._store.redis.llen(keys.shard_prefix(shard) + b"pending"))


def event_of(raw: bytes) -> PendingEvent:
    """An entry of a pending list or of an event log (lib/event.lua)."""
    application, letter, job_id, sequence, at_ms, attempt, extra = unpack(raw)
    return PendingEvent(
        application_id=application.decode(),
        type=BY_LETTER[letter.decode()],
        job_id=job_id_text(job_id),
        sequence=int(sequence),
        at_ms=int(at_ms),
        attempt=int(attempt),
        extra=extra or None,
    )


def _log(application_id: str) -> bytes:
    return keys.prefix(application_id) + b"ev"
