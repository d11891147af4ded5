"""Which workers were seen lately."""

import time
from dataclasses import dataclass, field

from mech_queue.store import Store

SEEN_S = 300
"""A worker is listed for this long after it last asked for work."""


@dataclass(slots=True)
class Worker:
    """A worker: HTTP workers by their workerId, native ones by host. ``last_seen_ms`` is unix time."""

    id: str
    kind: str
    queues: list[str] = field(default_factory=list)
    last_seen_ms: int = 0


def list_(store: Store, application_id: str) -> list[Worker]:
    """The workers of an application that asked for work within SEEN_S."""
    since_ms = int((time.time() - SEEN_S) * 1000)
    found: dict[tuple[str, str], Worker] = {}
    for kind, worker_id, queue, seen_ms in store.queues.workers(application_id, since_ms):
        worker = found.setdefault((kind, worker_id), Worker(worker_id, kind))
        worker.queues.append(queue)
        worker.last_seen_ms = max(worker.last_seen_ms, seen_ms)
    return list(found.values())
