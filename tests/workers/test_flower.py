"""Flower as the service starts it: never without a login, never able to change anything."""

import os
import subprocess
from collections.abc import Iterator

import pytest
import requests

from tests.support import wait_until
from tests.support.service import ROOT, Service
from workers import commands

LOGIN = ("tests", "tests")


@pytest.fixture
def flower() -> Iterator[Service]:
    service = Service(roles=("flower",))
    with service:
        wait_until(lambda: status(service, "/healthcheck") == 200, 60)
        yield service


def status(service: Service, path: str, method: str = "GET", login: tuple[str, str] | None = None) -> int:
    url = f"http://127.0.0.1:{service.flower_port}{path}"
    try:
        return requests.request(method, url, auth=login, json={}, timeout=10).status_code
    except requests.ConnectionError:
        return 0


def test_it_wants_a_login_and_changes_nothing(flower: Service):
    assert status(flower, "/api/tasks") == 401
    assert status(flower, "/") == 401
    assert status(flower, "/api/tasks", login=("tests", "wrong")) == 401
    assert status(flower, "/api/tasks", login=LOGIN) == 200
    assert status(flower, "/api/task/send-task/mech_queue.match", "POST", LOGIN) == 403
    assert status(flower, "/api/worker/shutdown/webhooks@host", "POST", LOGIN) == 403


def test_it_ends_at_once_also_while_its_broker_is_away(flower: Service):
    flower.store.kill()
    wait_until(lambda: "rying again in" in flower.whole_log("flower"), 20)
    process = flower.processes.pop("flower")
    process.terminate()
    assert process.wait(5) == 0


def test_it_does_not_start_without_a_login():
    environment = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(commands.role("flower"), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Flower does not start without a login" in ended.stderr
    assert "Traceback" not in ended.stderr
