"""HTTP metrics: prometheus-flask-exporter counts the Flask routes, the hot lane feeds the same collectors.

A process cannot be scraped alone (there may be several, and they come and go), so each adds what it
counted to the store every few seconds; the exporter process serves the sums.
"""

import json
import logging
import threading
from typing import Any

from flask import Flask, Request
from prometheus_client import CollectorRegistry
from prometheus_flask_exporter import PrometheusMetrics

from mech_queue.store import Store

log = logging.getLogger(__name__)

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)
FLUSH_S = 5.0
UNKNOWN = "unmatched"
DURATION, TOTAL = "queue_http_request_duration_seconds", "queue_http_request_total"


def route(request: Request) -> str:
    """The label: the rule of the route, never the path (which has ids in it)."""
    return str(request.url_rule) if request.url_rule else UNKNOWN


class HttpMetrics:
    """The collectors of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._durations: dict[tuple[str, str, int], Any] = {}
        self._totals: dict[tuple[str, int], Any] = {}
        self._duration: Any = None
        self._total: Any = None
        self._flushed: dict[str, float] = {}
        self._lock = threading.Lock()

    def install(self, app: Flask) -> None:
        """Count the requests of this app."""
        PrometheusMetrics(
            app,
            path=None,
            group_by=route,
            defaults_prefix="queue",
            buckets=BUCKETS,
            registry=self.registry,
        )
        collectors = self.registry._names_to_collectors
        self._duration, self._total = collectors[DURATION], collectors[TOTAL]

    def observe(self, method: str, rule: str, status: int, seconds: float) -> None:
        """One request that the hot lane answered."""
        key = (method, rule, status)
        duration = self._durations.get(key)
        if duration is None:
            duration = self._duration.labels(method=method, route=rule, status=str(status))
            self._durations[key] = duration
        duration.observe(seconds)
        total = self._totals.get((method, status))
        if total is None:
            total = self._totals[(method, status)] = self._total.labels(method=method, status=str(status))
        total.inc()

    def samples(self) -> dict[str, float]:
        """Every count of this process, by sample (see ``Metrics.add_http``)."""
        found = {}
        for metric in self.registry.collect():
            for sample in metric.samples:
                if not sample.name.endswith(("_created", "_info")):
                    name = json.dumps([sample.name, sample.labels], separators=(",", ":"), sort_keys=True)
                    found[name] = float(sample.value)
        return found

    def flush(self, store: Store) -> None:
        """Add what was counted since the last flush to the store."""
        with self._lock:
            now = self.samples()
            deltas = {name: value - self._flushed.get(name, 0.0) for name, value in now.items()}
            deltas = {name: amount for name, amount in deltas.items() if amount}
            if deltas:
                store.metrics.add_http(deltas)
            self._flushed = now

    def flush_for_ever(self, store: Store, stop: threading.Event) -> None:
        """Flush every FLUSH_S seconds until ``stop``, and once more then."""
        while not stop.wait(FLUSH_S):
            self._try_flush(store)
        self._try_flush(store)

    def _try_flush(self, store: Store) -> None:
        try:
            self.flush(store)
        except Exception as error:  # the counts stay here and go with the next flush
            log.warning("HTTP counts not flushed: %s", error)
