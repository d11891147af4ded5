"""The whole service behind Sentinels: the primary dies under load, twice, or hangs, and nobody has to help."""

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mech_queue.model.errors import Refusal
from mech_queue.model.job import JobSpec
from mech_queue.services import jobs
from mech_queue.store import Store
from tests.e2e.users import QUEUES, User, go_on
from tests.support import Receiver, rabbitmq, wait_until
from tests.support.rabbitmq import RabbitServer
from tests.support.sentinel import NAME, SentinelGroup
from tests.support.service import Service
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.long

APPLICATION = "app-failover0000"
KILLS = 2
LOST = 4 * (KILLS + 1)
"""What may be acknowledged and gone: a handful of what was under way at those moments."""


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    """A primary, two replicas and three Sentinels."""
    # a primary that no replica follows takes no writes
    made = SentinelGroup("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
    try:
        yield made.start()
    finally:
        made.close()


@dataclass
class Broker:
    """``service``: its BROKER_URL (empty: the store). ``worker``: what native workers are told."""

    service: str
    worker: dict[str, str]


@pytest.fixture(params=["store", "rabbitmq"])
def broker(request: pytest.FixtureRequest, group: SentinelGroup) -> Iterator[Broker]:
    """The store itself, or RabbitMQ."""
    if request.param == "store":
        yield Broker("", {"broker_url": group.broker_url, "broker_primary": NAME})
        return
    if not rabbitmq.installed():
        pytest.skip(rabbitmq.MISSING)
    server = RabbitServer()
    try:
        url = server.start().url
        yield Broker(url, {"broker_url": url})
    finally:
        server.close()


@contextmanager
def supervised(service: Service, user: User) -> Iterator[list[str]]:
    """Start again what ends, as systemd or Compose do; names what did."""
    restarted: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.2):
            for role in service.roles:
                if service.processes[role].poll() is not None:
                    restarted.append(role)
                    service.start_role(role)
            for name in set(QUEUES) - set(user.workers.running()):
                restarted.append(name)
                user.workers.start(name)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield restarted
    finally:
        ended.set()
        thread.join()


def test_the_service_lives_through_failovers(
    group: SentinelGroup, broker: Broker, receiver: Receiver, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        # given the service and a user who submits all the time
        service = stack.enter_context(Service(REDIS_URL=group.url, BROKER_URL=broker.service))
        user = User(stack, service, receiver, tmp_path, **broker.worker)
        restarted = stack.enter_context(supervised(service, user))
        go_on([user], 20)
        for _ in range(KILLS):
            # when the primary dies, and comes back as a replica
            primary = group.primary
            primary.kill()
            group.wait_for_another(primary)
            go_on([user], 20)
            group.bring_back(primary)
            group.admit(primary)
        # and when the next one hangs for a moment and goes on, not told yet that another was named
        primary = group.primary
        with hung([primary]):
            group.wait_for_another(primary)
        go_on([user], 20)
        wait_until(lambda: group.in_step(group.primary), 60, "all servers in step")
        user.stop()
        # then all jobs that a replica had complete, and the end of each is told
        wait_until(lambda: user.open_jobs() == [], 90, "all complete")
        kept = user.found()
        wait_until(lambda: not kept - set(user.told()), 90, "each end is told")
        lost = set(user.ids) - kept
        print(f"{len(user.ids)} acknowledged, {len(lost)} lost, started again: {Counter(restarted)}")
        assert len(lost) <= LOST
        # and nothing had to be started again
        assert restarted == []


def test_a_server_that_comes_back_is_not_promoted_before_it_is_in_step(group: SentinelGroup) -> None:
    # given jobs that the primary has, and jobs that only those have which go on after its death
    store = Store.open(group.url)
    store.greet(initialise=True)
    ids = [submit(store) for _ in range(20)]
    first = group.primary
    first.kill()
    group.wait_for_another(first)
    ids += [submit(store) for _ in range(20)]
    # when these hang for a moment, and it comes back and cannot copy what it missed
    others = [server for server in group.servers if server is not first]
    with hung(others):
        group.bring_back(first)
        wait_until(lambda: "failover-abort-no-good-slave" in group.log(), 30, "the Sentinels find nobody to promote")
    # then nothing is lost
    group.admit(first)
    ids.append(submit(store))
    assert None not in store.jobs.get_many(APPLICATION, ids)
    store.close()


@contextmanager
def hung(servers: list[ValkeyServer]) -> Iterator[None]:
    """Stop them as they are, and let them go on at the end."""
    for server in servers:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            os.kill(server.pid, signal.SIGCONT)


def submit(store: Store) -> str:
    """A new job's id, as soon as there is a primary."""

    def submitted() -> str:
        with contextlib.suppress(Refusal):
            return jobs.submit(store, APPLICATION, JobSpec("q")).job_id
        return ""

    return wait_until(submitted, 60)
