"""The Procfile, by a real Procfile runner, against a store of its own."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import requests

from tests.support import wait_until
from tests.support.service import ROOT, Service


def test_a_procfile_runner_starts_the_whole_service(tmp_path: Path):
    # given a store, and the environment that a .env file would hold
    service = Service(roles=())
    environment = service.environment | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    (tmp_path / "no.env").write_text("")
    command = [sys.executable, "-m", "honcho", "-e", str(tmp_path / "no.env"), "start"]
    # when the runner starts
    with (tmp_path / "log").open("wb") as log:
        runner = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        # then the API takes a job, and metrics and Flower answer
        wait_until(service.healthy, 90)
        application = service.application()
        answer = requests.post(
            f"{service.url}/api/jobs", headers=application.headers, json={"queue": "q", "data": 1}, timeout=10
        )
        assert answer.status_code == 201
        for port, path in ((service.metrics_port, "/metrics"), (service.flower_port, "/healthcheck")):
            wait_until(partial(answers, f"http://127.0.0.1:{port}{path}"), 60)
        # and TERM ends them all
        runner.send_signal(signal.SIGTERM)
        runner.wait(60)
    finally:
        if runner.poll() is None:
            os.killpg(runner.pid, signal.SIGKILL)
            runner.wait()
        service.close()
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text, text[-3000:]


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False
