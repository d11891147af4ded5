"""The whole service with a cluster of three primaries as its store, while nodes are killed and started again."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from mech_queue.store import Store
from tests.e2e.users import User, go_on
from tests.support import Receiver, rabbitmq, wait_until
from tests.support.cluster import ValkeyCluster
from tests.support.rabbitmq import RabbitServer
from tests.support.service import Service
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.long

APPLICATIONS = 5


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
        users = [User(stack, service, receiver, tmp_path, broker_url=broker_url) for _ in range(APPLICATIONS)]
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
            wait_until(lambda user=user: user.open_jobs() == [], 60, "all complete")  # type: ignore[misc]
            assert user.found() == set(user.ids)
            wait_until(partial(lambda user: user.told() == Counter(user.ids), user), 60, "each end is told once")
        # and no process has given up
        assert {role: process.poll() for role, process in service.processes.items()} == dict.fromkeys(service.roles)
