"""The container's health check, against real servers and the lack of one."""

import os
import subprocess
import sys

import pytest

from tests.support import Receiver
from tests.support.service import ROOT
from tests.support.valkey import ValkeyServer, free_port


def exit_code(role: str, **environment: str) -> int:
    command = [sys.executable, "deploy/healthcheck.py", role]
    return subprocess.run(command, cwd=ROOT, env={"PATH": os.environ["PATH"], **environment}).returncode


@pytest.mark.parametrize(
    ("role", "variable", "path"),
    [
        ("all", "PORT", "/health"),
        ("api", "PORT", "/health"),
        ("metrics", "METRICS_PORT", "/metrics"),
        ("flower", "FLOWER_PORT", "/healthcheck"),
    ],
)
def test_a_server_is_as_healthy_as_its_answer(receiver: Receiver, role: str, variable: str, path: str):
    receiver.script(path, [200, 503])
    assert exit_code(role, **{variable: str(receiver.port)}) == 0
    assert exit_code(role, **{variable: str(receiver.port)}) == 1
    assert len(receiver.of(path)) == 2
    assert exit_code(role, **{variable: str(free_port())}) == 1


def test_a_worker_is_healthy_while_its_store_can_be_reached(valkey_server: ValkeyServer):
    assert exit_code("scheduler", REDIS_URL=valkey_server.url()) == 0
    assert exit_code("webhooks", REDIS_HOST="127.0.0.1", REDIS_PORT=str(valkey_server.port)) == 0
    assert exit_code("webhooks", REDIS_URL=f"redis://127.0.0.1:{free_port()}") == 1
