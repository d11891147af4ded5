"""The dashboard of Grafana, deploy/grafana.json: its panels in a few words, and what Grafana wants to know of each.

Expressions are PromQL over the metrics of docs/metrics.md; ``{{label}}`` in a legend is the label's value.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WIDTH = 24  # columns of Grafana's grid
SOURCE = {"type": "prometheus", "uid": "${source}"}
MINE = 'application=~"$application"'
QUEUE = f'{MINE},queue=~"$queue"'
WAITS = "/api/queues/.*claim|/api/events|/health.*"
"""Routes of long polls and streams, which are meant to take long; and of health checks."""


@dataclass(frozen=True, slots=True)
class Panel:
    """``lines``: legend -> expression. ``unit``: Grafana's name for it. ``kind``: timeseries, or stat (one number)."""

    title: str
    lines: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    about: str = ""


def _now(title: str, expression: str, unit: str = "short") -> Panel:
    return Panel(title, {"": expression}, unit, "stat", 4)


def _rate(metric: str, labels: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[$__rate_interval]))"


def _quantiles(metric: str, labels: str) -> dict[str, str]:
    rate = _rate(f"{metric}_bucket", labels, "le")
    return {f"p{share}": f"histogram_quantile(0.{share}, {rate})" for share in (50, 95, 99)}


ROWS: dict[str, list[Panel]] = {
    "Now": [
        _now("Store", "min(queue_store_up)", "bool_on_off"),
        _now("Jobs waiting", f'sum(queue_size{{{QUEUE},status="waiting"}})'),
        _now("Oldest waiting", f"max(queue_oldest_waiting_seconds{{{QUEUE}}})", "s"),
        _now("Workers", f"sum(queue_workers_connected{{{MINE}}})"),
        _now("Webhooks waiting", 'sum(queue_webhooks_pending{status="waiting"})'),
        _now("Scheduler behind by", "max(queue_scheduler_lag_seconds)", "s"),
    ],
    "Jobs": [
        Panel("Jobs by state", {"{{status}}": f"sum by (status) (queue_size{{{QUEUE}}})"}),
        Panel("Waiting, by queue", {"{{queue}}": f'sum by (queue) (queue_size{{{QUEUE},status="waiting"}})'}),
        Panel("Oldest waiting", {"{{queue}}": f"max by (queue) (queue_oldest_waiting_seconds{{{QUEUE}}})"}, "s"),
        Panel(
            "Jobs per second",
            {
                "submitted": _rate("queue_jobs_submitted_total", QUEUE),
                "{{status}}": _rate("queue_jobs_completed_total", QUEUE, "status"),
                "stalled": _rate("queue_jobs_stalled_total", QUEUE),
            },
        ),
        Panel("From submission to start", _quantiles("queue_job_wait_seconds", QUEUE), "s"),
        Panel("From start to end", _quantiles("queue_job_duration_seconds", QUEUE), "s"),
    ],
    "API": [
        Panel("Requests per second", {"{{status}}": _rate("queue_http_request_total", "", "status")}),
        Panel(
            "p99 by route",
            {
                "{{method}} {{route}}": "histogram_quantile(0.99, "
                + _rate("queue_http_request_duration_seconds_bucket", f'route!~"{WAITS}"', "le, method, route")
                + ")"
            },
            "s",
            about="Without long polls and streams. GET of a job may wait, too: ?wait=",
        ),
        Panel("Submits", _quantiles("queue_http_request_duration_seconds", 'method="POST",route="/api/jobs"'), "s"),
    ],
    "Webhooks": [
        Panel("Requests per second", {"{{status}}": _rate("queue_webhook_calls_total", MINE, "status")}, width=6),
        Panel("Duration of requests", _quantiles("queue_webhook_duration_seconds", MINE), "s", width=6),
        Panel(
            "Deliveries pending",
            {"{{status}}": "sum by (status) (queue_webhooks_pending)"},
            width=6,
            about="waiting: for a worker, or for their endpoint's turn; delayed: for their next attempt.",
        ),
        Panel(
            "Subscriptions switched off within an hour",
            {
                "{{application}} {{reason}}": "sum by (application, reason) "
                f"(increase(queue_subscriptions_disabled_total{{{MINE}}}[1h]))"
            },
            width=6,
        ),
    ],
    "Stages, workers, store": [
        Panel(
            "Behind by",
            {"scheduler": "max(queue_scheduler_lag_seconds)", "matching": "max(queue_events_lag_seconds)"},
            "s",
            width=6,
        ),
        Panel("Events to match", {"events": "max(queue_events_pending)"}, width=6),
        Panel("Workers", {"{{application}}": f"sum by (application) (queue_workers_connected{{{MINE}}})"}, width=6),
        Panel(
            "Store memory",
            {"used": "max(queue_store_memory_bytes)", "limit": "max(queue_store_memory_max_bytes) > 0"},
            "bytes",
            width=6,
        ),
    ],
}


def render() -> str:
    """deploy/grafana.json"""
    board = {
        "uid": "mech-queue",
        "title": "mech-queue",
        "tags": ["mech-queue"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "panels": [{"id": number, **panel} for number, panel in enumerate(_panels(), start=1)],
    }
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


def _panels() -> Iterator[dict[str, Any]]:
    y = 0
    for title, row in ROWS.items():
        yield {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _place(0, y, WIDTH, 1)}
        height = 4 if row[0].kind == "stat" else 8
        x, y = 0, y + 1
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            yield _panel(panel, _place(x, y, panel.width, height))
            x += panel.width
        y += height


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    if panel.kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never"}
        options = {"legend": {"placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for at, (legend, expression) in enumerate(panel.lines.items())
        ],
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return [
        source,
        _label("application", "label_values(queue_workers_connected, application)"),
        _label("queue", f"label_values(queue_size{{{MINE}}}, queue)"),
    ]


def _label(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
