"""The example of the README and docs/native-worker.md, run as a user runs it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mech_queue.model.job import JobSpec
from mech_queue.services import jobs
from tests.celery.support import APPLICATION, Shop, Worker
from tests.support.valkey import ValkeyServer


@pytest.fixture(scope="module")
def shop(valkey_server: ValkeyServer) -> Iterator[Shop]:
    opened = Shop(valkey_server)
    queues = ",".join(["celery", *(f"jobs.{APPLICATION}.{name}" for name in ("emails", "reports", "failing"))])
    worker = Worker(opened, "prefork", 2, ("-Q", queues), {}, app="examples.celery_worker")
    opened.workers.append(worker)
    worker.ready()
    yield opened
    opened.close()


def run(shop: Shop, queue: str, data: Any) -> Any:
    """The queue's name is the task's: nothing else is said."""
    spec = JobSpec(queue=queue, data=json.dumps(data).encode())
    return shop.until(jobs.submit(shop.store, APPLICATION, spec).job_id)


def test_an_object_arrives_as_keyword_arguments(shop: Shop) -> None:
    job = run(shop, "emails", {"to": "ada@example.com", "subject": "hello", "template": "welcome"})
    assert json.loads(job.result) == {"sent": True, "to": "ada@example.com", "subject": "hello"}


def test_progress_shows(shop: Shop) -> None:
    job = run(shop, "reports", {"pages": 2})
    assert json.loads(job.progress) == {"page": 2, "of": 2} and json.loads(job.result) == {"pages": 2}


def test_a_failure_carries_its_traceback(shop: Shop) -> None:
    job = run(shop, "failing", {})
    assert job.state == "failed" and "this one always fails" in json.loads(job.error)["traceback"]
