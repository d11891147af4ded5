"""The README's examples, run as a newcomer runs them; what it shows is what the files say."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.node import NODE, ROOT
from tests.support import wait_until
from tests.support.service import Application, Service
from tests.support.valkey import free_port
from workers import child

PYTHON = [sys.executable]
README = (ROOT / "README.md").read_text()
SCRIPTS = re.findall(r"^```javascript\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
EXAMPLES = ("producer", "http_worker", "receiver")
WORKERS = {"python": [*PYTHON, "-m", "examples.http_worker"], "javascript": [NODE, "examples/http_worker.mjs"]}


@pytest.fixture
def application(service: Service) -> Application:
    return service.application()


@pytest.fixture
def environment(service: Service, application: Application) -> dict[str, str]:
    """What credentials.env gives, and where this test's service is."""
    port = str(free_port())
    return {
        "PATH": os.environ["PATH"],
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
        "MECH_QUEUE_URL": service.url,
        "APPLICATION_ID": application.id,
        "APPLICATION_API_KEY": application.api_key,
        "APPLICATION_WEBHOOK_SECRET": application.webhook_secret,
        "REDIS_URL": service.store.url(),
        "RECEIVER_PORT": port,
        "RECEIVER_URL": f"http://127.0.0.1:{port}/done",
    }


@contextmanager
def running(command: list[str], environment: dict[str, str], output: Path, cwd: Path = ROOT) -> Iterator[None]:
    with output.open("wb") as file:
        process = subprocess.Popen(child.command(command), cwd=cwd, env=environment, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def produce(environment: dict[str, str], *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "examples.producer", *arguments]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_the_commands_are_there():
    assert "make run" in README
    assert "make test" in README
    targets = (ROOT / "Makefile").read_text()
    assert re.search(r"^run:", targets, re.MULTILINE)
    assert re.search(r"^test:", targets, re.MULTILINE)


def test_what_the_readme_shows_of_the_examples_is_what_they_are():
    files = [(ROOT / "examples" / f"{name}.py").read_text() for name in EXAMPLES]
    shown = [block for block in BLOCKS if any(block in file for file in files)]
    assert len(BLOCKS) == 4
    assert [block for block in BLOCKS if block not in shown] == [shop()]
    (script,) = SCRIPTS
    assert script in (ROOT / WORKERS["javascript"][-1]).read_text()


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("worker", WORKERS)
def test_a_producer_an_http_worker_and_a_receiver(environment, tmp_path, worker):
    received, worked = tmp_path / "receiver", tmp_path / "worker"
    with ExitStack() as stack:
        stack.enter_context(running([*PYTHON, "-m", "examples.receiver"], environment, received))
        stack.enter_context(running(WORKERS[worker], environment, worked))
        submitted, ended = produce(environment)
        job_id = submitted.removeprefix("submitted ")
        assert ended == "completed {'sent': 'ada@example.com'}"
        assert "sending to ada@example.com" in worked.read_text()
        expected = f"webhook: {job_id} is completed {{'sent': 'ada@example.com'}}"
        wait_until(lambda: expected in received.read_text(), 20, "the webhook")


def test_a_native_celery_worker_and_a_receiver(environment, application, tmp_path):
    (tmp_path / "shop.py").write_text(shop())
    received, worked = tmp_path / "receiver", tmp_path / "worker"
    command = [*PYTHON, "-m", "celery", "-A", "shop", "worker", "-Q", f"celery,jobs.{application.id}.orders"]
    with ExitStack() as stack:
        stack.enter_context(running([*PYTHON, "-m", "examples.receiver"], environment, received))
        stack.enter_context(running([*command, "-c", "1"], environment, worked, cwd=tmp_path))
        submitted, ended = produce(environment, "orders")
        job_id = submitted.removeprefix("submitted ")
        assert ended == "completed {'shipped': 'ada@example.com'}", worked.read_text()
        expected = f"webhook: {job_id} is completed {{'shipped': 'ada@example.com'}}"
        wait_until(lambda: expected in received.read_text(), 20, "the webhook")


def shop() -> str:
    """The README's Celery application."""
    return next(block for block in BLOCKS if "mech_queue.celery.install" in block)
