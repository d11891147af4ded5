"""Prometheus metrics of the whole service: ``python -m workers.metrics`` serves them on METRICS_PORT.

The counts are kept in the store by the scripts that change it, so they are exact over all processes
and restarts. This process only reads them, once per scrape, and any number of it may run. When the
store is away it still answers, with ``queue_store_up 0``.
"""

import json
import signal
import threading
from collections.abc import Iterable, Iterator
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import mech_queue
from config import logging as logs
from config.settings import Settings, load
from mech_queue.model.errors import Refusal
from mech_queue.services import metrics
from mech_queue.services.metrics import ApplicationNumbers, Histogram, Numbers, QueueNumbers
from mech_queue.store import Store

log = structlog.stdlib.get_logger("metrics")

QUEUE = ("queue", "application")


class StoreCollector(Collector):
    """Reads the store anew for each scrape."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._away = False

    def collect(self) -> Iterator[Metric]:
        """All families; only ``queue_store_up`` and the build when the store cannot be read."""
        numbers = self._read()
        yield GaugeMetricFamily("queue_store_up", "Whether the store answered this scrape.", float(numbers is not None))
        build = GaugeMetricFamily("queue_build_info", "The release that answers; always 1.", labels=["version"])
        build.add_metric([mech_queue.__version__], 1)
        yield build
        if numbers is not None:
            yield from families(numbers)

    def _read(self) -> Numbers | None:
        try:
            numbers = metrics.read(self._store)
        except Refusal as refusal:
            if not self._away:
                log.warning("store is away, queue_store_up is 0", reason=refusal.message)
            self._away = True
            return None
        self._away = False
        return numbers


def families(numbers: Numbers) -> Iterator[Metric]:
    """The numbers as Prometheus families."""
    yield from _jobs(numbers.queues)
    yield from _sizes(numbers.queues)
    yield from _webhooks(numbers.applications)
    yield from _stages(numbers)
    workers = GaugeMetricFamily(
        "queue_workers_connected", "Workers that asked for work within the last minute.", labels=["application"]
    )
    for application in numbers.applications:
        workers.add_metric([application.id], application.workers)
    yield workers
    yield GaugeMetricFamily("queue_store_memory_bytes", "Memory that the store uses.", numbers.memory_used)
    yield GaugeMetricFamily("queue_store_memory_max_bytes", "Its limit (maxmemory); 0: none.", numbers.memory_most)
    yield from http_families(numbers.http)


def _jobs(queues: Iterable[QueueNumbers]) -> Iterator[Metric]:
    submitted = CounterMetricFamily("queue_jobs_submitted", "Jobs submitted.", labels=QUEUE)
    ended = CounterMetricFamily("queue_jobs_completed", "Jobs ended, by how they ended.", labels=(*QUEUE, "status"))
    stalled = CounterMetricFamily("queue_jobs_stalled", "Leases that ran out before their job ended.", labels=QUEUE)
    run = HistogramMetricFamily(
        "queue_job_duration_seconds", "From the start of the last attempt to the end of the job.", labels=QUEUE
    )
    wait = HistogramMetricFamily("queue_job_wait_seconds", "From the submission to the start.", labels=QUEUE)
    for one in queues:
        labels = [one.queue, one.application]
        submitted.add_metric(labels, one.submitted)
        stalled.add_metric(labels, one.stalled)
        for status, number in one.ended.items():
            ended.add_metric([*labels, status], number)
        _add(run, labels, one.run)
        _add(wait, labels, one.wait)
    yield from (submitted, ended, stalled, run, wait)


def _sizes(queues: Iterable[QueueNumbers]) -> Iterator[Metric]:
    size = GaugeMetricFamily("queue_size", "Jobs in the store, by status.", labels=(*QUEUE, "status"))
    oldest = GaugeMetricFamily(
        "queue_oldest_waiting_seconds", "Age of the oldest waiting job; 0 when none waits.", labels=QUEUE
    )
    for one in queues:
        labels = [one.queue, one.application]
        oldest.add_metric(labels, one.oldest_waiting_s)
        for status, number in one.sizes.items():
            size.add_metric([*labels, status], number)
    yield from (size, oldest)


def _webhooks(applications: Iterable[ApplicationNumbers]) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        "queue_webhook_calls", "Webhook requests, by how they ended.", labels=("application", "event", "status")
    )
    duration = HistogramMetricFamily(
        "queue_webhook_duration_seconds", "How long webhook requests took.", labels=["application"]
    )
    disabled = CounterMetricFamily(
        "queue_subscriptions_disabled", "Subscriptions that the service switched off.", labels=("application", "reason")
    )
    for application in applications:
        for (event, status), number in application.calls.items():
            calls.add_metric([application.id, event, status], number)
        _add(duration, [application.id], application.call_duration)
        for reason, number in application.disabled.items():
            disabled.add_metric([application.id, reason], number)
    yield from (calls, duration, disabled)


def _stages(numbers: Numbers) -> Iterator[Metric]:
    pending = GaugeMetricFamily("queue_webhooks_pending", "Webhook deliveries that have not ended.", labels=["status"])
    for status, number in numbers.deliveries.items():
        pending.add_metric([status], number)
    yield pending
    yield GaugeMetricFamily("queue_events_pending", "Events that nobody has matched yet.", numbers.events_pending)
    yield GaugeMetricFamily("queue_events_lag_seconds", "Age of the oldest of them; 0: none.", numbers.events_lag_s)
    yield GaugeMetricFamily(
        "queue_scheduler_lag_seconds", "How long ago the oldest thing was due that still is.", numbers.scheduler_lag_s
    )


def _add(family: HistogramMetricFamily, labels: list[str], found: Histogram) -> None:
    buckets = [(str(bound), float(number)) for bound, number in found.buckets]
    family.add_metric(labels, [*buckets, ("+Inf", float(found.count))], found.sum_s)


_PARTS = ("_bucket", "_sum", "_count")


def http_families(samples: dict[str, float]) -> Iterator[Metric]:
    """The sums of the API processes, as the families that they were counted in."""
    found: dict[str, Metric] = {}
    for text in sorted(samples):
        name, labels = json.loads(text)
        part = next((part for part in _PARTS if name.endswith(part)), "")
        base = name.removesuffix(part or "_total")
        if base not in found:
            what = "Duration of HTTP requests." if part else "HTTP requests."
            found[base] = Metric(base, what, "histogram" if part else "counter")
        found[base].add_sample(name, labels, samples[text])
    for family in found.values():
        family.samples.sort(key=lambda sample: float(sample.labels.get("le", 0)))  # buckets in their order
        family.samples.sort(key=lambda sample: sorted(one for one in sample.labels.items() if one[0] != "le"))
        family.samples.sort(key=lambda sample: sample.name)
        yield family


def serve(store: Store, host: str, port: int) -> tuple[WSGIServer, threading.Thread]:
    """Serve the metrics of a store from a thread; port 0 takes a free one."""
    registry = CollectorRegistry(auto_describe=False)  # describing would read the store while it registers
    registry.register(StoreCollector(store))
    server, thread = start_http_server(port, host, registry)
    return server, thread


STOPS = {signal.SIGTERM, signal.SIGINT}


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT (which the caller has blocked, so that none is lost)."""
    store = Store.open(settings.redis_url)
    server, thread = serve(store, settings.host, settings.metrics_port)
    log.info("metrics served", host=settings.host, port=settings.metrics_port)
    try:
        signal.sigwait(STOPS)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        store.close()
    log.info("metrics ended")


def main() -> None:
    """Entry point of ``python -m workers.metrics``."""
    settings = load()
    logs.configure(settings, "metrics")
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    if settings.enable_prometheus_metrics:
        run(settings)
    else:
        log.info("metrics are switched off (ENABLE_PROMETHEUS_METRICS=false); this process only waits")
        signal.sigwait(STOPS)


if __name__ == "__main__":
    main()
