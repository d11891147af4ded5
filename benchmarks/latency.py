"""What waiting workers cost and how soon they hear of work: ``python -m benchmarks.latency``.

One API process. Submits and /health with and without 500 long polls beside them, one after the other; how long a
job takes to a worker that waits; how late a delayed job starts. A minute at most.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import requests

from benchmarks.http import start_ours, submit
from benchmarks.load import Request, Target, hold, rate

Talk = Generator[Request, tuple[int, bytes], None]
POLLERS = 500


def poll(salt: int, count: Callable[[int], None]) -> Talk:
    """A worker that waits on a queue of its own, again and again."""
    while True:
        status, body = yield "POST", f"/api/queues/idle-{salt}/claim", b'{"wait":30}'
        assert status == 200, body
        count(1)


class Health:
    """Asks /health all the time, from one connection."""

    def __init__(self, target: Target) -> None:
        self.times_ms: list[float] = []
        self._url = f"{target.url}/health"
        self._ended = threading.Event()

    @contextmanager
    def asked(self) -> Iterator[None]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._ended.wait(0.01):
                begun = time.perf_counter()
                answer = session.get(self._url, timeout=30)
                assert answer.status_code == 200, answer.text
                self.times_ms.append((time.perf_counter() - begun) * 1000)


def percentile(values: list[float], percent: int) -> float:
    """The value that ``percent`` of all stay below."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def handed_over(target: Target, options: Mapping[str, object], repeats: int) -> list[float]:
    """ms from the answer of a submit (or from the time the job is due) to the answer of a waiting claim."""
    found = []
    headers = {"x-api-key": target.api_key}
    with requests.Session() as worker, requests.Session() as producer:
        for _ in range(repeats):
            taken: list[float] = []

            def claim(taken: list[float] = taken) -> None:
                answer = worker.post(f"{target.url}/api/queues/hand/claim", json={"wait": 20}, headers=headers)
                taken.append(time.time() * 1000)
                assert answer.json()["count"] == 1

            waiting = threading.Thread(target=claim)
            waiting.start()
            time.sleep(0.1)  # let it wait: what is measured begins with the submit
            job = {"queue": "hand", "data": None, "options": options}
            answer = producer.post(f"{target.url}/api/jobs", data=json.dumps(job), headers={**headers, **JSON})
            due = time.time() * 1000
            if "delay" in options:
                shown = producer.get(f"{target.url}/api/jobs/{answer.json()['jobId']}", headers=headers).json()
                due = _ms(shown["job"]["timestamps"]["runAt"])
            waiting.join()
            found.append(taken[0] - due)
    return found


JSON = {"Content-Type": "application/json"}


def _ms(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp() * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="of one measurement (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="by turns; the median counts (default 3)")
    options = parser.parse_args()
    with ExitStack() as stack:
        target = start_ours(stack)
        # first, since pollers whose process was killed hold their places for as long as they wanted to wait
        for name, wanted in (("submit to a waiting claim", {}), ("start of a job delayed by 300 ms", {"delay": 300})):
            found = handed_over(target, wanted, 40)
            print(f"{name}: median {percentile(found, 50):.1f} ms, p99 {percentile(found, 99):.1f} ms")
        rates: list[list[float]] = [[], []]
        times: list[list[float]] = [[], []]
        for pollers in (0, POLLERS):
            with hold(target, poll, pollers):
                for _ in range(options.rounds):
                    health = Health(target)
                    with health.asked():
                        time.sleep(options.seconds)
                    times[bool(pollers)] += health.times_ms
                    rates[bool(pollers)].append(rate(target, submit("submit"), options.seconds))
        alone, beside = (statistics.median(found) for found in rates)
        print(f"submits/s alone {alone:,.0f}, beside {POLLERS} pollers {beside:,.0f}: {beside / alone:.2f} ×")
        for name, found in zip(("alone", f"beside {POLLERS} pollers"), times, strict=True):
            print(f"/health {name}: median {percentile(found, 50):.1f} ms, p99 {percentile(found, 99):.1f} ms")


if __name__ == "__main__":
    main()
