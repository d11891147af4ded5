"""No-op jobs on one Celery worker: mech-queue, Celery with state tracking, bare Celery, by turns.

    python -m benchmarks.native

Each run has a fresh store; the worker is started, and timed from its 300th job to its last, with the CPU time that it
and its children used. Then: how late ordinary tasks begin on a queue of their own while the worker is full of jobs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
APPLICATION, QUEUE, ORDINARY = "app-benchmark000", "noop", "ordinary"
POOLS = {"prefork": 2, "threads": 8, "gevent": 8, "solo": 1}
"""With their concurrency."""

WARM = 300
"""Jobs before the clock starts: the worker's own start is not what is measured."""


@dataclass
class Running:
    """A worker that has begun to work off its queue. ``done``: how many it has ended."""

    server: ValkeyServer
    client: redis.Redis
    worker: subprocess.Popen[bytes]
    done: Callable[[], int]


@contextmanager
def worker(kind: str, pool: str, concurrency: int, count: int) -> Iterator[Running]:
    """A worker with so many no-op jobs waiting, of which it has ended some; it consumes ORDINARY, too."""
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
            "BROKER_URL": _url(server),
            "BACKEND_URL": _url(server, 1),
        }
        arguments = ["-m", "celery", "-A", "benchmarks.noop", "worker", "-P", pool, "-c", str(concurrency)]
        arguments += [
            "-Q",
            f"{queue if kind == KINDS[0] else QUEUE},{ORDINARY}",
            "--without-gossip",
            "--without-mingle",
        ]
        process = subprocess.Popen(
            child.command([sys.executable, *arguments, "-l", "WARNING"]),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        wait_until(lambda: done() >= WARM, 60)
        yield Running(server, client, process, done)


def _url(server: ValkeyServer, database: int = 0) -> str:
    """As the default user: bare Celery has other keys and channels than the documented one may use."""
    return f"redis://127.0.0.1:{server.port}/{database}"


def measure(kind: str, pool: str, concurrency: int, count: int) -> tuple[float, float]:
    """Jobs per second of one worker, and the microseconds of CPU that each cost it."""
    with worker(kind, pool, concurrency, count) as running:
        begun, already, used = time.perf_counter(), running.done(), cpu_s(running.worker.pid)
        wait_until(lambda: running.done() >= count, 120)
        took, used = time.perf_counter() - begun, cpu_s(running.worker.pid) - used
        return (count - already) / took, used * 1e6 / (count - already)


def neighbours(kind: str, pool: str, concurrency: int) -> tuple[float, float]:
    """How late an ordinary task begins beside no-op jobs without end: median and p99 in ms."""
    from celery import Celery

    tasks = 100
    with worker(kind, pool, concurrency, 30_000) as running, Celery("sender", broker=_url(running.server)) as app:
        for number in range(tasks):
            app.send_task("stamp", [time.time()], queue=ORDINARY, ignore_result=True)
            wait_until(lambda number=number: running.client.llen("began") > number, 30)  # type: ignore[misc]
        assert running.done() < 30_000, "the jobs ended too soon"
        late = sorted(float(one) * 1000 for one in running.client.lrange("began", 0, -1))
        return statistics.median(late), late[tasks * 99 // 100]


def cpu_s(pid: int) -> float:
    """The CPU time that a process and its children have used."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_s(int(one)) for one in children)


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
    totals = keys.shard_prefix(keys.shard_of(APPLICATION)) + b"totals"
    return lambda: int(store.redis.hget(totals, "c") or 0)  # one small read, as the others have it


def _send_tasks(kind: str, server: ValkeyServer, client: redis.Redis, count: int) -> Callable[[], int]:
    from celery import Celery

    app = Celery("sender", broker=_url(server))
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
    parser.add_argument("--pools", nargs="*", choices=POOLS, default=list(POOLS))
    options = parser.parse_args()
    for pool, concurrency in ((name, POOLS[name]) for name in options.pools):
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        for _ in range(options.rounds):
            for kind in KINDS:
                found[kind].append(measure(kind, pool, concurrency, options.jobs))
        speed = {kind: statistics.median(rate for rate, _ in runs) for kind, runs in found.items()}
        cpu = {kind: statistics.median(used for _, used in runs) for kind, runs in found.items()}
        for kind in KINDS:
            ratio = f", {speed[KINDS[0]] / speed[kind]:.2f} × as fast is mech-queue" if kind != KINDS[0] else ""
            print(
                f"{pool} {concurrency}: {kind} {speed[kind]:,.0f}/s, {cpu[kind]:,.0f} µs of CPU each{ratio}", flush=True
            )
        median, late = neighbours(KINDS[0], pool, concurrency)
        print(
            f"{pool} {concurrency}: an ordinary task begins {median:.0f} ms late (median), p99 {late:.0f}", flush=True
        )


if __name__ == "__main__":
    main()
