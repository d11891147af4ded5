"""Which workers were seen lately, and what they hold."""

from dataclasses import dataclass, field

from mech_queue.store import Store

SEEN_MS = 300_000
"""A worker is listed for this long after it was last seen, and as long as it holds a job."""

DEFAULT_KIND = "http"  # of a worker that never claimed: it took its jobs by PUT started


@dataclass(slots=True)
class Worker:
    """A worker: HTTP workers by their workerId, native ones by host.

    ``queues``: those it asked, and those whose jobs it holds. ``last_seen_ms``: when it last asked for work, waited
    for wake-ups (native), or renewed a lease (unix time).
    """

    id: str
    kind: str
    queues: set[str] = field(default_factory=set)
    jobs: int = 0
    last_seen_ms: int = 0


def list_(store: Store, application_id: str) -> list[Worker]:
    """The workers of an application that were seen within SEEN_MS, or hold jobs."""
    since_ms = store.now_ms() - SEEN_MS
    asked = store.queues.workers(application_id, 0)
    kinds = {worker_id: kind for kind, worker_id, _, _ in asked}
    found: dict[str, Worker] = {}

    def see(worker_id: str, queue: str, seen_ms: int) -> Worker:
        worker = found.setdefault(worker_id, Worker(worker_id, kinds.get(worker_id, DEFAULT_KIND)))
        worker.queues.add(queue)
        worker.last_seen_ms = max(worker.last_seen_ms, seen_ms)
        return worker

    for _, worker_id, queue, seen_ms in asked:
        if seen_ms >= since_ms:
            see(worker_id, queue, seen_ms)
    for worker_id, queue, seen_ms in store.jobs.held(application_id):
        see(worker_id, queue, seen_ms).jobs += 1
    return list(found.values())


def seen(store: Store, application_id: str, kind: str, worker_id: str, queues: list[str]) -> None:
    """A worker that waits for work without asking (native workers: for wake-ups) is there."""
    store.queues.worker_seen(application_id, kind, worker_id, queues)
