"""Schedules and metrics with real processes: a schedule over HTTP, run by the scheduler, counted by the exporter.

And that alerts and dashboard ask for nothing that the exporter does not serve.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support import wait_until
from tests.support.receiver import Receiver
from tests.support.service import ROOT, Application, Service


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Everything but Flower; one job was submitted (counts of HTTP are there after some seconds only)."""
    with Service(roles=("scheduler", "webhooks", "subscriptions", "api", "metrics")) as running:
        submit(running, running.application(), "early")
        yield running


def submit(service: Service, application: Application, queue: str, **job: Any) -> str:
    """Submit a job; its address."""
    body = {"queue": queue, "data": 1, **job}
    answer = requests.post(f"{service.url}/api/jobs", json=body, headers=application.headers, timeout=10)
    assert answer.status_code == 201, answer.text
    return service.url + answer.headers["Location"]


def scrape(service: Service) -> list[Sample]:
    """All samples of the exporter; none while it does not listen yet."""
    try:
        text = requests.get(f"http://127.0.0.1:{service.metrics_port}/metrics", timeout=5).text
    except requests.ConnectionError:
        return []
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def counted(service: Service, name: str, **labels: str) -> float:
    """The sum of the samples with this name that have these labels; 0 when there is none."""
    return sum(one.value for one in scrape(service) if one.name == name and labels.items() <= one.labels.items())


def test_a_schedule_runs_is_worked_off_announced_and_counted(service: Service, receiver: Receiver) -> None:
    # given a schedule that runs twice, one second apart, whose jobs announce their end
    application = service.application()
    job = {"queue": "report", "data": 1, "webhooks": {"completed": receiver.url("/done")}}
    body = {"name": "twice", "every": 1_000, "limit": 2, "job": job}
    answer = requests.post(f"{service.url}/api/schedules", json=body, headers=application.headers, timeout=10)
    assert answer.status_code == 201, answer.text
    path = f"{service.url}/api/schedules/{answer.json()['schedule']['id']}"
    # when its time has come twice, and a worker completes the jobs
    for _ in range(2):
        claim = {"wait": 10, "workerId": "w-1"}
        url = f"{service.url}/api/queues/report/claim"
        claimed = requests.post(url, json=claim, headers=application.headers, timeout=20).json()["jobs"][0]
        done = {"status": "completed", "leaseToken": claimed["leaseToken"]}
        url = f"{service.url}/api/jobs/{claimed['id']}"
        assert requests.put(url, json=done, headers=application.headers, timeout=10).status_code == 200
    # then it is over
    schedule = requests.get(path, headers=application.headers, timeout=10).json()["schedule"]
    assert (schedule["runCount"], schedule["nextRunAt"], schedule["lastOutcome"]) == (2, None, "submitted")
    # and everything is counted, with true numbers
    mine = {"application": application.id}
    wait_until(
        lambda: counted(service, "queue_webhook_calls_total", **mine, event="completed", status="success") == 2, 30
    )
    assert counted(service, "queue_jobs_submitted_total", **mine, queue="report") == 2
    assert counted(service, "queue_jobs_completed_total", **mine, status="completed") == 2
    assert counted(service, "queue_webhook_duration_seconds_count", **mine) == 2
    assert counted(service, "queue_workers_connected", **mine) == 1
    wait_until(lambda: counted(service, "queue_http_request_total", method="PUT", status="200") == 2, 20)


def test_alerts_and_dashboard_ask_for_what_is_served(service: Service, receiver: Receiver) -> None:
    # given a service that has done what it counts
    application = service.application()
    job = submit(service, application, "asked", webhooks={"completed": receiver.url("/asked")})
    requests.put(job, json={"status": "completed"}, headers=application.headers, timeout=10)
    wait_until(lambda: counted(service, "queue_webhook_calls_total", application=application.id), 30)
    wait_until(lambda: counted(service, "queue_http_request_duration_seconds_count", route="/api/jobs"), 20)
    # when alerts and dashboard look at it, then nothing that they name is missing
    served = scrape(service)
    expressions = asked()
    assert len(expressions) > 50
    assert [(one, found) for one, text in expressions if (found := missing(one, text, served))] == []


def asked() -> list[tuple[str, str]]:
    """Each expression of alerts and dashboard, and the text that shows labels of its answer."""
    (group,) = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"]
    board = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    targets = [target for panel in board["panels"] for target in panel.get("targets", ())]
    variables = [one for one in board["templating"]["list"] if one["type"] == "query"]
    return [
        *((rule["expr"], rule["annotations"]["summary"]) for rule in group["rules"]),
        *((target["expr"], target["legendFormat"]) for target in targets),
        *((one["query"], f"{{{{{one['name']}}}}}") for one in variables),
    ]


def missing(expression: str, text: str, served: list[Sample]) -> list[str]:
    """The metrics, labels and values that an expression of PromQL, or a text with ``{{label}}``, takes for granted."""
    found = []
    shown: set[str] = set()
    for name, selector in re.findall(r"(queue_\w+)(?:\{([^}]*)\})?", expression):
        series = [sample.labels for sample in served if sample.name == name]
        found += [] if series else [name]
        shown |= {label for labels in series for label in labels}
        for label, compared, value in re.findall(r'(\w+)(=~|!=|!~|=)"([^"]*)"', selector):
            if not any(label in labels and (compared != "=" or labels[label] == value) for labels in series):
                found.append(f"{name}: {label}{compared}{value}")
    grouped = {label for listed in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in listed.split(", ")}
    told = set(re.findall(r"{{ ?(?:\$labels\.)?(\w+) ?}}", text))
    return found + sorted((grouped | told) - shown)
