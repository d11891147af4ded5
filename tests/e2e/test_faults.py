"""Broken connections between each process and the store: no job, no event, no delivery is lost or doubled."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mech_queue.client import Client
from mech_queue.model.delivery import DeliveryQuery, DeliveryState
from mech_queue.services import deliveries
from mech_queue.store import Store
from mech_queue.store.events import PendingEvent
from tests.e2e.processes import UserWorkers
from tests.e2e.test_kill import QUEUES, all_jobs, ended, in_background, submit
from tests.support import Receiver, wait_until
from tests.support.faults import FaultProxy
from tests.support.service import ROLES, Service

PLACES = ("native", *ROLES)
FAULTS = ("half_open", "cut", "reset")
"""What takes longest to be noticed comes first, and heals while the others happen."""

STEP_JOBS = 4
"""So many jobs end between two faults: each meets a running system."""


class Network:
    """A service whose processes each reach the store by a way of their own, and a worker of both kinds."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.service = Service(roles=(), WEBHOOK_TIMEOUT_SECONDS="1")  # so a lost delivery comes again after 16 s
        stack.callback(self.service.close)
        self.ways = {place: FaultProxy(self.service.store.port) for place in PLACES}
        for way in self.ways.values():
            stack.callback(way.close)
        for role in ROLES:
            self.service.start_role(role, REDIS_URL=self._url(role))
        wait_until(self.service.healthy, 30, "a healthy API")
        self.application = self.service.application()
        self.client = stack.enter_context(Client(self.service.url, self.application.api_key, retries=1))
        workers = UserWorkers(self.service, self.application, folder, store_url=self._url("native"))
        stack.enter_context(workers)
        for name in QUEUES:
            workers.start(name)
        self.store = Store.open(self.service.store.url())
        stack.callback(self.store.close)

    def _url(self, place: str) -> str:
        return f"redis://127.0.0.1:{self.ways[place].port}/0"

    def deliveries(self, state: DeliveryState) -> int:
        """How many are in a state."""
        query = DeliveryQuery(states=(state,), limit=1000)
        return len(deliveries.search(self.store, self.application.id, query).deliveries)

    def events(self) -> dict[str, list[PendingEvent]]:
        """The whole event log, by job."""
        found: dict[str, list[PendingEvent]] = defaultdict(list)
        place = "0-0"
        while page := self.store.events.read(self.application.id, place, 1000):
            place = page[-1][0]
            for _, event in page:
                found[event.job_id].append(event)
        return found


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with ExitStack() as stack:
        yield Network(stack, tmp_path)


def test_nothing_is_lost_while_every_connection_breaks(network: Network, receiver: Receiver) -> None:
    ids: list[str] = []
    webhooks = {"completed": receiver.url("/job")}
    network.client.subscriptions.create(name="all", endpoint=receiver.url("/sub"), events=["created", "completed"])

    def submit_on(closing: threading.Event) -> None:
        while not closing.wait(0.03):
            ids.append(submit(network.client, len(ids), webhooks))

    def some_more_end() -> None:
        before = ended(network.client)
        wait_until(lambda: ended(network.client) >= before + STEP_JOBS, 60, "jobs go on")

    # given jobs for both kinds of workers, while each connection breaks in each way, and all of them are slow
    with in_background(submit_on):
        some_more_end()
        for fault in FAULTS:
            for way in network.ways.values():
                getattr(way, fault)()
                some_more_end()
        for way in network.ways.values():
            way.delay_s = 0.02
        some_more_end()
        for way in network.ways.values():
            way.delay_s = 0
    # when everything has healed by itself
    wait_until(lambda: ended(network.client) == len(ids), 60, "all jobs end")
    wait_until(lambda: network.deliveries(DeliveryState.SUCCEEDED) >= 3 * len(ids), 60, "all deliveries succeed")
    # then each job ended once, its events have no gap, and each was told once (repeated under the same id)
    assert Counter(job.id for job in all_jobs(network.client)) == Counter(ids)
    log = network.events()
    assert log.keys() == set(ids)
    for events in log.values():
        assert [one.sequence for one in events] == list(range(1, len(events) + 1))
        kinds = Counter(one.type.value for one in events)
        assert (kinds["created"], kinds["completed"], kinds["failed"]) == (1, 1, 0)
    told = {
        (path, one.json()["jobId"], one.json()["status"]): one.headers["webhook-id"]
        for path in ("/job", "/sub")
        for one in receiver.of(path)
    }
    assert len(told) == len({one.headers["webhook-id"] for one in receiver.requests}) == 3 * len(ids)
    states = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.FAILED, DeliveryState.CANCELLED)
    assert [network.deliveries(state) for state in states] == [0] * len(states)
