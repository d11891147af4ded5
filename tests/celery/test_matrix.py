"""Each pool meets each fault: what the job's state, its events (which webhooks are made of) and Flower show.

``make matrix`` runs it with Redis and with RabbitMQ as the broker, and writes the table of docs/native-matrix.md.
"""

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from mech_queue.model.event import EventType
from mech_queue.model.job import JobRecord
from mech_queue.services import jobs
from tests.celery.conftest import OVER_RABBITMQ, over_rabbitmq
from tests.celery.events import Events
from tests.celery.support import APPLICATION, Shop
from tests.celery.test_faults import cut_all_connections
from tests.support import wait_until
from tests.support.rabbitmq import RabbitServer
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.long

POOLS = {"prefork": 2, "threads": 4, "gevent": 4, "solo": 1}
"""And their concurrency."""

LAST = {"completed": "task-succeeded", "failed": "task-failed", "cancelled": "task-revoked"}
"""How Flower shows what a job ended as."""

HELD_S = 2.5
"""How long the store is away or hangs: longer than one claim waits for it."""


class NotHere(Exception):
    """Celery itself has no such thing in this pool; the message is what the table says."""


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """A store that may be killed."""
    made = ValkeyServer(persistent=True).start()
    yield made
    made.close()


@pytest.fixture
def shop(server: ValkeyServer, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A shop at it, with the broker that NATIVE_BROKER says."""
    if OVER_RABBITMQ:
        with over_rabbitmq(server, request.getfixturevalue("rabbit")) as opened:
            yield opened
    else:
        with closing(Shop(server)) as opened:
            yield opened


class Cell:
    """One pool in one shop. A fault submits jobs with ``load``, breaks something, and says what it expects."""

    def __init__(self, shop: Shop, events: Events, pool: str, rabbit: RabbitServer | None) -> None:
        self.shop, self.events, self.pool, self.rabbit = shop, events, pool, rabbit
        self.concurrency = POOLS[pool]
        self.ids: list[str] = []

    def worker(self, **environment: str) -> Any:
        """One more worker of this pool."""
        return self.shop.worker(self.pool, self.concurrency, **environment)

    def load(self, count: int, task: str = "sleep", data: Any = None, **options: Any) -> list[str]:
        """Submit so many jobs."""
        made = [self.shop.submit(task, data, **options) for _ in range(count)]
        self.ids += made
        return made

    def endless(self) -> str:
        """A job whose body is stopped from outside, or looks by itself where the pool cannot do that."""
        stopped = self.pool in ("prefork", "gevent")
        return self.load(1, "sleep" if stopped else "looking", [20] if stopped else {})[0]

    def started(self, count: int) -> None:
        """Wait until so many bodies have started."""
        wait_until(lambda: len(self.shop.notes("start")) >= count, 20, f"{count} bodies")

    def ended(self, count: int) -> None:
        """Wait until so many bodies have ended."""
        wait_until(lambda: len(self.shop.notes("end")) >= count, 20, f"{count} bodies ended")

    def finish(self, *, told: bool = True, **expected: int) -> list[JobRecord]:
        """Wait for the end of all and look at it from everywhere.

        ``told``: monitors have heard everything (no broker or worker was away).
        """
        assert self.shop.all_ended(self.ids, 90) == expected, [self.shop.job(job_id).error for job_id in self.ids][:3]
        found = [self.shop.job(job_id) for job_id in self.ids]
        for job, kinds in zip(found, self._kinds(), strict=True):
            # one end, told once; a start that was given back before its body ran is no attempt
            endings = [kind for kind in kinds if kind in ("completed", "failed", "cancelled")]
            assert endings == [str(job.state)] and kinds[-1] == endings[0], (job.id, kinds)
            assert kinds.count("started") >= job.attempt, (job.id, kinds)
            assert kinds.count("stalled") + kinds.count("retrying") in (job.attempt - 1, job.attempt), (job.id, kinds)
        for job in found:
            if told:
                wait_until(partial(self._shown, job), 10, f"{job} in Flower")
            shown = self.events.closings(job.id)
            # never two endings for one attempt, and none that contradicts the job
            assert len(shown) <= max(1, job.attempt), (job.id, shown)
            assert set(shown) <= {LAST[job.state], "task-retried"}, (job.id, shown)
        assert not [key for key in list(self.events.by_id) if key.startswith("mqw-")]
        return found

    def _shown(self, job: JobRecord) -> bool:
        return self.events.closings(job.id)[-1:] == [LAST[job.state]]

    def _kinds(self) -> list[list[str]]:
        by_job: dict[str, list[tuple[int, str]]] = {job_id: [] for job_id in self.ids}
        place = "0-0"
        while page := self.shop.store.events.read(APPLICATION, place, 1000):
            place = page[-1][0]
            for _, event in page:
                if event.job_id in by_job and event.type is not EventType.PROGRESS:
                    by_job[event.job_id].append((event.sequence, str(event.type)))
        return [[kind for _, kind in sorted(by_job[job_id])] for job_id in self.ids]

    def bodies(self) -> int:
        """How many bodies have started."""
        return len(self.shop.notes("start"))


def worker_killed(cell: Cell) -> None:
    """kill -9 for the worker and its children; another worker is there."""
    first, _ = cell.worker(), cell.worker()
    cell.load(20, "sleep", [0.2])
    cell.ended(2)
    first.kill()
    found = cell.finish(completed=20, told=False)
    assert sum(job.stalls for job in found) <= 2 * cell.concurrency


def child_killed(cell: Cell) -> None:
    """kill -9 for the process of a body; the lease is a minute."""
    if cell.pool != "prefork":
        raise NotHere("no children")
    worker = cell.worker(MECH_QUEUE_LEASE_SECONDS="60")
    cell.load(2, "sleep", [0.7])
    cell.started(2)
    os.kill(worker.children()[0], signal.SIGKILL)
    found = cell.finish(completed=2)
    assert sorted(job.stalls for job in found) == [0, 1]


def warm_shutdown(cell: Cell) -> None:
    """TERM under load, then another worker; the lease is a minute."""
    worker = cell.worker(MECH_QUEUE_LEASE_SECONDS="60")
    cell.load(30, "sleep", [0.05])
    cell.ended(5)
    assert worker.stop() == 0
    cell.worker()
    cell.finish(completed=30, told=False)
    assert cell.bodies() == 30


def soft_shutdown(cell: Cell) -> None:
    """QUIT with ``worker_soft_shutdown_timeout``: what runs may end within it, and nothing else starts."""
    worker = cell.worker(SHOP_SOFT_SHUTDOWN_S="4", MECH_QUEUE_LEASE_SECONDS="60")
    cell.load(2 * cell.concurrency, "sleep", [1])
    cell.started(cell.concurrency)
    worker.stop(signal.SIGQUIT)
    assert cell.bodies() == cell.concurrency
    cell.worker()
    found = cell.finish(completed=2 * cell.concurrency, told=False)
    if cell.pool == "solo":
        raise NotHere("cut and run again: the body cannot go on while its own thread waits")
    assert sum(job.stalls for job in found) == 0


def cold_shutdown(cell: Cell) -> None:
    """QUIT while bodies run, then another worker."""
    worker = cell.worker()
    cell.load(cell.concurrency, "sleep", [1.5])
    cell.started(cell.concurrency)
    worker.stop(signal.SIGQUIT)
    cell.worker()
    cell.finish(completed=cell.concurrency, told=False)


def broker_restart(cell: Cell) -> None:
    """The broker is killed under load and started again (Redis: it is the store, too)."""
    worker = cell.worker()
    cell.load(40, "sleep", [0.05])
    cell.ended(5)
    if cell.rabbit is not None:
        cell.rabbit.kill()
        cell.rabbit.start()
    else:
        cell.shop.server.kill()
        cell.shop.server.start()
    cell.finish(completed=40, told=False)
    assert worker.process.poll() is None


def connections_cut(cell: Cell) -> None:
    """All connections to the store (Redis: and to the broker) are cut, three times under load."""
    worker = cell.worker(MECH_QUEUE_LEASE_SECONDS="60")
    cell.load(60, "sleep", [0.05])
    for part in (5, 15, 25):
        cell.ended(part)
        cut_all_connections(cell.shop)
    cell.finish(completed=60, told=False)
    assert worker.process.poll() is None


def store_refused(cell: Cell) -> None:
    """The store refuses connections for a while."""
    without_store(cell, cell.shop.server.kill, cell.shop.server.start)


def store_hung(cell: Cell) -> None:
    """The store takes connections and answers nothing for a while."""
    pid = cell.shop.server.pid
    without_store(cell, lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT))


def without_store(cell: Cell, leave: Callable[[], object], come_back: Callable[[], object]) -> None:
    worker = cell.worker()
    cell.load(40, "sleep", [0.05])
    cell.ended(5)
    leave()
    threading.Event().wait(HELD_S)  # what is tested is this time
    come_back()
    cell.finish(completed=40, told=False)
    assert worker.process.poll() is None


def cancelled(cell: Cell) -> None:
    """A running job is cancelled; the slot is free afterwards."""
    cell.worker()
    job = cell.endless()
    cell.started(1)
    jobs.cancel(cell.shop.store, APPLICATION, job)
    cell.load(cell.concurrency, "sleep", [0.1])
    cell.finish(cancelled=1, completed=cell.concurrency)


def revoked(cell: Cell) -> None:
    """``celery control revoke --terminate`` of a running job."""
    if cell.pool == "solo":
        raise NotHere("hears nothing while it works")
    cell.worker()
    job = cell.endless()
    cell.started(1)
    with Celery("revoker", broker=cell.shop.broker_url, set_as_current=False) as app:
        app.control.revoke(job, terminate=True)
        cell.finish(cancelled=1)


def hard_limit(cell: Cell) -> None:
    """The task's ``time_limit``."""
    cell.worker()
    cell.load(1, "hard")
    if cell.pool in ("prefork", "gevent"):
        assert cell.finish(failed=1)[0].error_code == "TIMEOUT"
    else:
        cell.finish(completed=1)
        raise NotHere("not limited, as in Celery")


def soft_limit(cell: Cell) -> None:
    """The task's ``soft_time_limit``, caught by the body."""
    if cell.pool != "prefork":
        raise NotHere("not limited, as in Celery")
    cell.worker()
    cell.load(1, "soft")
    assert cell.finish(completed=1)[0].result == b'"caught"'


def own_timeout(cell: Cell) -> None:
    """The job's ``timeout``."""
    cell.worker()
    cell.load(1, "sleep", [2], timeout_ms=500)
    assert cell.finish(failed=1)[0].error_code == "TIMEOUT"


def system_exit(cell: Cell) -> None:
    """``sys.exit`` in the body."""
    if cell.pool == "solo":
        raise NotHere("the worker leaves, as in Celery")
    cell.worker()
    cell.load(1, "exit")
    cell.load(1, "add", [1])
    cell.finish(failed=1, completed=1)


def retried(cell: Cell) -> None:
    """``self.retry``, twice."""
    cell.worker()
    (job,) = cell.load(1, "flaky", [2])
    assert cell.finish(completed=1)[0].attempt == 3
    assert cell.events.closings(job) == ["task-retried", "task-retried", "task-succeeded"]


FAULTS: list[Callable[[Cell], None]] = [
    worker_killed,
    child_killed,
    warm_shutdown,
    soft_shutdown,
    cold_shutdown,
    broker_restart,
    connections_cut,
    store_refused,
    store_hung,
    cancelled,
    revoked,
    hard_limit,
    soft_limit,
    own_timeout,
    system_exit,
    retried,
]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_cell(shop: Shop, pool: str, fault: Callable[[Cell], None], request: pytest.FixtureRequest) -> None:
    events = Events(shop)
    try:
        cell = Cell(shop, events, pool, request.getfixturevalue("rabbit") if OVER_RABBITMQ else None)
        try:
            fault(cell)
            said = _said(cell)
        except NotHere as reason:
            said = str(reason)
    finally:
        events.close()
    _write(pool, fault, said)


def _said(cell: Cell) -> str:
    found = [cell.shop.job(job_id) for job_id in cell.ids]
    states = Counter(str(job.state) for job in found)
    words = [f"{number} {state}" for state, number in states.items()]
    stalls = sum(job.stalls for job in found)
    again = cell.bodies() - len({note[1] for note in cell.shop.notes("start")})
    words += [f"{stalls} stalled"] * bool(stalls) + [f"{again} ran again"] * bool(again)
    return ", ".join(words)


def _write(pool: str, fault: Callable[[Cell], None], said: str) -> None:
    """One line for the table."""
    if path := os.environ.get("MATRIX"):
        row = {"broker": "RabbitMQ" if OVER_RABBITMQ else "Redis", "pool": pool, "fault": fault.__name__, "said": said}
        with Path(path).open("a") as lines:
            lines.write(json.dumps({**row, "about": fault.__doc__}) + "\n")
