"""Workers of users, as processes: one over HTTP, one native. A killed one can be started again."""

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.node import ROOT
from tests.support.service import Application, Service
from workers import child

HTTP_WORKER = """
import sys, time
from mech_queue.client import Client
from mech_queue.worker import Worker
worker = Worker(Client(sys.argv[1], sys.argv[2]), concurrency=4, lease_s=5, poll_s=1, worker_id="http")
@worker.queue("http")
def work(job):
    time.sleep(0.01)
    return job.data
worker.run()
"""
NATIVE_LEASE_S = "3"


class UserWorkers:
    """``http`` and ``native`` beside a service; ``start``, ``kill``, and ``close`` at the end."""

    def __init__(
        self,
        service: Service,
        application: Application,
        folder: Path,
        *,
        store_url: str | None = None,
        broker_url: str | None = None,
        broker_primary: str = "",
    ) -> None:
        self._service = service
        self._store_url = store_url or service.environment["REDIS_URL"]
        self._broker_url = broker_url or self._store_url
        self._broker_primary = broker_primary
        self._application = application
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start one; its output goes to a file of its name."""
        if name == "http":
            arguments = ["-c", HTTP_WORKER, self._service.url, self._application.api_key]
        else:
            queue = f"jobs.{self._application.id}.native"
            arguments = ["-m", "celery", "-A", "tests.e2e.native_app", "worker", "-P", "threads", "-c", "4"]
            arguments += [
                "-n",
                f"native@{self._application.id}",
                "-Q",
                queue,
                "--without-gossip",
                "--without-mingle",
                "-l",
                "WARNING",
            ]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "REDIS_URL": self._store_url,
            "BROKER_URL": self._broker_url,
            "BROKER_PRIMARY": self._broker_primary,
            "MECH_QUEUE_LEASE_SECONDS": NATIVE_LEASE_S,
            "MECH_QUEUE_RENEW_SECONDS": "1",
        }
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                child.command([sys.executable, *arguments]),
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def running(self) -> list[str]:
        """Names of those that have not ended by themselves."""
        return [name for name, process in self._processes.items() if process.poll() is None]

    def log(self, name: str) -> str:
        """The end of one's output."""
        path = self._folder / f"{name}.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def close(self) -> None:
        """Kill what runs."""
        for name in list(self._processes):
            self.kill(name)

    def __enter__(self) -> "UserWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
