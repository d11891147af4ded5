"""The API as a real process: start, stop, and what stands in its way."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from mech_queue.store import Store
from tests.support import wait_until
from tests.support.service import Service
from workers import commands


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with Service(roles=("api",), DEFAULT_JOB_ATTEMPTS="3") as running:
        yield running


def test_jobs_go_through_the_real_server(server: Service) -> None:
    headers = server.application().headers
    with requests.Session() as session:
        session.headers.update(headers)
        made = session.post(f"{server.url}/api/jobs", json={"queue": "q", "data": {"a": []}}, timeout=10)
        assert made.status_code == 201
        job = session.get(server.url + made.headers["Location"], timeout=10).json()["job"]
        assert (job["data"], job["maxAttempts"]) == ({"a": []}, 3)

        def pieces() -> Iterator[bytes]:
            yield b'{"queue":"q",'
            yield b'"data":1}'

        chunked = session.post(
            f"{server.url}/api/jobs", data=pieces(), headers={"Content-Type": "application/json"}, timeout=10
        )
        assert chunked.status_code == 201, chunked.text
        large = session.post(
            f"{server.url}/api/jobs", data=b" " * 1_048_577, headers={"Content-Type": "application/json"}, timeout=10
        )
        assert large.status_code == 413


def test_http_counts_reach_the_store_within_seconds(server: Service) -> None:
    store = Store.open(server.store.url())
    try:
        wait_until(lambda: any("queue_http_request_total" in name for name in store.metrics.http()), 20)
    finally:
        store.close()


def test_a_second_server_on_the_port_ends_with_one_sentence(server: Service) -> None:
    second = subprocess.run(
        commands.role("api"), env=server.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 1
    assert second.stderr.strip().endswith("cannot be used: Address already in use.")
    assert f"PORT {server.port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_sigterm_answers_those_who_wait_and_ends(server: Service) -> None:
    # given a long poll on a queue without jobs
    headers = server.application().headers
    answers: list[Any] = []

    def poll() -> None:
        url = f"{server.url}/api/queues/quiet/claim"
        answers.append(requests.post(url, headers=headers, json={"wait": 30, "workerId": "w"}, timeout=40))

    thread = threading.Thread(target=poll)
    thread.start()
    workers = f"{server.url}/api/workers"
    wait_until(lambda: requests.get(workers, headers=headers, timeout=10).json()["count"] == 1)
    # when the server is told to stop
    began = time.monotonic()
    server.kill_role("api", signal.SIGTERM)
    # then the poll is answered, empty, long before its time, and the process has ended
    thread.join(20)
    assert answers[0].json() == {"success": True, "jobs": [], "count": 0}
    assert time.monotonic() - began < 20
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/health", timeout=2)
