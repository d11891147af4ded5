"""What the metrics exporter reads: the counters that the scripts keep, pipelined, a bounded step at a time."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mech_queue.model.application import MASTER
from mech_queue.model.job import BY_LETTER
from mech_queue.store import keys
from mech_queue.store.connection import translated
from mech_queue.store.events import event_of

if TYPE_CHECKING:
    from mech_queue.store.store import Store

BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 1800000, 3600000)
"""Upper bounds of the histograms that lib/job.lua keeps (`BUCKETS` there; a test compares)."""

STEP = 200  # queues per round trip: some 600 small reads, so that nobody else waits long

_SIZES = [f"n{letter}" for letter in BY_LETTER]
_STATES = [state.value for state in BY_LETTER.values()]


@dataclass(slots=True)
class QueueRow:
    """One queue: its jobs per state, its counters (``m:<queue>``), the submission time of its oldest waiting job."""

    name: str
    created_ms: int
    sizes: dict[str, int]
    counters: dict[str, int]
    oldest_waiting_ms: int | None


@dataclass(slots=True)
class ApplicationRow:
    """One application: its queues, webhook counters (``hooks``) and the workers seen since the time asked for."""

    id: str
    queues: list[QueueRow] = field(default_factory=list)
    webhooks: dict[str, int] = field(default_factory=dict)
    workers: int = 0


@dataclass(slots=True)
class StagesRow:
    """What waits inside the service, in all shards. Unix ms; None: nothing waits.

    ``due_ms``: when the earliest thing that the scheduler has not moved was due. ``event_ms``: when the oldest event
    happened that nobody has matched. ``deliveries``: per state.
    """

    due_ms: int | None = None
    event_ms: int | None = None
    events: int = 0
    deliveries: dict[str, int] = field(default_factory=dict)


class Metrics:
    """Reads for one scrape, and the counts that no script keeps (HTTP). Every method raises Refusal (store away)."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def application_ids(self) -> list[str]:
        """All applications, the built-in one first."""
        with translated():
            found = self._store.redis.zrange(keys.APPLICATIONS, 0, -1)
        return [MASTER, *(one.decode() for one in found)]

    def application(self, application_id: str, seen_since_ms: int) -> ApplicationRow:
        """Everything of one application."""
        place = keys.prefix(application_id)
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            pipe.smembers(place + b"queues")
            pipe.hgetall(place + b"hooks")
            pipe.zrangebyscore(place + b"workers", seen_since_ms, "+inf")
            names, webhooks, seen = pipe.execute()
        row = ApplicationRow(application_id, webhooks=_numbers(webhooks))
        row.workers = len({tuple(member.split(b"\0")[:2]) for member in seen})
        ordered = sorted(names)
        for at in range(0, len(ordered), STEP):
            row.queues += self._queues(place, ordered[at : at + STEP])
        return row

    def _queues(self, place: bytes, names: list[bytes]) -> list[QueueRow]:
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for name in names:
                waiting = b"sw" + name + b"\0"
                pipe.hmget(place + b"q:" + name, "created", *_SIZES)
                pipe.hgetall(place + b"m:" + name)
                pipe.zrangebylex(place + b"ix", b"[" + waiting, b"(" + waiting + b"\xff", 0, 1)
            answers = pipe.execute()
        parts = zip(names, answers[0::3], answers[1::3], answers[2::3], strict=True)
        return [_queue(name, settings, counters, oldest) for name, settings, counters, oldest in parts]

    def stages(self) -> StagesRow:
        """What the scheduler and the stages have before them."""
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for shard in range(keys.SHARDS):
                place = keys.shard_prefix(shard)
                pipe.zrange(place + b"next", 0, 0, withscores=True)
                pipe.lindex(place + b"pending", 0)
                pipe.llen(place + b"pending")
                pipe.hmget(place + f"{keys.DELIVERIES}:q:{keys.WEBHOOKS}".encode(), _SIZES)
            answers = pipe.execute()
        due = [int(score) for found in answers[0::4] for _, score in found]
        events = [event_of(raw).at_ms for raw in answers[1::4] if raw is not None]
        sizes = [sum(int(number or 0) for number in column) for column in zip(*answers[3::4], strict=True)]
        return StagesRow(
            due_ms=min(due, default=None),
            event_ms=min(events, default=None),
            events=sum(answers[2::4]),
            deliveries=dict(zip(_STATES, sizes, strict=True)),
        )

    def add_http(self, deltas: dict[str, float]) -> None:
        """Add to the HTTP counts. A name is a sample: ``["<name>",{"<label>":"<value>",…}]`` as JSON."""
        with translated(), self._store.redis.pipeline(transaction=True) as pipe:
            for sample, amount in deltas.items():
                pipe.hincrbyfloat(keys.HTTP_COUNTERS, sample, amount)
            pipe.execute()

    def http(self) -> dict[str, float]:
        """Sums of the HTTP counts of all API processes, by sample as in ``add_http``."""
        with translated():
            found = self._store.redis.hgetall(keys.HTTP_COUNTERS)
        return {name.decode(): float(value) for name, value in found.items()}

    def memory(self) -> dict[str, int]:
        """Bytes of all nodes: ``used_memory``, and ``maxmemory`` (0: no limit of its own)."""
        with translated():
            rows: list[Any] = [server.info("memory") for server in self._store.nodes.primaries()]
        return {name: sum(int(row.get(name, 0)) for row in rows) for name in ("used_memory", "maxmemory")}


def _queue(name: bytes, settings: list[bytes | None], counters: dict[bytes, bytes], oldest: list[bytes]) -> QueueRow:
    created, *sizes = [int(value or 0) for value in settings]
    return QueueRow(
        name=name.decode(),
        created_ms=created,
        sizes=dict(zip(_STATES, sizes, strict=True)),
        counters=_numbers(counters),
        # the entry ends in the job's sequence, which is ms * 1024 + a counter
        oldest_waiting_ms=int.from_bytes(oldest[0][-8:], "big") // 1024 if oldest else None,
    )


def _numbers(row: dict[Any, Any]) -> dict[str, int]:
    return {field_name.decode(): int(value) for field_name, value in row.items()}
