"""Schedules and metrics with real processes: a schedule over HTTP, run by the scheduler, counted by the exporter."""

from collections.abc import Iterator

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.support import wait_until
from tests.support.receiver import Receiver
from tests.support.service import Service


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Everything but Flower."""
    with Service(roles=("scheduler", "webhooks", "subscriptions", "api", "metrics")) as running:
        yield running


def counted(service: Service, name: str, **labels: str) -> float:
    """The sum of the samples with this name that have these labels; 0 when there is none."""
    try:
        text = requests.get(f"http://127.0.0.1:{service.metrics_port}/metrics", timeout=5).text
    except requests.ConnectionError:
        return 0.0  # it has not begun to listen
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


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
