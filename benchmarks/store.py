"""What the store costs when much is in it: ``python -m benchmarks.store``.

Everything goes through the library straight to a Valkey of its own; the times a script holds the store are read from
its slow log. Beside the times stands the CPU time that the store used, which a busy machine does not spoil.
``--jobs 1000000 --keys 100000`` is the size that the budgets speak of; it takes a quarter of an hour.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from mech_queue.model.errors import Refusal
from mech_queue.model.job import ClaimedJob, JobSpec, Report, State
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


def cpu_ms(store: Store) -> float:
    """The CPU time that the store has used so far."""
    used = store.redis.info("cpu")
    return float(used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"]) * 1000


def timed(store: Store, what: str, function: Callable[[], object], repeats: int = 200) -> None:
    """Print how long a call takes, and how much of the store's CPU time."""
    found, used = [], cpu_ms(store)
    for _ in range(repeats):
        begun = time.perf_counter()
        function()
        found.append((time.perf_counter() - begun) * 1000)
    found.sort()
    used = (cpu_ms(store) - used) / repeats
    print(f"{what}: {statistics.median(found):.2f} ms, p99 {found[repeats * 99 // 100]:.2f} ms, store {used:.2f} ms")


def holds(store: Store, what: str, function: Callable[[], object]) -> None:
    """Print how long scripts held the store meanwhile: at most, and what 99 % of those above 0.2 ms stayed below."""
    for name, value in (("slowlog-log-slower-than", 200), ("slowlog-max-len", 100_000)):
        store.redis.config_set(name, value)
    store.redis.slowlog_reset()
    store.redis.config_resetstat()
    used, begun = cpu_ms(store), time.perf_counter()
    function()
    took, used = time.perf_counter() - begun, cpu_ms(store) - used
    runs = sum(row["calls"] for name, row in store.redis.info("commandstats").items() if "fcall" in name)
    store.redis.config_set("slowlog-log-slower-than", -1)
    held = sorted(
        row["duration"] / 1000 for row in store.redis.slowlog_get(100_000) if row["command"].startswith(b"FCALL")
    )
    late, longest = (held[len(held) * 99 // 100], held[-1]) if held else (0.2, 0.2)
    steps = f"{runs:,} steps of {used / max(runs, 1):.2f} ms CPU"
    print(f"{what}: {took:.1f} s, {steps}; held p99 {late:.1f} ms, at most {longest:.1f}")


def run_due(store: Store) -> None:
    """The scheduler works until nothing is due."""
    while maintenance.tick(store):
        pass


def search(store: Store, number: int) -> None:
    """A list by status and two metadata fields and a claim, with and without many jobs; what a waiting job weighs."""
    query = JobQuery(states=(State.WAITING,), limit=10)  # so many are found in both
    query.fields = (("customer", accepted("c-7")), ("region", accepted("r-9")))
    for application, jobs in ((SMALL, 10_000), (LARGE, number)):
        before = store.redis.info("memory")["used_memory"]
        fill(store, application, jobs)
        weight = (store.redis.info("memory")["used_memory"] - before) / jobs
        print(f"{jobs:,} waiting jobs with three metadata fields: {weight:.0f} bytes each")
        timed(
            store,
            f"list by status and two fields, {jobs:,} jobs",
            partial(searching.search, store, application, query),
        )
        timed(store, f"claim, {jobs:,} jobs waiting", partial(claim, store, application, 1))


def claim(store: Store, application: str, most: int) -> list[ClaimedJob]:
    """Take the next jobs for an hour."""
    return store.jobs.claim(
        application, ["mail"], limit=most, lease_ms=HOUR_MS, worker_id=None, nonce=None, kind="http"
    ).jobs


def expire(store: Store, number: int) -> None:
    """Jobs whose retention is over are removed in bounded steps."""
    fill(store, ENDED, number, retention_seconds=60)
    while taken := claim(store, ENDED, 100):
        store.jobs.report(ENDED, [Report(job.id, "complete", lease_token=job.lease_token) for job in taken])
    now = store.now_ms()
    store.scripts.clock = lambda: now + 2 * HOUR_MS
    holds(store, f"removal of {number:,} expired jobs", lambda: run_due(store))
    store.scripts.clock = None
    print(f"{store.redis.dbsize():,} keys left")


def purge(store: Store, number: int) -> None:
    """What waits is dropped, and children of one parent are released, likewise."""
    parent = store.jobs.submit(ENDED, [JobSpec("parents")])[0]
    assert not isinstance(parent, Refusal)
    fill(store, ENDED, number, depends_on=(parent.job_id,))
    store.jobs.report(ENDED, [Report(parent.job_id, "complete")])
    holds(store, f"release of {number:,} children", lambda: run_due(store))
    queues.purge(store, ENDED, "mail")
    holds(store, f"purge of {number:,} waiting jobs", lambda: run_due(store))


def raise_limit(store: Store, number: int) -> None:
    """Many concurrency keys at their limit, and the limit is raised."""
    for start in range(0, number, 50):
        jobs = [spec for spec in specs(start, 50) for _ in range(2)]
        for offset, spec in enumerate(jobs):
            spec.concurrency_key = f"key-{start + offset // 2}"
        store.jobs.submit(KEYED, jobs)
    timed(store, f"claim, {2 * number:,} jobs of {number:,} keys waiting", lambda: claim(store, KEYED, 1))
    queues.change(store, KEYED, "mail", {"per_key": 1})
    run_due(store)
    while claim(store, KEYED, 100):
        pass
    timed(store, f"claim, all {number:,} keys at their limit", lambda: claim(store, KEYED, 1))
    queues.change(store, KEYED, "mail", {"per_key": 2})
    holds(store, f"raising the limit of {number:,} keys", lambda: run_due(store))


MEASURES = {"search": search, "expire": expire, "purge": purge, "keys": raise_limit}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="in the large list and to be removed (100,000)")
    parser.add_argument("--keys", type=int, default=10_000, help="concurrency keys at their limit (10,000)")
    parser.add_argument("--only", nargs="*", choices=MEASURES, default=list(MEASURES), help="instead of all")
    options = parser.parse_args()
    for name in options.only:
        server = ValkeyServer().start()
        store = Store.open(f"redis://127.0.0.1:{server.port}")  # a user who may look at the slow log
        store.greet(initialise=True)
        MEASURES[name](store, options.keys if name == "keys" else options.jobs)
        store.close()
        server.close()


if __name__ == "__main__":
    main()
