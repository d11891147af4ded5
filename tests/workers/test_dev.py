"""`make run` for real: every process, a data folder of its own, free ports."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support import wait_until
from tests.support.service import ROOT
from tests.support.valkey import free_port

PORTS = ("PORT", "METRICS_PORT", "FLOWER_PORT")

START_S = 90
"""Far above what a start takes (some 5 s): machines that run tests may be busy."""


class Run:
    """One `make run` (without make), what it printed, and the processes below it."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.ports = [str(free_port()) for _ in range(3)]
        env_file = data_dir.parent / "env"  # what a user's .env says; the checkout's own must not leak in here
        env_file.write_text("DEFAULT_JOB_ATTEMPTS=3\nPORT=1\nMASTER_API_KEY=\n")
        self.environment = {
            "ENV_FILE": str(env_file),
            "PATH": os.environ["PATH"],
            "HOME": str(data_dir.parent),
            "DATA_DIR": str(data_dir),
            "STORE_PORT": "0",
            **dict(zip(PORTS, self.ports, strict=True)),
            **environment,
        }
        self.out, self.err = data_dir.parent / "out", data_dir.parent / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.dev"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def printed(self) -> str:
        """The lines for people, once they are complete."""

        def complete() -> str:
            assert self.process.poll() is None, self.err.read_text()
            text = self.out.read_text()
            return text if "Ctrl-C" in text else ""

        try:
            return wait_until(complete, START_S)
        except AssertionError:
            raise AssertionError(f"no lines of a start; {self.err.read_text()[-3000:]}") from None

    def children(self) -> dict[int, str]:
        """Every living process below the supervisor: pid -> command line."""
        return processes_with(f"DATA_DIR={self.data_dir}") if sys.platform == "linux" else {}

    def child(self, part: str) -> int:
        """The pid of the one child of the supervisor whose command line contains ``part``."""
        return min(pid for pid, command in self.children().items() if part in command)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the supervisor and wait for it."""
        self.process.send_signal(number)
        return self.process.wait(60)


def processes_with(setting: str) -> dict[int, str]:
    """Living processes whose environment holds the setting."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if setting.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return {pid: command for pid, command in found.items() if command}


@pytest.fixture
def run(tmp_path: Path) -> Iterator:
    started: list[Run] = []

    def start(**environment: str) -> Run:
        started.append(Run(tmp_path / "data", **environment))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
    setting = f"DATA_DIR={tmp_path / 'data'}"
    wait_until(lambda: not processes_with(setting), 60, f"the end of {processes_with(setting)}")


def curl(text: str) -> dict:
    """Do what the printed curl line says, with the real curl's words but without needing curl."""
    command = re.search(r"curl (.*?)\n\n", text.replace("\\\n", " "), re.DOTALL)
    assert command, text
    words = shlex.split(command[1])
    url = next(word for word in words if word.startswith("http"))
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    answer = requests.post(url, headers=headers, data=words[words.index("-d") + 1], timeout=10)
    assert answer.status_code == 201, answer.text
    return {"url": url, "headers": headers, **answer.json()}


def test_a_start_prints_what_works_and_a_restart_prints_the_same(run):
    # given a first start
    began = time.monotonic()
    first = run()
    text = first.printed()
    assert time.monotonic() - began < START_S
    # then the printed curl line submits a job, and the addresses answer
    job = curl(text)
    assert job["success"] is True
    for address in re.findall(r"(?:API docs|Metrics) +(http\S+)", text):
        assert requests.get(address, timeout=10).status_code == 200
    (flower,) = re.findall(r"Flower +(http\S+)", text)
    assert requests.get(f"{flower}api/tasks", timeout=10).status_code == 401
    assert str(first.data_dir) in text
    # when it is stopped and started again on other ports
    assert first.end() == 0
    assert first.children() == {}
    second = run()
    again = second.printed()
    # then the key is the same, the examples find the new address, and the job is still there
    credentials = (second.data_dir / "credentials.env").read_text().splitlines()
    assert f"MECH_QUEUE_URL=http://localhost:{second.ports[0]}" in credentials
    assert curl(again)["headers"] == job["headers"]
    url = f"http://127.0.0.1:{second.ports[0]}/api/jobs/{job['jobId']}"
    kept = requests.get(url, headers=job["headers"], timeout=10).json()
    assert kept["job"]["status"] == "waiting"
    # and what the .env file says holds, unless the environment says otherwise (PORT)
    assert kept["job"]["maxAttempts"] == 3


def test_a_second_start_or_a_taken_port_ends_with_one_sentence(run, tmp_path: Path):
    first = run()
    first.printed()
    elsewhere = {"DATA_DIR": str(tmp_path / "other"), **{name: str(free_port()) for name in PORTS}}
    for environment, sentence in (
        (first.environment, f"mech-queue already runs on {first.data_dir} (process {first.process.pid})"),
        (first.environment | {"DATA_DIR": str(tmp_path / "other")}, f"Port {first.ports[0]} is taken"),
        (
            first.environment | elsewhere | {"REDIS_URL": "redis://127.0.0.1:1/0"},
            "The store cannot be used: Error 111 connecting to 127.0.0.1:1. Connection refused.",
        ),
    ):
        second = subprocess.run(
            [sys.executable, "-m", "workers.dev"], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert second.returncode == 1
        assert second.stderr.startswith(sentence)
        assert second.stderr.count("\n") == 1
        assert second.stdout == ""


def test_a_killed_child_comes_back_and_a_killed_supervisor_leaves_none(run):
    # given everything running
    running = run()
    running.printed()
    # when the API is killed
    api = running.child("-m api")
    os.killpg(api, signal.SIGKILL)
    # then it comes back
    url = f"http://127.0.0.1:{running.ports[0]}/health"

    def back() -> bool:
        try:
            return running.child("-m api") != api and requests.get(url, timeout=2).status_code == 200
        except (requests.RequestException, ValueError):
            return False

    wait_until(back, START_S)
    # when the supervisor itself is killed, without a chance to stop anything
    running.process.kill()
    running.process.wait()
    # then no process is left, and the folder is free for the next start
    wait_until(lambda: not running.children(), 60)
    assert run().printed()


def test_a_store_that_the_environment_names_is_used_instead_of_the_embedded_one(run, valkey_server):
    # given a store of one's own
    running = run(REDIS_URL=valkey_server.fresh_database())
    text = running.printed()
    # then the job is in it, and no store was started here
    assert curl(text)["success"] is True
    assert [command for command in running.children().values() if "valkey-server" in command] == []
    assert not (running.data_dir / "store").exists()
    with valkey_server.client(int(running.environment["REDIS_URL"].rpartition("/")[2])) as client:
        assert client.dbsize() > 0
    # and a TERM leaves nothing behind
    assert running.end() == 0
    assert running.children() == {}
