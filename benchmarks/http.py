"""Ours and the yardstick (Express + BullMQ), measured by turns in one run: ``python -m benchmarks.http``.

Both get a store of their own of the same kind and settings, the same jobs and the same load. Only the
ratios mean something: the machine is shared with the load and the stores. A few minutes at most.
"""

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Callable, Generator
from contextlib import ExitStack

import requests

from benchmarks.load import Request, Target, rate, submission
from tests.e2e.node import NODE, ROOT, install
from tests.support.service import Service
from tests.support.valkey import ValkeyServer, free_port
from tests.support.waiting import wait_until

Talk = Generator[Request, tuple[int, bytes], None]
WAITING = 10_000
QUEUE = "benchmark"
YARDSTICK_KEY = "yardstick"


def submit(queue: str) -> Callable[[int, Callable[[int], None]], Talk]:
    """Single submits, for as long as the time lasts."""

    def script(salt: int, count: Callable[[int], None]) -> Talk:
        number = salt
        while True:
            status, body = yield "POST", "/api/jobs", submission(queue, number)
            assert status == 201, body
            count(1)
            number += 1

    return script


def submit_batches(queue: str) -> Callable[[int, Callable[[int], None]], Talk]:
    """Batches of 100; counts jobs."""
    body = b'{"jobs":[' + b",".join(submission(queue, number) for number in range(100)) + b"]}"

    def script(salt: int, count: Callable[[int], None]) -> Talk:
        while True:
            status, answer = yield "POST", "/api/jobs/batch", body
            assert status == 200, answer
            count(100)

    return script


def get(path: str) -> Callable[[int, Callable[[int], None]], Talk]:
    """The same GET again and again."""

    def script(salt: int, count: Callable[[int], None]) -> Talk:
        while True:
            status, body = yield "GET", path, b""
            assert status == 200, body[:200]
            count(1)

    return script


def work(queue: str, limit: int) -> Callable[[int, Callable[[int], None]], Talk]:
    """Claim ``limit`` jobs and complete them, one by its PUT and many by one request, until the queue is empty."""

    def script(salt: int, count: Callable[[int], None]) -> Talk:
        claim = json.dumps({"limit": limit}).encode()
        while True:
            status, body = yield "POST", f"/api/queues/{queue}/claim", claim
            jobs = json.loads(body)["jobs"]
            if not jobs:
                return
            done = [{"leaseToken": job["leaseToken"], "status": "completed", "result": 1} for job in jobs]
            if limit == 1:
                status, body = yield "PUT", f"/api/jobs/{jobs[0]['id']}", json.dumps(done[0]).encode()
            else:
                updates = [{"jobId": job["id"], **update} for job, update in zip(jobs, done, strict=True)]
                status, body = yield "POST", "/api/jobs/updates", json.dumps({"updates": updates}).encode()
            assert status == 200, body
            count(len(jobs))

    return script


def fill(target: Target, queue: str, jobs: int) -> str:
    """Submit jobs one by one, as both services can; the id of the last."""
    each = jobs // 16

    def script(salt: int, count: Callable[[int], None]) -> Talk:
        for number in range(each):
            yield "POST", "/api/jobs", submission(queue, number)
            count(1)

    rate(target, script, 60, connections=16)
    headers = {"x-api-key": target.api_key, "Content-Type": "application/json"}
    answer = requests.post(f"{target.url}/api/jobs", data=submission(queue, 0), headers=headers, timeout=10)
    return str(answer.json()["jobId"])


def as_embedded(store: ValkeyServer) -> ValkeyServer:
    """Let a store keep what it has as that of ``make run`` does."""
    with store.client() as client:
        client.config_set("appendonly", "yes")
        client.config_set("appendfsync", "everysec")
    return store


def start_ours(stack: ExitStack) -> Target:
    """One API process and what belongs to it."""
    service = stack.enter_context(Service(RATE_LIMIT_MAX_REQUESTS="100000000"))
    as_embedded(service.store)
    return Target(service.url, service.application("benchmark").api_key)


def start_yardstick(stack: ExitStack) -> Target:
    """The original's API in one Node process."""
    folder = ROOT / "benchmarks" / "yardstick"
    install(folder)
    store = as_embedded(ValkeyServer().start())
    stack.callback(store.close)
    port = free_port()
    process = subprocess.Popen(
        [os.environ.get("NODE", NODE), str(folder / "server.mjs")],
        env={
            "PATH": os.environ["PATH"],
            "PORT": str(port),
            "REDIS_URL": f"redis://127.0.0.1:{store.port}",  # whose keys are not ours
            "API_KEY": YARDSTICK_KEY,
        },
        stdout=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    target = Target(f"http://127.0.0.1:{port}", YARDSTICK_KEY)

    def answers() -> bool:
        try:
            return requests.get(f"{target.url}/api/jobs/none", timeout=1).status_code == 401
        except requests.ConnectionError:
            return False

    wait_until(answers, 20, "the yardstick answers")
    return target


def main() -> None:
    """Measure and print one line per kind of request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="of one measurement (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="by turns; the median counts (default 3)")
    parser.add_argument("--only", default="", help="only the lines whose name contains this, such as POST")
    parser.add_argument("--waiting", type=int, default=WAITING, help="jobs in the list (default 10,000)")
    options = parser.parse_args()
    with ExitStack() as stack:
        ours, yardstick = start_ours(stack), start_yardstick(stack)
        print(f"{'work':34}{'ours':>10}{'yardstick':>12}{'ratio':>8}   (per second, medians of {options.rounds})")
        both = [(ours, fill(ours, "list", options.waiting)), (yardstick, fill(yardstick, "list", options.waiting))]

        def line(name: str, measure: Callable[[Target, str], float], with_yardstick: bool = True) -> None:
            if options.only not in name:
                return
            figures: list[list[float]] = [[], []]
            for _ in range(options.rounds):
                for found, (target, job_id) in zip(figures, both, strict=True):
                    if with_yardstick or target is ours:
                        found.append(measure(target, job_id))
            mine = statistics.median(figures[0])
            if not with_yardstick:
                print(f"{name:34}{mine:>10,.0f}", flush=True)
                return
            other = statistics.median(figures[1])
            print(f"{name:34}{mine:>10,.0f}{other:>12,.0f}{mine / other:>8.2f}", flush=True)

        def claim_and_complete(limit: int, jobs: int) -> Callable[[Target, str], float]:
            def measure(target: Target, _: str) -> float:
                fill(target, "work", jobs)
                return rate(target, work("work", limit), options.seconds * 4, connections=8)

            return measure

        listing = get("/api/jobs?queue=list&status=waiting&limit=100")
        line("POST /api/jobs", lambda target, _: rate(target, submit("submit"), options.seconds))
        line("GET /api/jobs/{id}", lambda target, job: rate(target, get(f"/api/jobs/{job}"), options.seconds))
        line(f"list 100 of {options.waiting:,} waiting", lambda target, _: rate(target, listing, options.seconds, 8))
        line("claim and complete, one job", claim_and_complete(1, 2_000))
        line("claim and complete, 50 at a time", claim_and_complete(50, 8_000))
        line("batch submit, jobs", lambda target, _: rate(target, submit_batches("many"), options.seconds), False)


if __name__ == "__main__":
    main()
