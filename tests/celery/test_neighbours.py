"""Jobs beside ordinary Celery: ``.delay()``, monitors, several applications, pools that change."""

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from celery import Celery

from mech_queue.model.job import Backoff
from mech_queue.services import applications, jobs, queues, workers
from tests.celery.events import CLOSING, Events
from tests.celery.support import APPLICATION, QUEUE, ROOT, Shop, Worker
from tests.support import wait_until
from tests.support.valkey import free_port
from workers import child


@pytest.fixture
def events(shop: Shop) -> Iterator[Events]:
    collected = Events(shop)
    yield collected
    collected.close()


@pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 2), ("threads", 4)])
def test_every_attempt_has_one_closing_event_under_the_jobs_id(
    shop: Shop, events: Events, pool: str, concurrency: int
) -> None:
    shop.worker(pool, concurrency, MECH_QUEUE_LEASE_SECONDS="15")  # a new child may take its time
    at_once = Backoff("fixed", 10)
    expected = {
        shop.submit("add", [1], metadata=b'{"userId":"42","nested":{"n":7}}'): ["task-succeeded"],
        shop.submit("boom"): ["task-failed"],
        shop.submit("boom", attempts=2, backoff=at_once): ["task-retried", "task-failed"],
        shop.submit("flaky", [1]): ["task-retried", "task-succeeded"],
        shop.submit("ignore"): ["task-succeeded"],
        shop.submit("reject"): ["task-failed"],
        shop.submit("not_json"): ["task-failed"],
        shop.submit("exit"): ["task-failed"],
    }
    if pool == "prefork":
        expected[shop.submit("hard")] = ["task-failed"]
        expected[shop.submit("die", max_stalls=1)] = ["task-retried", "task-failed"]
    cancelled = shop.submit("looking" if pool == "threads" else "sleep", {} if pool == "threads" else [20])
    expected[cancelled] = ["task-revoked"]
    shop.noted("start", cancelled, deadline_s=20)
    jobs.cancel(shop.store, APPLICATION, cancelled)

    for job in expected:
        shop.until(job)

    def told() -> dict[str, list[str]]:
        return {job: [name for name in events.types(job) if name in CLOSING] for job in expected}

    wait_until(lambda: told() == expected or None, 10, f"closing events; now {told()}, wanted {expected}")
    attempts = {job: len(endings) for job, endings in expected.items()}
    assert {job: events.types(job).count("task-received") for job in expected} == attempts
    assert {job: events.types(job).count("task-started") for job in expected} == attempts

    # never the data or the result, and no wake-ups
    first = next(iter(expected))
    received = events.by_id[first][0]
    assert received["name"] == "add" and received["args"] == "()"
    summary = {"application": APPLICATION, "queue": QUEUE, "userId": "42", "nested.n": 7}
    assert ast.literal_eval(received["kwargs"]) == summary
    assert events.by_id[first][-1]["result"] == ""
    assert not [key for key in events.by_id if key.startswith("mqw-")]


def test_metadata_can_be_left_out_of_events(shop: Shop, events: Events) -> None:
    shop.worker("prefork", 1, MECH_QUEUE_SHOW_METADATA="false")
    job = shop.submit("add", [1], metadata=b'{"userId":"42"}')
    shop.until(job)
    wait_until(lambda: "task-succeeded" in events.types(job))
    assert ast.literal_eval(events.by_id[job][0]["kwargs"]) == {"application": APPLICATION, "queue": QUEUE}


def test_inspect_shows_the_job_and_not_its_data(shop: Shop) -> None:
    worker = shop.worker("prefork", 1)
    job = shop.submit("sleep", [3])
    shop.noted("start", job)
    with Celery("inspector", broker=shop.broker_url, set_as_current=False) as app:
        active = app.control.inspect([worker.name], timeout=5).active()[worker.name]
        assert [task["id"] for task in active] == [job] and active[0]["name"] == "sleep"
        assert active[0]["args"] == "()" and "3" not in str(active[0]["kwargs"])


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_revoke_with_terminate_cancels_the_job(shop: Shop, pool: str) -> None:
    shop.worker(pool, 1)
    job = shop.submit("looking")  # threads cannot stop it; it looks by itself
    shop.noted("start", job)
    with Celery("revoker", broker=shop.broker_url, set_as_current=False) as app:
        app.control.revoke(job, terminate=True)
        assert shop.until(job).state == "cancelled"
    assert shop.run("add", [1]).state == "completed"


def test_delay_keeps_working_beside_and_an_idle_worker_is_seen(shop: Shop) -> None:
    queues.change(shop.store, APPLICATION, QUEUE, {"paused": None})
    shop.worker("prefork", 2)

    def listed() -> list[tuple[str, set[str]]]:
        return [(worker.kind, worker.queues) for worker in workers.list_(shop.store, APPLICATION)]

    wait_until(lambda: listed() == [("native", {QUEUE})])
    with Celery("caller", broker=shop.broker_url, set_as_current=False) as app:
        ordinary = [app.send_task("add", [n], ignore_result=True).id for n in range(10)]
        submitted = [shop.submit("add", [n]) for n in range(10)]
        app.send_task("context", ignore_result=True)
        app.send_task("flaky", [2], ignore_result=True)

    assert shop.all_ended(submitted) == {"completed": 10}
    wait_until(lambda: {note[1] for note in shop.notes("add")} == {*ordinary, *submitted})
    shop.noted("no", "job")  # current_job() is None in an ordinary call
    wait_until(lambda: [note[1] for note in shop.notes("flaky")] == ["0", "1", "2"])  # its retries were published


def test_flower_shows_jobs_and_no_wake_ups(shop: Shop) -> None:
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "tests.celery.shop", "flower", "--address=127.0.0.1"]
    environment = {**shop.environment, "FLOWER_UNAUTHENTICATED_API": "true"}
    with open(os.path.join(shop.folder.name, "flower.log"), "ab") as log:
        flower = subprocess.Popen(
            child.command([*command, f"--port={port}"]), cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/api/tasks") is not None, 30, "Flower")
        shop.worker("prefork", 1)
        job, failing = shop.submit("add", [1]), shop.submit("boom")
        shop.until(job)
        shop.until(failing)

        def shown() -> dict[str, Any] | None:
            tasks = _answers(f"http://127.0.0.1:{port}/api/tasks") or {}
            return tasks if {job, failing} <= set(tasks) and tasks[failing]["state"] == "FAILURE" else None

        tasks = wait_until(shown, 15, "both jobs in Flower") or {}
        assert set(tasks) == {job, failing}
        assert tasks[job]["name"] == "add" and tasks[job]["state"] == "SUCCESS"
    finally:
        flower.terminate()
        flower.wait(10)


def _answers(url: str) -> dict[str, Any] | None:
    try:
        return dict(requests.get(url, timeout=5).json())
    except requests.RequestException:
        return None


def test_one_worker_serves_all_applications_and_queues_as_they_appear(shop: Shop) -> None:
    # given a worker that was told one queue by name, and applications from before and after its start
    first = applications.create(shop.store, "first").application.id
    before = shop.submit("add", [1], application=first, queue="one")
    environment = {"SHOP_APPLICATION": "*", "MECH_QUEUE_DISCOVER_SECONDS": "0.2"}
    told = f"jobs.{first}.one"
    worker = Worker(shop, "prefork", 1, ("-Q", f"celery,{told},jobs.mail"), environment)
    shop.workers.append(worker)
    worker.ready()
    second = applications.create(shop.store, "second").application.id
    after = shop.submit("add", [2], application=second, queue="two")

    def ended(application: str, job: str) -> bool:
        return jobs.get(shop.store, application, job).state == "completed"

    wait_until(lambda: ended(first, before) and ended(second, after), 15, "both jobs")
    result = json.loads(jobs.get(shop.store, second, after).result or b"")
    assert result["routing_key"] == f"jobs.{second}.two"

    # when both queues are deleted
    for application, job, name in ((first, before, "one"), (second, after, "two")):
        jobs.delete(shop.store, application, job)
        queues.delete(shop.store, application, name)
    # then only what was told by name is consumed
    with Celery("asker", broker=shop.broker_url, set_as_current=False) as asker:
        wait_until(lambda: consumed_by(asker, worker) == {"celery", told, "jobs.mail"}, 10, "only -Q consumed")
    assert "WARNING: -Q jobs.mail names no application" in worker.log()
    # until the other is there again
    again = shop.submit("add", [3], application=second, queue="two")
    wait_until(lambda: ended(second, again), 15, "a job of the queue that came back")


def consumed_by(asker: Celery, worker: Worker) -> set[str]:
    """The Celery queues that a worker takes messages from."""
    answers = asker.control.inspect(destination=[worker.name], timeout=5).active_queues() or {}
    return {queue["name"] for queue in answers.get(worker.name, ())}


def test_children_that_are_replaced_lose_nothing(shop: Shop) -> None:
    shop.worker("prefork", 2, "--max-tasks-per-child", "10", MECH_QUEUE_LEASE_SECONDS="60")
    submitted = shop.submit_many(60, "sleep", [0])
    assert shop.all_ended(submitted) == {"completed": 60}
    assert len(shop.notes("start")) == 60 and {shop.job(job).stalls for job in submitted} == {0}


def test_autoscale_grows_with_the_work(shop: Shop) -> None:
    worker = shop.worker("prefork", 1, "--autoscale=3,1")
    submitted = [shop.submit("sleep", [6]) for _ in range(3)]
    wait_until(lambda: len(shop.notes("start")) == 3, 20, "three bodies")
    assert not shop.notes("end") and len(worker.children()) == 3
    assert shop.all_ended(submitted) == {"completed": 3}


def test_a_long_task_holds_up_nobody_behind_it(shop: Shop) -> None:
    shop.worker("prefork", 1)
    long = shop.submit("sleep", [20])
    shop.noted("start", long)
    shop.worker("prefork", 1)
    for _ in range(5):
        began = time.monotonic()
        assert shop.run("noop").state == "completed"
        assert time.monotonic() - began < 1.5
