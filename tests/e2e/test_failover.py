"""The whole service behind Sentinels: the primary dies under load, twice, and nobody has to help."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.users import QUEUES, User, go_on
from tests.support import Receiver, rabbitmq, wait_until
from tests.support.rabbitmq import RabbitServer
from tests.support.sentinel import NAME, SentinelGroup
from tests.support.service import Service

pytestmark = pytest.mark.long

KILLS = 2
LOST = 4 * KILLS
"""What may be acknowledged and gone: a handful of what was under way at those moments."""


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    """A primary, two replicas and three Sentinels."""
    # a primary that is cut off, or comes back and is not told yet that it is one no longer, takes no writes
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
            primary.start()
            wait_until(lambda: group.in_step(len(group.servers) - 1), 60, "three servers in step")
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
