"""The seed's JavaScript, lifted from docs/seed.md and run by a real Node with the real axios and express."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook

from tests.e2e import seed
from tests.e2e.node import Script
from tests.support import wait_until
from tests.support.service import Application, Service

# What the seed leaves undefined. `updateJobStatus` is the PUT that the seed documents.
UPDATE_JOB_STATUS = """
async function updateJobStatus(jobId, status, { apiKey, ...more }) {
  const response = await fetch(`BASE/api/jobs/${jobId}`, {
    method: 'PUT',
    headers: { 'Content-Type': 'application/json', 'x-api-key': apiKey },
    body: JSON.stringify({ status, ...more }),
  });
  if (!response.ok) throw new Error(await response.text());
}
async function processBatch(i) {}
"""
SUBMIT_JOB = """
async function submitJob(job) {
  const response = await fetch('BASE/api/jobs', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'x-api-key': 'KEY' },
    body: JSON.stringify({ data: {}, ...job }),
  });
  if (!response.ok) throw new Error(await response.text());
}
"""
SEND_EMAIL = """
async function sendEmail(data) {
  console.log(data.number);
  return { sent: data.number };
}
"""
RECEIVER_HEAD = """
const express = require('express');
const app = express();
app.use(express.json());
"""
RECEIVER_FOOT = """
const listener = app.listen(0, '127.0.0.1', () => console.log(`port ${listener.address().port}`));
"""
POLL_ON = """
(async () => {
  for (;;) {
    await processJobs(); // a rejection ends the process, as it does in a timer
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
})();
"""
COPIES, JOBS = 4, 200


@pytest.fixture
def application(service: Service) -> Application:
    return service.application()


def api(service: Service, application: Application, method: str, path: str, body: Any = None) -> Any:
    answer = requests.request(method, service.url + path, json=body, headers=application.headers, timeout=20)
    assert answer.ok, answer.text
    return answer.json()


def test_submit_with_webhooks(service, application, receiver):
    # given the example that submits an email job
    source = seed.adapt(
        seed.javascript("// Submit an email job with metadata and webhooks"),
        service.url,
        application.api_key,
        receiver.url("").rstrip("/"),
    )
    # when Node runs it and a worker completes the job
    job_id = Script(source + "\nconsole.log(jobId);").run().strip()
    job = api(service, application, "GET", f"/api/jobs/{job_id}")["job"]
    assert job["metadata"]["orderId"] == "order-456"
    api(service, application, "PUT", f"/api/jobs/{job_id}", {"status": "completed", "result": {"ok": 1}})
    # then exactly the webhook for completed arrives, with the seed's body and headers
    received = receiver.wait_for(1, "/webhooks/email-sent")[0]
    shown = seed.loads(seed.blocks("json")[-1])
    body = received.json()
    assert (body["jobId"], body["status"], body["result"]) == (job_id, "completed", {"ok": 1})
    assert set(shown) - {"error", "progress"} <= set(body)
    assert received.headers["x-job-id"] == job_id
    assert received.headers["x-job-status"] == "completed"
    assert received.headers["content-type"] == "application/json"
    assert Webhook(application.webhook_secret).verify(received.body, received.headers)["jobId"] == job_id
    assert receiver.of("/webhooks/email-failed") == []


def test_batch_worker_with_progress(service, application):
    body = {"queue": "data-export", "data": {}}
    job_id = api(service, application, "POST", "/api/jobs", body)["jobId"]
    source = seed.javascript("async function processDataExport") + UPDATE_JOB_STATUS.replace("BASE", service.url)
    Script(f"{source}\nawait processDataExport('{job_id}', '{application.api_key}');").run()
    job = api(service, application, "GET", f"/api/jobs/{job_id}")["job"]
    assert (job["status"], job["progress"]) == ("completed", 100)
    assert job["result"] == {"recordsProcessed": 10000, "fileUrl": "s3://bucket/export.csv"}


def test_metadata_filter(service, application):
    for customer in ("cust-123", "cust-124"):
        metadata = {"priority": "high", "customerId": customer}
        api(service, application, "POST", "/api/jobs", {"queue": "q", "data": 1, "metadata": metadata})
    source = seed.adapt(
        seed.javascript("// Find all high-priority jobs for a customer"), service.url, application.api_key
    )
    jobs = json.loads(Script(source + "\nconsole.log(JSON.stringify(jobs));").run())
    assert [job["metadata"]["customerId"] for job in jobs] == ["cust-123"]


def test_webhook_receiver(service, application, tmp_path):
    # given the seed's receiver under express
    source = RECEIVER_HEAD + seed.javascript("// Express webhook receiver") + RECEIVER_FOOT
    output = tmp_path / "output"
    with Script(source, ".cjs").running(output):
        port = int(wait_until(lambda: lines_of(output)).pop().split()[1])
        url = f"http://127.0.0.1:{port}/webhooks/job-status"
        # when one job completes and another fails
        ids = {}
        for status, more in (("completed", {"result": {"sent": 1}}), ("failed", {"error": "no such address"})):
            body = {"queue": "q", "data": 1, "webhooks": {status: url}}
            ids[status] = api(service, application, "POST", "/api/jobs", body)["jobId"]
            api(service, application, "PUT", f"/api/jobs/{ids[status]}", {"status": status, **more})
        # then it prints both, in its own words
        wait_until(lambda: len(lines_of(output)) >= 5, message="two webhooks are printed")
    assert set(lines_of(output)[1:]) == {
        f"Job {ids['completed']} is now completed",
        "Result: { sent: 1 }",
        f"Job {ids['failed']} is now failed",
        "Error: no such address",
    }


def test_subscription(service, application, receiver):
    # given the seed's subscription
    source = seed.adapt(
        seed.javascript("// Subscribe to high-priority email events"),
        service.url,
        application.api_key,
        receiver.url("").rstrip("/"),
    )
    Script(source).run()
    found = api(service, application, "GET", "/api/subscriptions")["subscriptions"]
    assert [one["name"] for one in found] == ["High Priority Email Monitor"]
    # when a job that fits and two that do not are completed
    high = {"priority": "high", "type": "transactional"}
    ids = []
    for queue, metadata in (("email", high), ("sms", high), ("email", {"priority": "low"})):
        body = {"queue": queue, "data": {}, "metadata": metadata}
        ids.append(api(service, application, "POST", "/api/jobs", body)["jobId"])
        api(service, application, "PUT", f"/api/jobs/{ids[-1]}", {"status": "completed"})
    # then the first one's created and completed arrive, and nothing else
    received = receiver.wait_for(2, "/webhooks/priority-emails")
    assert {(one.json()["jobId"], one.headers["x-job-status"]) for one in received} == {
        (ids[0], "created"),
        (ids[0], "completed"),
    }
    assert {one.headers["x-application-id"] for one in received} == {application.id}


def test_dynamic_queue_creation(service, application):
    # the three points stand for the data, which submitJob fills in
    source = seed.javascript("// These queues are created on first use").replace(", ...", "")
    helper = SUBMIT_JOB.replace("BASE", service.url).replace("KEY", application.api_key)
    Script(helper + source).run()
    queues = api(service, application, "GET", "/api/queues")["queues"]
    names = {queue.get("name") or queue["queue"] for queue in queues}
    assert names == {"user-imports", "report-generation", "payment-processing"}


def test_four_copies_of_the_polling_worker_share_a_queue(service, application, tmp_path):
    # given 200 jobs
    jobs = [{"queue": "email", "data": {"number": number}} for number in range(JOBS)]
    assert api(service, application, "POST", "/api/jobs/batch", {"jobs": jobs})["accepted"] == JOBS
    # when four copies of the seed's worker poll, each the next time as soon as the last one is through
    source = seed.adapt(seed.javascript("// Example worker implementation"), service.url, application.api_key)
    assert "setInterval(processJobs, 5000);" in source
    source = SEND_EMAIL + source.replace("setInterval(processJobs, 5000);", POLL_ON)
    outputs = [tmp_path / f"output-{number}" for number in range(COPIES)]
    with ExitStack() as stack:
        copies = [stack.enter_context(Script(source, ".cjs").running(output)) for output in outputs]
        wait_until(lambda: completed(service, application) == JOBS, 90, "all jobs are completed")
        # then no copy has exited
        assert [copy.poll() for copy in copies] == [None] * COPIES
    # and each job was processed once, and none failed
    printed = Counter(line for output in outputs for line in lines_of(output))
    assert printed == Counter(str(number) for number in range(JOBS))
    for job in api(service, application, "GET", f"/api/jobs?queue=email&limit={JOBS}")["jobs"]:
        assert (job["status"], job["attempt"]) == ("completed", 1)
        assert job["result"] == {"sent": job["data"]["number"]}


def lines_of(output: Path) -> list[str]:
    return output.read_text().splitlines()


def completed(service: Service, application: Application) -> int:
    return api(service, application, "GET", f"/api/jobs?queue=email&status=completed&limit={JOBS}")["count"]
