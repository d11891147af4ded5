"""A shop: one store, a scheduler's ticks, and real Celery workers of the app in shop.py."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from mech_queue.model.errors import Refusal, StoreStopped
from mech_queue.model.job import JobRecord, JobSpec
from mech_queue.services import jobs, maintenance
from mech_queue.store import Store
from tests.support import wait_until
from tests.support.valkey import ValkeyServer
from workers import child

ROOT = Path(__file__).parents[2]
APPLICATION = "app-shop00000000"
QUEUE = "mail"
TICK_S = 0.05


class Shop:
    """Give ``server`` an empty database with a store in it; close it. Jobs go to ``QUEUE`` of ``APPLICATION``."""

    def __init__(self, server: ValkeyServer, **environment: str) -> None:
        self.server = server
        self.url = server.fresh_database()
        self.store = Store.open(self.url)
        self.store.greet(initialise=True)
        self.folder = tempfile.TemporaryDirectory(prefix="shop-")
        self.workers: list[Worker] = []
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": self.folder.name,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),  # another Celery than the locked one
            "REDIS_URL": self.url,
            "SHOP_NOTES": str(Path(self.folder.name) / "notes"),
            "MECH_QUEUE_LEASE_SECONDS": "3",
            "MECH_QUEUE_RENEW_SECONDS": "0.3",
            "MECH_QUEUE_KILL_AFTER_SECONDS": "0.5",
            "MECH_QUEUE_UNKNOWN_TASK_DELAY_MS": "20",
            **environment,
        }
        self._closing = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()

    @property
    def broker_url(self) -> str:
        """The broker of the shop's workers: the store, unless told otherwise."""
        return self.environment.get("BROKER_URL", self.url)

    def _tick(self) -> None:
        while not self._closing.wait(TICK_S):
            with contextlib.suppress(Refusal, StoreStopped):
                maintenance.tick(self.store)

    def stop_ticking(self) -> None:
        """No scheduler from now on."""
        self._closing.set()
        self._ticker.join()

    def worker(self, pool: str = "prefork", concurrency: int = 2, *options: str, **environment: str) -> "Worker":
        """Start a worker and wait until it is ready."""
        worker = Worker(self, pool, concurrency, options, environment)
        self.workers.append(worker)
        return worker.ready()

    def submit(self, task: str, data: Any = None, **options: Any) -> str:
        """Submit a job; ``options`` are fields of JobSpec. Returns its id."""
        application = options.pop("application", APPLICATION)
        text = json.dumps({} if data is None else data).encode()
        spec = JobSpec(queue=options.pop("queue", QUEUE), task=task, data=text, **options)
        return jobs.submit(self.store, application, spec).job_id

    def submit_many(self, count: int, task: str, data: Any = None, **options: Any) -> list[str]:
        """Submit many of the same; returns their ids in order."""
        text = json.dumps({} if data is None else data).encode()
        specs: list[Any] = [JobSpec(queue=QUEUE, task=task, data=text, **options) for _ in range(count)]
        return [answer.job_id for answer in jobs.submit_many(self.store, APPLICATION, specs)]  # type: ignore[union-attr]

    def job(self, job_id: str) -> JobRecord:
        """The job now."""
        return jobs.get(self.store, APPLICATION, job_id)

    def until(self, job_id: str, *states: str, deadline_s: float = 15) -> JobRecord:
        """Wait until the job is in one of the states (default: ended)."""

        def reached() -> JobRecord | None:
            job = self.job(job_id)
            return job if (job.state in states if states else job.state.ended) else None

        try:
            return wait_until(reached, deadline_s) or self.job(job_id)
        except AssertionError:
            logs = "\n".join(worker.log()[-3000:] for worker in self.workers)
            raise AssertionError(f"{self.job(job_id)} is not {states or 'ended'}\n{logs}") from None

    def run(self, task: str, data: Any = None, **options: Any) -> JobRecord:
        """Submit one job and wait for its end."""
        return self.until(self.submit(task, data, **options))

    def all_ended(self, job_ids: list[str], deadline_s: float = 60) -> dict[str, int]:
        """Wait until all have ended; returns how many are in which state."""
        totals: dict[str, int] = {}

        def ended() -> bool:
            with contextlib.suppress(Refusal):
                totals.update(maintenance.counts(self.store))
            return sum(totals.get(name, 0) for name in ("completed", "failed", "cancelled")) >= len(job_ids)

        try:
            wait_until(ended, deadline_s)
        except AssertionError:
            left = [job for job in map(self.job, job_ids) if not job.state.ended]
            logs = "\n".join(worker.log()[-3000:] for worker in self.workers)
            raise AssertionError(f"{totals}; {len(left)} left, such as {left[:3]}\n{logs}") from None
        states: dict[str, int] = {}
        for job in map(self.job, job_ids):
            states[str(job.state)] = states.get(str(job.state), 0) + 1
        return states

    def notes(self, first: str = "") -> list[list[str]]:
        """What task bodies noted, by words; those that begin with ``first``."""
        path = Path(self.environment["SHOP_NOTES"])
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split() for line in lines if not first or line.split()[0] == first]

    def noted(self, *words: str, deadline_s: float = 10) -> list[str]:
        """Wait for a note that begins with these words."""

        def found() -> list[str] | None:
            return next((note for note in self.notes() if note[: len(words)] == list(words)), None)

        return wait_until(found, deadline_s, f"note {words}") or []

    def redis(self) -> Any:
        """A plain client of the same database. Close it."""
        return self.server.client(int(self.url.rpartition("/")[2]))

    def close(self) -> None:
        """Stop the workers, the ticks and the store."""
        for worker in self.workers:
            worker.kill()
        self.stop_ticking()
        self.store.close()
        self.folder.cleanup()


class Worker:
    """One ``celery worker`` process (with its children), by default of the shop's app."""

    number = 0

    def __init__(
        self,
        shop: Shop,
        pool: str,
        concurrency: int,
        options: tuple[str, ...],
        environment: dict[str, str],
        app: str = "tests.celery.shop",
    ) -> None:
        Worker.number += 1
        self.name = f"w{Worker.number}@shop"
        self.shop = shop
        self._log = Path(shop.folder.name) / f"worker-{Worker.number}.log"
        queues = f"celery,jobs.{APPLICATION}.{QUEUE}"
        arguments = ["-m", "celery", "-A", app, "worker", "-P", pool, "-c", str(concurrency)]
        if "-Q" not in options:
            arguments += ["-Q", queues]
        arguments += ["-n", self.name, "--without-gossip", "--without-mingle", "-l", "INFO", *options]
        if not environment.get("SHOP_NO_EVENTS"):
            arguments += ["-E"]
        command = child.command([sys.executable, *arguments])
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**shop.environment, **environment}, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """The main process."""
        return self.process.pid

    def log(self) -> str:
        """All output so far."""
        return self._log.read_text(errors="replace")

    def ready(self, deadline_s: float = 30) -> "Worker":
        """Wait until it consumes."""

        def looked() -> bool:
            assert self.process.poll() is None, f"the worker ended: {self.log()[-3000:]}"
            return f"{self.name} ready." in self.log()

        wait_until(looked, deadline_s, f"{self.name} ready")
        return self

    def children(self) -> list[int]:
        """Process ids of the pool's children."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def send(self, number: int) -> None:
        """Send a signal to the main process."""
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, deadline_s: float = 30) -> int:
        """Warm shutdown unless told otherwise; returns the exit code."""
        self.send(number)
        return self.process.wait(deadline_s)

    def kill(self) -> None:
        """SIGKILL for the main process and its children, all at one moment."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # so that it sees none of its children die
            for pid in (*self.children(), self.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
