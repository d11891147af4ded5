"""The whole service with a cluster of three primaries as its store, while nodes are killed and started again."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mech_queue.client import Client, Refusal, Unreachable
from mech_queue.store import Store
from tests.e2e.processes import UserWorkers
from tests.support import Receiver, rabbitmq, wait_until
from tests.support.cluster import ValkeyCluster
from tests.support.rabbitmq import RabbitServer
from tests.support.service import Application, Service
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.long

APPLICATIONS = 5
QUEUES = ("http", "native")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    """Three primaries that keep what they acknowledged."""
    made = ValkeyCluster(persistent=True)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(params=["redis", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest, valkey_server: ValkeyServer) -> Iterator[str]:
    """A broker of its own."""
    if request.param == "redis":
        yield valkey_server.fresh_database()
        return
    if not rabbitmq.installed():
        pytest.skip(rabbitmq.MISSING)
    server = RabbitServer()
    try:
        yield server.start().url
    finally:
        server.close()


class User:
    """One application with an HTTP worker, a native one, a subscription and a client that submits all the time."""

    def __init__(self, stack: ExitStack, service: Service, url: str, receiver: Receiver, folder: Path) -> None:
        self.application: Application = service.application()
        folder = folder / self.application.id
        folder.mkdir()
        self.client = stack.enter_context(Client(service.url, self.application.api_key, retries=0))
        self.path = f"/{self.application.id}"
        self._receiver = receiver
        self.client.subscriptions.create(name="s", endpoint=receiver.url(self.path), events=["completed"])
        broker = service.environment["BROKER_URL"]
        workers = UserWorkers(service, self.application, folder, store_url=url, broker_url=broker)
        stack.enter_context(workers)
        for name in QUEUES:
            workers.start(name)
        self.ids: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._submit, daemon=True)
        self._thread.start()

    def _submit(self) -> None:
        """One after the other, come what may; every third a little later."""
        while not self._ended.is_set():
            number = len(self.ids)
            later: dict[str, Any] = {"delay": 300} if number % 3 == 0 else {}
            try:
                job = self.client.submit(
                    QUEUES[number % 2], {"number": number}, idempotency_key=f"job-{number}", maxStalls=50, **later
                )
                self.ids.append(job.id)
            except (Unreachable, Refusal) as error:
                assert isinstance(error, Unreachable) or error.status >= 500, error
            self._ended.wait(0.03)

    def stop(self) -> None:
        """Submit no more."""
        self._ended.set()
        self._thread.join()

    def all_complete(self) -> bool:
        """Whether all of its jobs are, and no others are there. Fails with what is left."""
        jobs = list(self.client.jobs.search(page_size=1000))
        left = [(job.queue, job.status) for job in jobs if job.status != "completed"]
        assert len(jobs) == len(self.ids)
        return not left

    def told(self) -> Counter[str]:
        """Whose end the subscription has heard of, and by how many events."""
        events = {one.headers["webhook-id"]: one.json()["jobId"] for one in self._receiver.of(self.path)}
        return Counter(events.values())


def go_on(users: list[User], count: int) -> None:
    """Wait until each of them has submitted so many more."""
    before = [len(user.ids) for user in users]
    wait_until(
        lambda: all(len(user.ids) >= was + count for user, was in zip(users, before, strict=True)),
        60,
        f"{count} more jobs of each",
    )


def test_the_service_lives_through_the_restart_of_each_node(
    cluster: ValkeyCluster, broker_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    cluster.flush()
    with ExitStack() as stack:
        # given the service, and applications on all nodes that submit all the time
        service = stack.enter_context(Service(BROKER_URL=broker_url, REDIS_URL=cluster.url))
        store = Store.open(cluster.url)
        store.greet()
        stack.callback(store.close)
        users = [User(stack, service, cluster.url, receiver, tmp_path) for _ in range(APPLICATIONS)]
        nodes = {user: store.part_of(user.application.id) for user in users}
        assert len(set(nodes.values())) > 1
        go_on(users, 20)
        # when each node is killed, and started again after a while in which others go on
        for server in cluster.primaries:
            others = [user for user in users if not nodes[user].endswith(f":{server.port}")]
            server.kill()
            go_on(others, 10)
            server.start()
            go_on(users, 10)
        for user in users:
            user.stop()
        # then all that was acknowledged completes, and the end of each is told by one event
        for user in users:
            wait_until(user.all_complete, 60, "all complete")
            wait_until(partial(lambda user: user.told() == Counter(user.ids), user), 60, "each end is told once")
        # and no process has given up
        assert {role: process.poll() for role, process in service.processes.items()} == dict.fromkeys(service.roles)
