"""No-op jobs on one Celery worker: mech-queue, Celery with state tracking, bare Celery, by turns.

    python -m benchmarks.native

Each run has a fresh store; the worker is started, and timed from its 300th job to its last.
"""

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import redis

from benchmarks.http import as_embedded
from mech_queue.model.job import JobSpec
from mech_queue.services import jobs, maintenance
from mech_queue.store import Store, keys
from tests.e2e.node import ROOT
from tests.support.valkey import ValkeyServer
from tests.support.waiting import wait_until
from workers import child

KINDS = ("mech-queue", "celery, state tracked", "bare celery")
APPLICATION, QUEUE = "app-benchmark000", "noop"
WARM = 300
"""Jobs before the clock starts: the worker's own start is not what is measured."""


def measure(kind: str, pool: str, concurrency: int, count: int) -> float:
    """Jobs per second of one worker."""
    with ExitStack() as stack:
        server = as_embedded(ValkeyServer().start())
        stack.callback(server.close)
        client = stack.enter_context(server.client())
        queue = keys.broker_list(APPLICATION, QUEUE)
        done = _submit_jobs(stack, server, count) if kind == KINDS[0] else _send_tasks(kind, server, client, count)
        environment = {
            "PATH": os.environ["PATH"],
            "KIND": kind,
            "QUEUE": QUEUE,
            "BROKER_URL": server.url(),
            "BACKEND_URL": server.url(1),
        }
        arguments = ["-m", "celery", "-A", "benchmarks.noop", "worker", "-P", pool, "-c", str(concurrency)]
        arguments += ["-Q", queue if kind == KINDS[0] else QUEUE, "--without-gossip", "--without-mingle"]
        process = subprocess.Popen(
            child.command([sys.executable, *arguments, "-l", "WARNING"]),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        wait_until(lambda: done() >= WARM, 60)
        begun, already = time.perf_counter(), done()
        wait_until(lambda: done() >= count, 120)
        return (count - already) / (time.perf_counter() - begun)


def _submit_jobs(stack: ExitStack, server: ValkeyServer, count: int) -> Callable[[], int]:
    store = Store.open(server.url())
    store.greet(initialise=True)
    specs = [JobSpec(queue=QUEUE, task="noop", data=b"[]") for _ in range(count)]
    for first in range(0, count, 1000):
        jobs.submit_many(store, APPLICATION, list(specs[first : first + 1000]))
    closing = threading.Event()

    def tick() -> None:
        while not closing.wait(0.05):
            maintenance.tick(store)

    ticker = threading.Thread(target=tick)
    ticker.start()
    stack.callback(store.close)
    stack.callback(ticker.join)
    stack.callback(closing.set)
    return lambda: maintenance.counts(store)["completed"]


def _send_tasks(kind: str, server: ValkeyServer, client: redis.Redis, count: int) -> Callable[[], int]:
    from celery import Celery

    app = Celery("sender", broker=server.url())
    app.conf.task_default_queue = QUEUE
    with app.connection() as connection, app.amqp.Producer(connection) as producer:
        for _ in range(count):
            app.send_task("noop", producer=producer, ignore_result=kind == KINDS[2])
    return lambda: count - client.llen(QUEUE) - client.hlen("unacked")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for pool, concurrency in (("prefork", 2), ("threads", 8)):
        found: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(options.rounds):
            for kind in KINDS:
                found[kind].append(measure(kind, pool, concurrency, options.jobs))
        ours = statistics.median(found[KINDS[0]])
        print(f"{pool} {concurrency}: {KINDS[0]} {ours:,.0f}/s", flush=True)
        for kind in KINDS[1:]:
            other = statistics.median(found[kind])
            print(f"    {kind} {other:,.0f}/s: we are {ours / other:.2f} × as fast", flush=True)


if __name__ == "__main__":
    main()
