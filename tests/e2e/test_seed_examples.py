"""Every request that the seed shows in words, sent for real; every answer it shows has that shape."""

from typing import Any

import pytest
import requests

from tests.e2e import seed
from tests.support.service import Application, Service

TIMEOUT_S = 10


@pytest.fixture(scope="module")
def application(service: Service) -> Application:
    return service.application("seed")


def send(service: Service, headers: dict[str, str], method: str, path: str, body: Any = None) -> Any:
    answer = requests.request(method, service.url + path, json=body, headers=headers, timeout=TIMEOUT_S)
    assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
    return answer.json()


def submitted(service: Service, application: Application) -> str:
    example = seed.example("Submit a Job")
    return send(service, application.headers, "POST", "/api/jobs", example.body)["jobId"]


def assert_shape(shown: Any, answered: Any, where: str = "answer") -> None:
    """Everything that the seed shows is there and has the same JSON type."""
    assert type(shown) is type(answered), f"{where}: the seed shows {shown!r}, the answer is {answered!r}"
    if isinstance(shown, dict):
        for name, value in shown.items():
            assert name in answered, f"{where}.{name} is missing in {answered!r}"
            assert_shape(value, answered[name], f"{where}.{name}")


def test_the_authentication_line(service, application):
    # curl -H "x-api-key: your-api-key" http://localhost:3003/api/...
    line = next(line for line in seed.text().splitlines() if line.startswith("curl "))
    header = line.split('"')[1].replace(seed.KEYS[0], application.api_key)
    name, _, value = header.partition(": ")
    url = line.split()[-1].replace(seed.BASE, service.url).replace("...", "jobs")
    assert requests.get(url, headers={name: value}, timeout=TIMEOUT_S).json()["success"] is True
    assert requests.get(url, timeout=TIMEOUT_S).status_code == 401


def test_health(service):
    assert "GET /health" in seed.text()
    answer = requests.get(f"{service.url}/health", timeout=TIMEOUT_S)
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")


def test_submit_a_job(service, application):
    example = seed.example("Submit a Job")
    answer = send(service, application.headers, example.method, example.path, example.body)
    assert_shape(example.answer, answer)
    assert answer["message"] == example.answer["message"]
    job = send(service, application.headers, "GET", f"/api/jobs/{answer['jobId']}")["job"]
    assert job["data"] == example.body["data"]
    assert job["metadata"] == example.body["metadata"]


@pytest.mark.parametrize("status", ["started", "progress", "completed", "failed"])
def test_update_job_status(service, application, status):
    # given a job, and the seed's body, in which the comment lists four statuses
    example = seed.example("Update Job Status (For Workers)")
    job_id = submitted(service, application)
    # when it is sent with each of them
    path = example.path.format(jobId=job_id)
    answer = send(service, application.headers, example.method, path, {**example.body, "status": status})
    # then the answer has its words and the job its state
    assert answer["success"] is True
    assert answer["message"] == example.answer["message"].format(jobId=job_id)
    job = send(service, application.headers, "GET", f"/api/jobs/{job_id}")["job"]
    assert job["status"] == {"started": "active", "progress": "active"}.get(status, status)


def test_get_job_status(service, application):
    example = seed.example("Get Job Status")
    job_id = submitted(service, application)
    for body in ({"status": "started"}, {"status": "progress", "progress": 100}):
        send(service, application.headers, "PUT", f"/api/jobs/{job_id}", body)
    send(service, application.headers, "PUT", f"/api/jobs/{job_id}", {"status": "completed", "result": {}})
    answer = send(service, application.headers, example.method, example.path.format(jobId=job_id))
    assert_shape(example.answer, answer)
    job, shown = answer["job"], example.answer["job"]
    assert (job["status"], job["progress"]) == (shown["status"], shown["progress"])


def test_list_jobs_with_filtering(service, application):
    # given a job that the seed's filter describes, and one that it does not
    example = seed.example("List Jobs with Filtering")
    for priority in ("high", "low"):
        body = {"queue": "email", "data": {}, "metadata": {"priority": priority, "customerId": "cust-123"}}
        job_id = send(service, application.headers, "POST", "/api/jobs", body)["jobId"]
        send(service, application.headers, "PUT", f"/api/jobs/{job_id}", {"status": "completed"})
    # when the seed's line is asked
    answer = send(service, application.headers, "GET", example.path)
    # then only the first is found
    assert_shape(example.answer, answer)
    assert [job["metadata"]["priority"] for job in answer["jobs"]] == ["high"]
    assert answer["count"] == 1


def test_register_webhooks(service, application):
    example = seed.example("Register/Update Webhooks")
    job_id = submitted(service, application)
    answer = send(service, application.headers, example.method, example.path.format(jobId=job_id), example.body)
    assert_shape(example.answer, answer)
    assert answer["message"] == example.answer["message"].format(jobId=job_id)
    assert example.body["webhooks"].items() <= answer["webhooks"].items()


def test_create_application(service):
    example = seed.example("Create Application")
    answer = send(service, {"x-api-key": service.master_key}, example.method, example.path, example.body)
    assert_shape(example.answer, answer)
    assert answer["data"]["apiKey"].startswith("sk_")
    assert answer["data"]["id"].startswith("app-")
    assert answer["data"]["settings"]["maxConcurrentJobs"] == 100


def test_every_line_of_the_metadata_filters(service, application):
    # given a job for each of the three lines
    for queue, status, metadata in (
        ("mail", "waiting", {"type": "email"}),
        ("mail", "waiting", {"priority": "high", "customerId": "cust-123", "line": 2}),
        ("payments", "failed", {"retryCount": 3}),
    ):
        body = {"queue": queue, "data": {}, "metadata": metadata}
        job_id = send(service, application.headers, "POST", "/api/jobs", body)["jobId"]
        if status != "waiting":
            send(service, application.headers, "PUT", f"/api/jobs/{job_id}", {"status": status, "error": "e"})
    lines = [path for path in seed.requests_lines() if "?metadata." in path or "queue=payments" in path]
    assert len(lines) == 3
    # when each line is asked, then it finds that job
    for line, (name, value) in zip(lines, (("type", "email"), ("line", 2), ("retryCount", 3)), strict=True):
        jobs = send(service, application.headers, "GET", line)["jobs"]
        assert value in [job["metadata"].get(name) for job in jobs], line


def test_every_variable_of_the_seed_is_in_the_example_file():
    names = [line.split("`")[1] for line in seed.text().splitlines() if line.startswith("- `") and "_" in line]
    names = [name for name in names if name.isupper()]
    example = (seed.SEED.parents[1] / ".env.example").read_text()
    assert {"REDIS_HOST", "MASTER_API_KEY"} <= set(names)
    assert [name for name in names if f"{name}=" not in example] == []
