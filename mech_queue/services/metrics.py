"""The numbers of the whole service at one moment, with a bounded number of labels."""

from dataclasses import dataclass, field

from mech_queue.store import Store
from mech_queue.store.metrics import BUCKETS_MS, ApplicationRow, QueueRow

MOST_QUEUES = 500
"""Queues per application with labels of their own: the first created; callers invent names at will."""

OTHER = "_other"
"""The label that the rest shares; no queue can have this name."""

SEEN_S = 60  # a worker counts as connected when it asked within this time
ENDED = ("completed", "failed", "cancelled")
UNFINISHED = ("waiting", "active", "delayed")
DISABLED = ("gone", "failing")  # why the service switches a subscription off


@dataclass(slots=True)
class Histogram:
    """How long something took. ``buckets``: (upper bound in s, how many took at most that), cumulative."""

    buckets: list[tuple[float, int]]
    count: int
    sum_s: float


@dataclass(slots=True)
class QueueNumbers:
    """One pair of labels (application, queue). ``oldest_waiting_s``: 0 when nothing waits."""

    application: str
    queue: str
    submitted: int
    ended: dict[str, int]
    stalled: int
    sizes: dict[str, int]
    oldest_waiting_s: float
    run: Histogram
    wait: Histogram


@dataclass(slots=True)
class ApplicationNumbers:
    """One application. ``calls``: (event, status) -> webhook requests that ended so. ``disabled``: reason ->
    subscriptions that the service has switched off."""

    id: str
    workers: int
    calls: dict[tuple[str, str], int]
    call_duration: Histogram
    disabled: dict[str, int]


@dataclass(slots=True)
class Numbers:
    """Everything a scrape shows. ``http``: sample -> sum (store/metrics.py). Memory in bytes.

    ``scheduler_lag_s``: how long the earliest thing has been due that no scheduler has moved. ``events_pending``,
    ``events_lag_s``: events that nobody has matched yet, and the age of the oldest. ``deliveries``: status -> number.
    """

    queues: list[QueueNumbers] = field(default_factory=list)
    applications: list[ApplicationNumbers] = field(default_factory=list)
    http: dict[str, float] = field(default_factory=dict)
    memory_used: int = 0
    memory_most: int = 0
    scheduler_lag_s: float = 0.0
    events_pending: int = 0
    events_lag_s: float = 0.0
    deliveries: dict[str, int] = field(default_factory=dict)


def read(store: Store) -> Numbers:
    """Read it all. Raises Refusal when the store is away."""
    now_ms = store.now_ms()
    numbers = Numbers(http=store.metrics.http())
    memory = store.metrics.memory()
    numbers.memory_used, numbers.memory_most = memory["used_memory"], memory["maxmemory"]
    stages = store.metrics.stages()
    numbers.scheduler_lag_s, numbers.events_lag_s = _age_s(stages.due_ms, now_ms), _age_s(stages.event_ms, now_ms)
    numbers.events_pending = stages.events
    numbers.deliveries = {status: stages.deliveries[status] for status in UNFINISHED}
    for application_id in store.metrics.application_ids():
        row = store.metrics.application(application_id, now_ms - SEEN_S * 1000)
        numbers.applications.append(_application(row))
        numbers.queues += [_queue(row.id, one, now_ms) for one in bounded(row.queues)]
    return numbers


def bounded(rows: list[QueueRow], most: int = MOST_QUEUES) -> list[QueueRow]:
    """The ``most`` oldest queues as they are, so that their series stay when new ones come; the rest as one."""
    ordered = sorted(rows, key=lambda row: (row.created_ms, row.name))
    kept, rest = ordered[:most], ordered[most:]
    if rest:
        waiting = [row.oldest_waiting_ms for row in rest if row.oldest_waiting_ms is not None]
        sizes, counters = _sum([row.sizes for row in rest]), _sum([row.counters for row in rest])
        kept.append(QueueRow(OTHER, 0, sizes, counters, min(waiting, default=None)))
    return kept


def _sum(rows: list[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for row in rows:
        for name, number in row.items():
            total[name] = total.get(name, 0) + number
    return total


def _queue(application_id: str, row: QueueRow, now_ms: int) -> QueueNumbers:
    return QueueNumbers(
        application=application_id,
        queue=row.name,
        submitted=row.counters.get("submitted", 0),
        ended={state: row.counters.get(state, 0) for state in ENDED},
        stalled=row.counters.get("stalled", 0),
        sizes=row.sizes,
        oldest_waiting_s=_age_s(row.oldest_waiting_ms, now_ms),
        run=_histogram(row.counters, "run"),
        wait=_histogram(row.counters, "wait"),
    )


def _age_s(since_ms: int | None, now_ms: int) -> float:
    return max(0, now_ms - since_ms) / 1000 if since_ms is not None else 0.0


def _application(row: ApplicationRow) -> ApplicationNumbers:
    calls = {}
    for name, number in row.webhooks.items():
        kind, _, rest = name.partition(":")
        if kind == "call":
            event, _, status = rest.partition(":")
            calls[event, status] = number
    disabled = {reason: row.webhooks.get(f"off:{reason}", 0) for reason in DISABLED}
    return ApplicationNumbers(row.id, row.workers, calls, _histogram(row.webhooks, "send"), disabled)


def _histogram(counters: dict[str, int], name: str) -> Histogram:
    """``<name>:<bound in ms>`` and ``<name>:inf``, each its own, and ``<name>:sum`` (ms) -> seconds, cumulative."""
    so_far, buckets = 0, []
    for bound in BUCKETS_MS:
        so_far += counters.get(f"{name}:{bound}", 0)
        buckets.append((bound / 1000, so_far))
    return Histogram(buckets, so_far + counters.get(f"{name}:inf", 0), counters.get(f"{name}:sum", 0) / 1000)
