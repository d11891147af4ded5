"""The polling worker against the real service, in threads of the test and as a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from mech_queue.client import Client, NewJob, Refusal
from mech_queue.worker import JobCancelled, PermanentFailure, Worker
from tests.support import wait_until
from tests.support.service import ROOT, Service
from workers import child


@pytest.fixture
def client(service: Service):
    with Client(service.url, service.application().api_key) as made:
        yield made


@contextlib.contextmanager
def running(worker: Worker) -> Iterator[Worker]:
    thread = threading.Thread(target=worker.run, kwargs={"signals": False})
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(30)
        assert not thread.is_alive()


def make(client: Client, **options) -> Worker:
    return Worker(client, poll_s=1, lease_s=5, **options)


def test_results_and_failures_are_reported(client):
    worker = make(client, worker_id="w-1")

    @worker.queue("sums")
    def add(job):
        job.progress({"done": 1}, metadata={"seen": True})
        job.log("adding")
        return sum(job.data)

    @worker.queue("bad")
    def fail(job):
        raise PermanentFailure("no such address", {"code": 42}) if job.data else ValueError("once more")

    sums = client.submit("sums", [1, 2])
    for_good = client.submit("bad", True, attempts=3)
    again = client.submit("bad", False, attempts=2, backoff={"type": "fixed", "delay": 1})
    with running(worker):
        done = sums.wait(20)
        assert (done.status, done.result, done.worker_id) == ("completed", 3, "w-1")
        assert (done.progress, done.metadata) == ({"done": 1}, {"seen": True})
        assert [for_good.wait(20).error, for_good.get().attempt] == [{"code": 42}, 1]
        assert [again.wait(20).error, again.get().attempt] == ["ValueError: once more", 2]


def test_a_result_that_is_no_json_fails_the_job(client):
    worker = make(client)
    worker.queue("odd")(lambda job: {1, 2} if job.data == "set" else "x" * 2_000_000)
    handles = [client.submit("odd", data) for data in ("set", "large")]
    with running(worker):
        errors = [handle.wait(20).error for handle in handles]
    assert "not JSON" in errors[0]
    assert "larger" in errors[1]


def test_each_of_many_jobs_runs_once_and_at_most_so_many_at_a_time(client):
    jobs, concurrency = 300, 8
    client.jobs.submit_many([NewJob("many", number) for number in range(jobs)])
    seen: Counter[int] = Counter()
    inside, most, lock = 0, 0, threading.Lock()
    worker = make(client, concurrency=concurrency, prefetch=20)

    @worker.queue("many")
    def work(job):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            seen[job.data] += 1
        with lock:
            inside -= 1

    with running(worker):
        wait_until(lambda: client.queues.get("many")["counts"]["completed"] == jobs, 60)
    assert seen == Counter(range(jobs))
    assert most <= concurrency


def test_a_long_job_keeps_its_lease(client):
    worker = make(client, concurrency=2)
    worker.queue("long")(lambda job: job.wait_cancelled(7.0))  # longer than the lease of 5 s
    with running(worker):
        job = client.submit("long", 1).wait(30)
    assert (job.status, job.result, job.stalls, job.attempt) == ("completed", False, 0, 1)


def test_a_cancelled_job_is_stopped(client):
    started, ended = threading.Event(), []
    worker = make(client)

    @worker.queue("long")
    def work(job):
        started.set()
        job.wait_cancelled(20)
        try:
            job.check_cancelled()
        except JobCancelled:
            ended.append(job.id)
            raise

    handle = client.submit("long", 1)
    with running(worker):
        assert started.wait(10)
        handle.cancel()
        wait_until(lambda: ended == [handle.id], 10)
    assert handle.get().status == "cancelled"


def test_progress_of_a_cancelled_job_stops_its_function(client):
    started, go_on = threading.Event(), threading.Event()
    after: list[str] = []
    worker = make(client)

    @worker.queue("long")
    def work(job):
        started.set()
        go_on.wait(10)
        job.progress(1)
        after.append("not reached")

    handle = client.submit("long", 1)
    with running(worker):
        assert started.wait(10)
        handle.cancel()
        go_on.set()
    assert after == []


def test_a_wrong_key_ends_the_worker_at_once(service):
    with Client(service.url, "sk_wrong") as stranger:
        worker = make(stranger)
        worker.queue("q")(lambda job: None)
        with pytest.raises(Refusal):
            worker.run(signals=False)


def test_a_worker_without_functions_says_so(client):
    with pytest.raises(ValueError, match="register"):
        make(client).run(signals=False)
    with pytest.raises(TypeError, match="needs the name of a queue"):
        make(client).queue(lambda job: None)  # type: ignore[arg-type]


PROCESS = """
import sys, time
from mech_queue.client import Client
from mech_queue.worker import Worker
worker = Worker(Client(sys.argv[1], sys.argv[2]), concurrency=2, lease_s=5, poll_s=1)
@worker.queue("slow")
def work(job):
    print("began", flush=True)
    time.sleep(job.data)
    return "whole"
worker.run()
print("drained", flush=True)
"""


@contextlib.contextmanager
def process(client: Client, key: str) -> Iterator[subprocess.Popen[str]]:
    command = child.command([sys.executable, "-c", PROCESS, client.url, key])
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ})
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def test_sigterm_lets_the_running_job_finish_and_takes_no_more(service):
    key = service.application().api_key
    with Client(service.url, key) as client:
        first = client.submit("slow", 1.5)
        with process(client, key) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "began\n"
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0
            assert worker.stdout.read() == "drained\n"
        assert first.get().result == "whole"


def test_signals_one_upon_the_other_end_it_at_once(service):
    key = service.application().api_key
    with Client(service.url, key) as client:
        client.submit("slow", 60)
        with process(client, key) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "began\n"

            def ended() -> bool:
                for _ in range(20):
                    worker.send_signal(signal.SIGTERM)
                return worker.poll() is not None

            wait_until(ended, 10)
            assert worker.returncode == 128 + signal.SIGTERM


def test_a_killed_workers_job_comes_back_after_its_lease(service):
    key = service.application().api_key
    with Client(service.url, key) as client:
        handle = client.submit("slow", 60)
        with process(client, key) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "began\n"
            worker.kill()
            killed_at = time.monotonic()
            wait_until(lambda: handle.get().status == "waiting", 15)
        assert time.monotonic() - killed_at < 8
        assert handle.get().stalls == 1
