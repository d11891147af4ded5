"""Whether one matching process keeps up, when most events are wanted by nobody. ``python -m benchmarks.events``.

Drivers submit, claim and complete jobs in hundreds, as fast as the machine can: three events a job. One in a hundred is
wanted by a subscription (``--one-in``: more of them, where the machine is too slow for so many others). An event that
nobody wants ends in the script that made it, so what reaches the matching process is the rest: how late it makes their
deliveries, and how much of a core it takes, is what counts.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized

from benchmarks.delivery import cpu_s, service, store_cpu_s
from mech_queue.model.job import JobSpec, Report
from mech_queue.model.metadata import fields_of
from mech_queue.services import applications, jobs, subscriptions
from mech_queue.store import Store, keys
from mech_queue.store.packing import unpack
from tests.support.waiting import wait_until

STEP = 100
"""Jobs of one script."""

EVENTS = ("created", "started", "completed")
SUBSCRIPTIONS = 10
"""Of each application; to all events of one customer's jobs each, and one of the customers has jobs."""


def drive(url: str, application_id: str, one_in: int, made: "Synchronized[int]", until: float) -> None:
    """Make events until ``until`` (time.monotonic()) and count them."""
    store = Store.open(url)
    specs = [_job("nobody" if number % one_in else "c-0") for number in range(STEP)]
    while time.monotonic() < until:
        jobs.submit_many(store, application_id, list(specs))
        taken = jobs.claim(store, application_id, ["email"], limit=STEP).jobs
        reports = [Report(one.id, "complete", lease_token=one.lease_token, result=b"1") for one in taken]
        jobs.report_many(store, application_id, reports)
        with made.get_lock():
            made.value += STEP + 2 * len(taken)
    store.close()


def _job(customer: str) -> JobSpec:
    metadata = {"customer": customer, "kind": "order"}
    text = b'{"customer": "%s", "kind": "order"}' % customer.encode()
    return JobSpec(queue="email", data=b'{"to": "somebody"}', metadata=text, fields=fields_of(metadata))


def subscribed(store: Store) -> str:
    """A new application, of whose jobs one customer's are wanted."""
    application_id = applications.create(store, "benchmark").application.id
    for number in range(SUBSCRIPTIONS):
        filters = {"metadata": {"customer": f"c-{number}"}}
        body = {"name": "s", "endpoint": "https://hooks.example.com/", "events": list(EVENTS), "filters": filters}
        subscriptions.create(store, application_id, body)
    return application_id


@contextmanager
def driven(url: str, application_ids: list[str], one_in: int, seconds: float) -> Iterator["Synchronized[int]"]:
    """A process for each application, all of which have ended at the end of the block; how many events they made."""
    context = multiprocessing.get_context("fork")
    made = context.Value("q", 0)
    until = time.monotonic() + seconds
    running = [
        context.Process(target=drive, args=(url, one, one_in, made, until), daemon=True) for one in application_ids
    ]
    for one in running:
        one.start()
    yield made
    for one in running:
        one.join()


def backlog(store: Store) -> int:
    """Events that wait for matching."""
    return sum(store.events.pending(shard) for shard in range(keys.SHARDS))


def delays_ms(store: Store, since_ms: int) -> list[int]:
    """From each event to its delivery, sorted."""
    found = []
    for shard in range(keys.SHARDS):
        place = keys.shard_prefix(shard) + keys.DELIVERIES.encode()
        rows = store.redis.zrange(place + b":all", since_ms * 1024, "+inf", byscore=True, withscores=True)
        for at in range(0, len(rows), 1000):
            some = rows[at : at + 1000]
            blobs = store.redis.mget([place + b":d:" + raw for raw, _ in some])
            found += [int(seq) // 1024 - int(unpack(blob)[5]) for (_, seq), blob in zip(some, blobs, strict=True)]
    return sorted(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long events are made (default 60)")
    parser.add_argument("--drivers", type=int, default=2, help="processes that make them (default 2)")
    parser.add_argument("--one-in", type=int, default=100, help="jobs is wanted (default 100)")
    options = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}", flush=True)
    with service("scheduler", "subscriptions") as (made, store, _):
        application_ids = [subscribed(store) for _ in range(options.drivers)]
        jobs.submit(store, application_ids[0], _job("c-0"))
        made.start()
        wait_until(lambda: backlog(store) == 0, 60, "the matching process has started")
        pid, since_ms, begun = made.processes["subscriptions"].pid, store.now_ms(), time.perf_counter()
        before, waiting = (cpu_s(pid), store_cpu_s(store)), [0]
        with driven(made.store.url(), application_ids, options.one_in, options.seconds) as events:
            while time.perf_counter() - begun < options.seconds - 1:
                time.sleep(0.5)
                waiting.append(backlog(store))
        seconds = time.perf_counter() - begun
        matching, busy = cpu_s(pid) - before[0], store_cpu_s(store) - before[1]
        wait_until(lambda: backlog(store) == 0, 300, "everything is matched")
        late = delays_ms(store, since_ms)
    made_s, wanted = events.value / seconds, len(late)
    assert wanted * options.one_in >= events.value, "each event that is wanted has made a delivery"
    print(
        f"{made_s:,.0f} events/s for {seconds:.0f} s, {wanted / seconds:,.0f}/s wanted; the store: {busy / seconds:.0%}"
    )
    print(f"wait for matching: at most {max(waiting)}, at the end {waiting[-1]}")
    print(f"from event to delivery: {late[wanted // 2]} ms (median), p99 {late[wanted * 99 // 100]} ms")
    print(
        f"the matching process: {matching / seconds:.1%} of a core, {matching / wanted * 1e6:,.0f} µs an event wanted"
    )


if __name__ == "__main__":
    main()
