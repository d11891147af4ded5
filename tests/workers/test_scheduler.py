"""The scheduler as a process: moves what is due, outlives the store, ends when told."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mech_queue.model.job import JobSpec, State
from mech_queue.services import jobs
from mech_queue.store import Store
from tests.support import wait_until
from tests.support.service import ROOT
from tests.support.valkey import ValkeyServer

APPLICATION = "app-000000000000"


class Scheduler:
    """One scheduler process and its log."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._log = folder / "log"
        self._redis_url = redis_url
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        environment = {"PATH": os.environ["PATH"], "REDIS_URL": self._redis_url}
        command = [sys.executable, "-m", "workers.scheduler"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        return self.process

    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, words: str) -> None:
        wait_until(lambda: words in self.log(), 10, f"'{words}' in {self.log()}")


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    running = ValkeyServer(persistent=True).start()
    yield running
    running.close()


@pytest.fixture
def scheduler(server: ValkeyServer, tmp_path: Path) -> Iterator[Scheduler]:
    running = Scheduler(tmp_path, server.url())
    running.wait_for("scheduler runs")
    yield running
    running.process.kill()
    running.process.wait()


def delayed_job(store: Store) -> str:
    return jobs.submit(store, APPLICATION, JobSpec(queue="q", delay_ms=200)).job_id


def becomes_waiting(store: Store, job_id: str) -> bool:
    return jobs.get(store, APPLICATION, job_id).state == State.WAITING


def test_it_initialises_an_empty_store_and_moves_what_is_due(server: ValkeyServer, scheduler: Scheduler):
    # given a job with a delay, in a store that the scheduler has initialised
    store = Store.open(server.url())
    store.greet()
    job_id = delayed_job(store)
    assert jobs.get(store, APPLICATION, job_id).state == State.DELAYED
    # then it waits to be taken once it is due
    wait_until(lambda: becomes_waiting(store, job_id))
    store.close()


def test_it_outlives_a_store_that_goes_away(server: ValkeyServer, scheduler: Scheduler):
    # given a scheduler whose store is killed
    server.kill()
    scheduler.wait_for("store is away")
    # when the store is back
    server.start()
    # then it works again, and said so once for the whole outage
    store = Store.open(server.url())
    job_id = delayed_job(store)
    wait_until(lambda: becomes_waiting(store, job_id), 15)
    store.close()
    scheduler.wait_for("works again")
    assert scheduler.log().count("store is away") == 1
    assert "Traceback" not in scheduler.log()


def test_it_waits_for_a_store_that_is_not_there_yet(tmp_path: Path):
    server = ValkeyServer()
    scheduler = Scheduler(tmp_path, server.url())
    scheduler.wait_for("store is away")
    server.start()
    scheduler.wait_for("scheduler runs")
    scheduler.process.terminate()
    assert scheduler.process.wait(10) == 0
    server.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told(scheduler: Scheduler, number: signal.Signals):
    scheduler.process.send_signal(number)
    assert scheduler.process.wait(10) == 0
    assert "scheduler ended" in scheduler.log()


def test_another_store_at_its_address_stops_it_in_words(server: ValkeyServer, tmp_path: Path):
    # given a store of another schema
    with server.client() as client:
        client.hset("mq:meta", mapping={"schema": 999, "shards": 16, "store_id": "x"})
    # when the scheduler starts
    scheduler = Scheduler(tmp_path, server.url())
    # then it ends with a sentence
    assert scheduler.process.wait(10) == 1
    assert "scheduler cannot run: The store has schema 999" in scheduler.log()
    assert "Traceback" not in scheduler.log()
