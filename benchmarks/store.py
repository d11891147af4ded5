"""What the store costs when much is in it: ``python -m benchmarks.store``.

Everything goes through the library straight to a Valkey of its own; the times a script holds the store are read from
its slow log. ``--jobs 1000000 --keys 100000`` is the size that the budgets speak of; it takes a quarter of an hour.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from mech_queue.model.job import JobSpec, Report, State
from mech_queue.model.metadata import accepted, fields_of
from mech_queue.model.query import JobQuery
from mech_queue.services import maintenance, queues, searching
from mech_queue.store import Store
from tests.support.valkey import ValkeyServer

SMALL, LARGE, ENDED, KEYED = "app-small0000000", "app-large0000000", "app-ended0000000", "app-keyed0000000"
HOUR_MS = 3_600_000


def specs(start: int, number: int, **options: Any) -> list[JobSpec]:
    """Jobs with three metadata fields, of which two together find one job in a thousand."""
    made = []
    for one in range(start, start + number):
        metadata = {"customer": f"c-{one % 100}", "region": f"r-{one % 10 + one // 100 % 10}", "type": "mail"}
        spec = JobSpec("mail", data=b'{"to":"user@example.com","subject":"Welcome!"}', **options)
        spec.metadata, spec.fields = json.dumps(metadata).encode(), fields_of(metadata)
        made.append(spec)
    return made


def fill(store: Store, application: str, number: int, **options: Any) -> None:
    """Submit jobs by the hundred."""
    for start in range(0, number, 100):
        store.jobs.submit(application, specs(start, min(100, number - start), **options))


def finish(store: Store, application: str) -> None:
    """Claim and complete everything."""
    while True:
        taken = store.jobs.claim(
            application, ["mail"], limit=100, lease_ms=None, worker_id=None, nonce=None, kind="http"
        ).jobs
        if not taken:
            return
        store.jobs.report(application, [Report(job.id, "complete", lease_token=job.lease_token) for job in taken])


def times_ms(function: Callable[[], object], repeats: int) -> list[float]:
    """How long each call takes."""
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        function()
        found.append((time.perf_counter() - begun) * 1000)
    return sorted(found)


def holds_ms(store: Store, function: Callable[[], object]) -> tuple[float, float]:
    """The longest time that one command held the store meanwhile, and what 99 % of those above 0.5 ms stayed below."""
    store.redis.config_set("slowlog-log-slower-than", 500)
    store.redis.config_set("slowlog-max-len", 10_000)
    store.redis.slowlog_reset()
    function()
    held = sorted(entry["duration"] / 1000 for entry in store.redis.slowlog_get(10_000)) or [0.5]
    return held[-1], held[len(held) * 99 // 100]


def search(store: Store, number: int) -> None:
    """A list by status and two metadata fields, with and without many jobs."""
    query = JobQuery(states=(State.WAITING,), limit=10)  # so many are found in both
    query.fields = (("customer", accepted("c-7")), ("region", accepted("r-9")))
    figures = {}
    for application, jobs in ((SMALL, 10_000), (LARGE, number)):
        fill(store, application, jobs)
        found = len(searching.search(store, application, query).jobs)
        figures[jobs] = times_ms(lambda application=application: searching.search(store, application, query), 200)
        middle, late = statistics.median(figures[jobs]), figures[jobs][int(len(figures[jobs]) * 0.99)]
        print(f"list by status and two fields, {jobs:,} jobs ({found} found): {middle:.2f} ms, p99 {late:.2f} ms")


def expire(store: Store, number: int) -> None:
    """Jobs whose retention is over are removed in bounded steps."""
    fill(store, ENDED, number, retention_seconds=60)
    finish(store, ENDED)
    now = store.now_ms()
    store.scripts.clock = lambda: now + HOUR_MS
    begun, steps = time.perf_counter(), 0

    def remove() -> None:
        nonlocal steps
        while maintenance.tick(store):
            steps += 1

    longest, usual = holds_ms(store, remove)
    store.scripts.clock = None
    took = time.perf_counter() - begun
    left = store.redis.dbsize()
    print(f"removal of {number:,} expired jobs: {took:.1f} s, {left:,} keys left")
    print(f"longest hold {longest:.1f} ms, p99 {usual:.1f} ms")


def raise_limit(store: Store, number: int) -> None:
    """Many concurrency keys at their limit, and the limit is raised."""
    for start in range(0, number, 100):
        jobs = specs(start, 100)
        for offset, spec in enumerate(jobs):
            spec.concurrency_key = f"key-{start + offset}"
        store.jobs.submit(KEYED, [spec for spec in jobs for _ in range(2)][:100])
        store.jobs.submit(KEYED, [spec for spec in jobs for _ in range(2)][100:])
    queues.change(store, KEYED, "mail", {"per_key": 1})
    claimed = 0
    while claimed < number:
        claimed += len(
            store.jobs.claim(KEYED, ["mail"], limit=100, lease_ms=HOUR_MS, worker_id=None, nonce=None, kind="http").jobs
        )

    def change() -> None:
        queues.change(store, KEYED, "mail", {"per_key": 2})
        while maintenance.tick(store):
            pass

    longest, usual = holds_ms(store, change)
    print(f"raising the limit of {number:,} keys: longest hold {longest:.1f} ms, p99 {usual:.1f} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="in the large list and to be removed (100,000)")
    parser.add_argument("--keys", type=int, default=10_000, help="concurrency keys at their limit (10,000)")
    options = parser.parse_args()
    server = ValkeyServer().start()
    try:
        for measure, number in ((search, options.jobs), (expire, options.jobs), (raise_limit, options.keys)):
            store = Store.open(server.fresh_database())
            store.greet(initialise=True)
            measure(store, number)
            store.redis.flushdb()
            store.close()
    finally:
        server.close()


if __name__ == "__main__":
    main()
