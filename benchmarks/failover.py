"""What a failover by Sentinel loses: ``python -m benchmarks.failover``.

A primary, two replicas and three Sentinels, local; clients submit jobs all the time, and the primary is killed. Each
row counts the jobs that were acknowledged and are not there afterwards. ``cut off``: before it dies, the primary loses
its replicas for three seconds, while clients still reach it. ``hung``: it does not die, but stands still until another
is named, and then goes on.
"""

import itertools
import os
import signal
import sys
import threading
import time

from mech_queue.model.errors import Refusal
from mech_queue.model.job import JobSpec
from mech_queue.services import jobs
from mech_queue.store import Store
from tests.support.sentinel import DOWN_AFTER_MS, SentinelGroup
from tests.support.waiting import wait_until

APPLICATION = "app-failover0000"
CLIENTS = 4
BEFORE_S, CUT_S, AFTER_S = 1.5, 3.0, 1.0
MAX_LAG_S = 2
FAULTS = ("killed", "cut off, then killed", "hung, then goes on")


class Client(threading.Thread):
    """Submits one job after the other; knows which were acknowledged, and when."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self.longest_pause_s = 0.0
        self._store = Store.open(url)
        self._ended = threading.Event()

    def run(self) -> None:
        last = time.monotonic()
        while not self._ended.is_set():
            try:
                self.acknowledged.append(jobs.submit(self._store, APPLICATION, JobSpec("mail")).job_id)
                now = time.monotonic()
                self.longest_pause_s, last = max(self.longest_pause_s, now - last), now
            except Refusal:
                self._ended.wait(0.01)
        self._store.close()

    def stop(self) -> None:
        self._ended.set()
        self.join()


def run(fault: str, fsync: str, replicas: int) -> str:
    """One row of the table."""
    options = [
        "--appendfsync",
        fsync,
        "--min-replicas-to-write",
        str(replicas),
        "--min-replicas-max-lag",
        str(MAX_LAG_S),
    ]
    group = SentinelGroup(*options)
    try:
        store = Store.open(group.start().url)
        store.greet(initialise=True)
        clients = [Client(group.url) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(BEFORE_S)
        primary = group.primary
        if fault.startswith("cut"):
            group.cut_off()
            time.sleep(CUT_S)
        if fault.startswith("hung"):
            os.kill(primary.pid, signal.SIGSTOP)
        else:
            primary.kill()
        group.wait_for_another(primary)
        if fault.startswith("hung"):
            os.kill(primary.pid, signal.SIGCONT)
        reached = [len(client.acknowledged) for client in clients]
        wait_until(lambda: all(len(one.acknowledged) > was for one, was in zip(clients, reached, strict=True)), 60)
        time.sleep(AFTER_S)
        for client in clients:
            client.stop()
        ids = [job_id for client in clients for job_id in client.acknowledged]
        found = [
            store.jobs.get_many(APPLICATION, list(some))
            for some in (ids[at : at + 100] for at in range(0, len(ids), 100))
        ]
        lost = sum(job is None for some in found for job in some)
        pause_s = max(client.longest_pause_s for client in clients)
        store.close()
    finally:
        group.close()
    return f"| {fault} | {fsync} | {replicas} | {len(ids):,} | {lost:,} | {pause_s:.1f} s |"


def main() -> None:
    """Print the table as Markdown; words as arguments choose among the faults."""
    down_s = DOWN_AFTER_MS / 1000
    print(f"Sentinels take a silent primary for dead after {down_s:g} s; min-replicas-max-lag {MAX_LAG_S}.\n")
    print("| the primary is | appendfsync | min-replicas-to-write | acknowledged | lost | longest pause |")
    print("|---|---|---|---|---|---|")
    faults = [fault for fault in FAULTS if not sys.argv[1:] or fault.split()[0] in sys.argv]
    for fault, fsync, replicas in itertools.product(faults, ("always", "everysec"), (0, 1)):
        print(run(fault, fsync, replicas), flush=True)


if __name__ == "__main__":
    main()
