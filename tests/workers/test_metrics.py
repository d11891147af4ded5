"""The metrics exporter: true counts under the seed's names, bounded labels, an answer whatever the store does."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import JobSpec, Report
from mech_queue.services import jobs, metrics, queues
from mech_queue.store import Store, keys
from mech_queue.store.library import joined
from mech_queue.store.metrics import BUCKETS_MS, QueueRow
from tests.support import wait_until
from tests.support.service import ROOT
from tests.support.valkey import ValkeyServer, free_port
from workers.metrics import serve

APPLICATION = "app-000000000000"
Labels = frozenset[tuple[str, str]]


@contextmanager
def exporter(store: Store) -> Iterator[str]:
    """A served exporter; its address."""
    server, thread = serve(store, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    thread.join()
    server.server_close()


def scrape(address: str) -> dict[tuple[str, Labels], float]:
    """Every sample of one scrape, as Prometheus reads it."""
    with urllib.request.urlopen(address, timeout=5) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} stands twice"
            found[key] = sample.value
    return found


def one(samples: dict[tuple[str, Labels], float], name: str, **labels: str) -> float:
    """The only sample with this name and exactly these labels."""
    return samples[name, frozenset(labels.items())]


def listed(store: Store, application_id: str = APPLICATION) -> None:
    store.redis.zadd(keys.APPLICATIONS, {application_id: 1})


def work_off(store: Store, kind: str) -> None:
    job = jobs.claim(store, APPLICATION, ["email"], worker_id="w-1").jobs[0]
    jobs.report(store, APPLICATION, Report(job.id, kind, lease_token=job.lease_token))  # type: ignore[arg-type]


def test_counts_follow_the_jobs(store: Store) -> None:
    listed(store)
    ids = [jobs.submit(store, APPLICATION, JobSpec("email")).job_id for _ in range(5)]
    work_off(store, "complete")
    work_off(store, "fail")
    jobs.cancel(store, APPLICATION, ids[4])
    jobs.claim(store, APPLICATION, ["email"], worker_id="w-2")

    with exporter(store) as address:
        samples = scrape(address)

    email = {"queue": "email", "application": APPLICATION}
    assert one(samples, "queue_jobs_submitted_total", **email) == 5
    ended = {s: one(samples, "queue_jobs_completed_total", **email, status=s) for s in metrics.ENDED}
    assert ended == {"completed": 1, "failed": 1, "cancelled": 1}
    sizes = {s: one(samples, "queue_size", **email, status=s) for s in ("waiting", "active", "delayed", "failed")}
    assert sizes == {"waiting": 1, "active": 1, "delayed": 0, "failed": 1}
    assert one(samples, "queue_job_wait_seconds_count", **email) == 3
    assert one(samples, "queue_job_duration_seconds_count", **email) == 2
    assert one(samples, "queue_workers_connected", application=APPLICATION) == 2
    assert one(samples, "queue_store_up") == 1
    assert one(samples, "queue_store_memory_bytes") > 0


def test_age_stalls_and_durations_in_seconds(store: Store) -> None:
    now_ms = store.now_ms()
    listed(store)
    store.scripts.clock = lambda: now_ms - 90_000
    jobs.submit(store, APPLICATION, JobSpec("email"))
    jobs.submit(store, APPLICATION, JobSpec("email"))
    jobs.claim(store, APPLICATION, ["email"], lease_ms=5_000, worker_id="w")
    store.scripts.clock = lambda: now_ms - 60_000
    store.maintenance.run(keys.shard_of(APPLICATION), APPLICATION)  # the lease has run out
    job = jobs.claim(store, APPLICATION, ["email"], worker_id="w").jobs[0]
    store.scripts.clock = lambda: now_ms - 56_000
    jobs.report(store, APPLICATION, Report(job.id, "complete", lease_token=job.lease_token))
    store.scripts.clock = None

    with exporter(store) as address:
        samples = scrape(address)

    email = {"queue": "email", "application": APPLICATION}
    assert 90 <= one(samples, "queue_oldest_waiting_seconds", **email) < 100
    assert one(samples, "queue_jobs_stalled_total", **email) == 1
    assert one(samples, "queue_job_duration_seconds_sum", **email) == pytest.approx(4)
    assert one(samples, "queue_job_duration_seconds_bucket", **email, le="2.5") == 0
    assert one(samples, "queue_job_duration_seconds_bucket", **email, le="5.0") == 1
    assert one(samples, "queue_job_duration_seconds_bucket", **email, le="+Inf") == 1
    assert one(samples, "queue_job_wait_seconds_sum", **email) == pytest.approx(30)


def test_no_job_waits_no_age(store: Store) -> None:
    listed(store)
    queues.change(store, APPLICATION, "idle", {"concurrency": 1})
    with exporter(store) as address:
        assert one(scrape(address), "queue_oldest_waiting_seconds", queue="idle", application=APPLICATION) == 0


def test_webhook_calls_of_an_application(store: Store) -> None:
    listed(store)
    counts = {"call:completed:success": 3, "call:failed:failed": 1, "send:sum": 1300}
    counts |= {"send:100": 3, "send:1000": 1}
    store.redis.hset(keys.prefix(APPLICATION) + b"hooks", mapping=counts)

    with exporter(store) as address:
        samples = scrape(address)

    whose = {"application": APPLICATION}
    assert one(samples, "queue_webhook_calls_total", **whose, event="completed", status="success") == 3
    assert one(samples, "queue_webhook_calls_total", **whose, event="failed", status="failed") == 1
    assert one(samples, "queue_webhook_duration_seconds_sum", **whose) == pytest.approx(1.3)
    assert one(samples, "queue_webhook_duration_seconds_bucket", **whose, le="0.1") == 3
    assert one(samples, "queue_webhook_duration_seconds_bucket", **whose, le="1.0") == 4


def test_http_counts_of_the_api_processes(store: Store) -> None:
    def sample(name: str, **labels: str) -> str:
        return json.dumps([name, labels])

    duration, route = "queue_http_request_duration_seconds", {"method": "POST", "route": "/api/jobs", "status": "201"}
    counts = {sample(f"{duration}_bucket", **route, le=le): float(n) for le, n in {"0.01": 1, "+Inf": 2}.items()}
    counts |= {sample(f"{duration}_sum", **route): 0.5, sample(f"{duration}_count", **route): 2.0}
    counts |= {sample("queue_http_request_total", method="POST", status="201"): 2.0}
    for _ in range(2):
        store.metrics.add_http(counts)

    with exporter(store) as address:
        samples = scrape(address)

    assert one(samples, "queue_http_request_total", method="POST", status="201") == 4
    assert one(samples, f"{duration}_bucket", **route, le="+Inf") == 4
    assert one(samples, f"{duration}_sum", **route) == 1


def test_the_documented_names_are_those_served(store: Store) -> None:
    listed(store)
    jobs.submit(store, APPLICATION, JobSpec("email"))
    store.redis.hset(keys.prefix(APPLICATION) + b"hooks", mapping={"call:completed:success": 1})
    http = {"queue_http_request_total": {"method": "GET"}, "queue_http_request_duration_seconds_count": {}}
    store.metrics.add_http({json.dumps([name, labels]): 1.0 for name, labels in http.items()})
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    table = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `queue_"))

    with exporter(store) as address:
        served = {re.sub("_(bucket|count|sum)$", "", name) for name, _ in scrape(address)}

    assert set(re.findall(r"queue_\w+", table)) == served


def test_labels_are_bounded_and_the_oldest_queues_keep_theirs() -> None:
    rows = [QueueRow(f"q{n}", 100 - n, {"waiting": 1}, {"submitted": 2}, 1_000 + n) for n in range(5)]

    kept = metrics.bounded(rows, most=3)

    assert [row.name for row in kept] == ["q4", "q3", "q2", metrics.OTHER]
    assert (kept[3].sizes, kept[3].counters, kept[3].oldest_waiting_ms) == ({"waiting": 2}, {"submitted": 4}, 1_000)


def test_bounds_are_those_of_the_scripts() -> None:
    found = re.search(r"local BUCKETS = \{([^}]*)\}", joined("job_claim"))
    assert found
    assert tuple(int(bound) for bound in found.group(1).split(",")) == BUCKETS_MS


def test_a_store_that_goes_and_comes_back() -> None:
    server = ValkeyServer().start()
    store = Store.open(server.url())
    store.greet(initialise=True)
    with exporter(store) as address:
        assert one(scrape(address), "queue_store_up") == 1
        server.kill()
        away = scrape(address)
        assert one(away, "queue_store_up") == 0
        assert {name for name, _ in away} == {"queue_store_up", "queue_build_info"}
        server.start()
        wait_until(lambda: one(scrape(address), "queue_store_up") == 1)
    store.close()
    server.close()


def test_the_process_serves_and_ends_when_told(redis_url: str) -> None:
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "REDIS_URL": redis_url, "METRICS_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-m", "workers.metrics"], cwd=ROOT, env=environment)

    def answer() -> float | None:
        assert process.poll() is None
        try:
            return one(scrape(f"http://127.0.0.1:{port}/metrics"), "queue_store_up")
        except OSError:
            return None

    try:
        assert wait_until(answer) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_read_raises_what_the_collector_catches() -> None:
    store = Store.open(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Refusal) as refused:
        metrics.read(store)
    assert refused.value.code == Code.STORE_UNAVAILABLE
    store.close()
