"""Webhooks: sending, matching, memory, event streams. ``python -m benchmarks.delivery``.

Sending stands beside threads that do nothing but ``requests.post`` to the same receiver in the same run; only that
ratio means something elsewhere. Each part has a fresh store that writes to disk every second.
"""

import argparse
import asyncio
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import requests

from benchmarks.http import as_embedded, get
from benchmarks.load import Target, rate
from mech_queue.model import address
from mech_queue.model.job import JobSpec
from mech_queue.model.metadata import fields_of
from mech_queue.services import applications, jobs, subscriptions
from mech_queue.store import Store, keys
from mech_queue.store.deliveries import NewDelivery, Slots
from tests.support.service import Service
from tests.support.valkey import free_port
from tests.support.waiting import wait_until

THREADS = 64
WARM = 300
"""Deliveries before the clock starts: the worker's own start is not what is measured."""

BODY = b'{"jobId":"0192f0c1-7b7e-7000-8000-000000000001","status":"completed","result":' + b'"%s"}' % (b"x" * 400)


class _Receiver(asyncio.Protocol):
    """Answers 204 to every request, as fast as Python can."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            length = int(self._data[:end].lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            if len(self._data) < end + 4 + length:
                return
            self._data = self._data[end + 4 + length :]
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")  # type: ignore[attr-defined]


def _receive(port: int) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Receiver, "127.0.0.1", port, backlog=512)
        await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def receiver() -> Iterator[str]:
    """A fast receiver in a process of its own; its URL."""
    port = free_port()
    process = multiprocessing.get_context("fork").Process(target=_receive, args=(port,), daemon=True)
    process.start()
    try:
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield f"http://127.0.0.1:{port}/hook"
    finally:
        process.kill()
        process.join()


@contextmanager
def service(*roles: str, **environment: str) -> Iterator[tuple[Service, Store, str]]:
    """A service of which nothing runs yet, its store, and an application."""
    address.allow(["127.0.0.0/8"])
    with ExitStack() as stack:
        made = Service(roles, False, **environment)
        stack.callback(made.close)
        store = Store.open(made.store.url())
        stack.callback(store.close)
        as_embedded(made.store)
        store.secrets_key = made.environment["SECRETS_KEY"]
        store.greet(initialise=True)
        yield made, store, applications.create(store, "benchmark").application.id


def fill(store: Store, application_id: str, url: str, count: int) -> None:
    """Pending deliveries with a body of half a kilobyte."""
    shard = keys.shard_of(application_id)
    for first in range(0, count, 100):
        some = [
            NewDelivery(application_id, "completed", f"{number:032x}", 1, 0, "email", url, BODY)
            for number in range(first, min(first + 100, count))
        ]
        store.deliveries.create(shard, some)


class Figures(NamedTuple):
    """Units per second, and CPU time per unit in µs: of the process, of the store. A busy machine spoils the first."""

    per_second: float
    process_us: float
    store_us: float = 0.0


def median(found: Sequence[Figures]) -> Figures:
    """Of each figure by itself."""
    return Figures(*(statistics.median(one) for one in zip(*found, strict=True)))


def timed(service: Service, role: str, store: Store, done: Callable[[], int], count: int) -> Figures:
    """From the first WARM to the last."""
    wait_until(lambda: done() >= WARM, 60)
    begun, already = time.perf_counter(), done()
    pid = service.processes[role].pid
    before = cpu_s(pid), store_cpu_s(store)
    wait_until(lambda: done() >= count, 300)
    units, seconds = count - already, time.perf_counter() - begun
    process_s, store_s = cpu_s(pid) - before[0], store_cpu_s(store) - before[1]
    return Figures(units / seconds, process_s / units * 1e6, store_s / units * 1e6)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def store_cpu_s(store: Store) -> float:
    """CPU seconds of the store's process so far."""
    found = store.redis.info("cpu")
    return float(found["used_cpu_user"] + found["used_cpu_sys"])


def sending(count: int) -> Figures:
    """One webhooks process."""
    with receiver() as url, service("scheduler", "webhooks", WEBHOOK_ENDPOINT_SLOTS=str(THREADS)) as (made, store, app):
        store.deliveries.slots = Slots(THREADS, THREADS)
        fill(store, app, url, count)
        made.start()
        return timed(made, "webhooks", store, lambda: store.deliveries.waiting(keys.shard_of(app))["c"], count)


def bare(count: int) -> Figures:
    """Threads that only send, in a process of their own."""
    context = multiprocessing.get_context("fork")
    result = context.SimpleQueue()
    with receiver() as url:
        process = context.Process(target=lambda: result.put(_bare(url, count)))
        process.start()
        found: Figures = result.get()
        process.join()
    return found


def _bare(url: str, count: int) -> Figures:
    def send(share: int) -> None:
        with requests.Session() as session:
            for _ in range(share):
                assert session.post(url, data=BODY, headers={"Content-Type": "application/json"}).status_code == 204

    begun, cpu, units = time.perf_counter(), time.process_time(), count // THREADS * THREADS
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(send, [count // THREADS] * THREADS))
    return Figures(units / (time.perf_counter() - begun), (time.process_time() - cpu) / units * 1e6)


def memory(count: int) -> float:
    """Bytes of the store per pending delivery, its body of BODY's size included."""
    with service() as (_, store, app):
        before = int(store.redis.info("memory")["used_memory"])
        fill(store, app, "https://hooks.example.com/jobs", count)
        return (int(store.redis.info("memory")["used_memory"]) - before) / count


def matching(count: int, subscribers: int) -> tuple[Figures, float]:
    """One subscriptions process, and events that three want each; and the store's µs to submit a job that none wants.

    What nobody wants ends in the script that made it, so that is all it costs.
    """
    with service("scheduler", "subscriptions") as (made, store, app):
        for number in range(subscribers):
            wanted = "c-1" if number < 3 else f"d-{number}"
            filters = {"metadata": {"customer": wanted}}
            body = {"name": "s", "endpoint": "https://hooks.example.com/", "events": ["created"], "filters": filters}
            subscriptions.create(store, app, body)
        shard = keys.shard_of(app)
        before = store_cpu_s(store)
        submit(store, app, count, "c-2")
        unwanted_us = (store_cpu_s(store) - before) / count * 1e6
        assert store.events.pending(shard) == 0
        submit(store, app, count, "c-1")
        assert store.events.pending(shard) == (count if subscribers else 0)
        if not subscribers:
            return Figures(0, 0), unwanted_us
        made.start()
        found = timed(made, "subscriptions", store, lambda: count - store.events.pending(shard), count)
        wait_until(lambda: store.deliveries.waiting(shard)["w"] == 3 * count, 10)
        return found, unwanted_us


def submit(store: Store, app: str, count: int, customer: str) -> None:
    """Jobs of one customer, in batches."""
    metadata = {"customer": customer, "kind": "order"}
    text = b'{"customer": "%s", "kind": "order"}' % customer.encode()
    spec = JobSpec(queue="email", data=b"1", metadata=text, fields=fields_of(metadata))
    for first in range(0, count, 1000):
        jobs.submit_many(store, app, [spec] * min(1000, count - first))


def streams(number: int, seconds: float, rounds: int) -> tuple[float, float]:
    """GETs per second of one API process without and with so many open event streams that nobody reads."""
    with ExitStack() as stack:
        made = stack.enter_context(Service(RATE_LIMIT_MAX_REQUESTS="100000000"))
        as_embedded(made.store)
        application = made.application()
        target = Target(made.url, application.api_key)
        body = {"queue": "email", "data": 1}
        job = requests.post(f"{made.url}/api/jobs", json=body, headers=application.headers, timeout=10).json()["jobId"]
        script = get(f"/api/jobs/{job}")
        found: list[list[float]] = [[], []]
        for _ in range(rounds):
            found[0].append(rate(target, script, seconds))
            with _open_streams(made.port, application.api_key, number):
                found[1].append(rate(target, script, seconds))
        return statistics.median(found[0]), statistics.median(found[1])


@contextmanager
def _open_streams(port: int, api_key: str, number: int) -> Iterator[None]:
    request = f"GET /api/events HTTP/1.1\r\nHost: x\r\nx-api-key: {api_key}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(number):
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            stream.sendall(request)
            assert stream.recv(4096).startswith(b"HTTP/1.1 200"), "a stream was refused"
        yield


def _shown(one: Figures) -> str:
    return f"{one.per_second:,.0f}/s ({one.process_us:,.0f} µs CPU each, store {one.store_us:,.0f})"


def main() -> None:
    """Measure and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only the parts whose name contains this")
    parser.add_argument("--rounds", type=int, default=3, help="by turns; the median counts (default 3)")
    options = parser.parse_args()
    rounds = range(options.rounds)
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}", flush=True)
    if options.only in "sending":
        ours, theirs = (median(one) for one in zip(*((sending(3_000), bare(3_000)) for _ in rounds), strict=True))
        ratio = ours.per_second / theirs.per_second
        print(f"sending: {_shown(ours)}; bare requests {_shown(theirs)}: {ratio:.2f} ×", flush=True)
    if options.only in "matching":
        for subscribers in (0, 10, 10_000):
            rows, costs = zip(*(matching(3_000, subscribers) for _ in rounds), strict=True)
            unwanted = f"store {statistics.median(costs):,.0f} µs for a job whose events none wants"
            matched = f"{_shown(median(rows))} wanted by three; " if subscribers else ""
            print(f"matching, {subscribers:,} subscriptions: {matched}{unwanted}", flush=True)
    if options.only in "memory":
        print(f"memory: {memory(100_000):,.0f} bytes per pending delivery, body of {len(BODY)}", flush=True)
    if options.only in "streams":
        without, beside = streams(200, 3, options.rounds)
        print(f"streams: GET {without:,.0f}/s, beside 200 open streams {beside:,.0f}/s: {beside / without:.2f} ×")


if __name__ == "__main__":
    main()
