"""Three primaries: each call reaches the node that has its slot, and a node that is away stops no other."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from mech_queue.model.errors import Code, Refusal, StoreStopped
from mech_queue.model.job import JobSpec, Report, State
from mech_queue.services import jobs, maintenance
from mech_queue.store import Store, keys
from mech_queue.store.connection import COMMAND_TIMEOUT_S
from mech_queue.store.wakes import Wakes
from tests.support import wait_until
from tests.support.cluster import ValkeyCluster
from tests.support.loop import LoopThread
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.long


def one_application_per_shard() -> list[str]:
    """Ids of applications, by their shard."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < keys.SHARDS:
        found.setdefault(keys.shard_of(f"app-{number}"), f"app-{number}")
        number += 1
    return [found[shard] for shard in range(keys.SHARDS)]


APPLICATIONS = one_application_per_shard()


@pytest.fixture(scope="module")
def running() -> Iterator[ValkeyCluster]:
    """Three primaries that keep what they acknowledged."""
    made = ValkeyCluster(persistent=True)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def cluster(running: ValkeyCluster) -> ValkeyCluster:
    """Empty."""
    running.flush()
    return running


@pytest.fixture(params=["from threads", "in a loop"])
def store(request: pytest.FixtureRequest, cluster: ValkeyCluster) -> Iterator[Store]:
    """With each way of sending scripts."""
    if request.param == "from threads":
        opened = Store.open(cluster.url)
        opened.greet(initialise=True, counts_wakeups=True)
        yield opened
        opened.close()
        return
    loop = LoopThread()
    opened = Store.open(cluster.url, greenlets=loop.greenlets)
    opened.greet(initialise=True, counts_wakeups=True)
    run = opened.scripts.run
    opened.scripts.run = lambda *words, **options: loop.run(partial(run, *words, **options))  # type: ignore[method-assign]
    yield opened
    loop.call(opened.close)
    loop.close()


def submit(store: Store, application_id: str) -> str:
    return jobs.submit(store, application_id, JobSpec("mail")).job_id


def work(store: Store, application_id: str) -> int:
    """Claim and complete all there is; returns how many."""
    claimed = jobs.claim(store, application_id, ["mail"], limit=100, nonce=None).jobs
    for job in claimed:
        jobs.report(store, application_id, Report(job.id, "complete", lease_token=job.lease_token))
    return len(claimed)


def node_of(cluster: ValkeyCluster, store: Store, application_id: str) -> ValkeyServer:
    """The primary that has an application."""
    port = int(store.part_of(application_id).rpartition(":")[2])
    return next(server for server in cluster.servers if server.port == port)


def refusals(store: Store, applications: list[str]) -> dict[str, Code]:
    """Which of them cannot be served, and in which words."""
    found = {}
    for application_id in applications:
        try:
            submit(store, application_id)
        except Refusal as refusal:
            assert "127.0.0.1" not in refusal.message
            found[application_id] = refusal.code
    return found


def test_applications_are_spread_over_the_nodes_and_all_work(cluster: ValkeyCluster, store: Store) -> None:
    # given an application in each shard
    made = {application_id: submit(store, application_id) for application_id in APPLICATIONS}
    delayed = jobs.submit(store, APPLICATIONS[3], JobSpec("mail", delay_ms=1)).job_id
    # when the scheduler runs
    wait_until(lambda: maintenance.tick(store) and jobs.get(store, APPLICATIONS[3], delayed).state is State.WAITING)
    # then each node has some of them, reads over all nodes agree, and all can be worked off
    nodes = {store.part_of(application_id) for application_id in APPLICATIONS}
    assert len(nodes) == 3
    assert maintenance.counts(store)["waiting"] == 17
    assert [jobs.get(store, application, job).state for application, job in made.items()] == [State.WAITING] * 16
    assert [work(store, application_id) for application_id in APPLICATIONS] == [2 if n == 3 else 1 for n in range(16)]
    assert maintenance.counts(store)["completed"] == 17


def test_what_is_called_out_at_any_node_is_heard(store: Store) -> None:
    # given a listener at one node
    heard: list[str] = []
    listening = threading.Event()
    wakes = Wakes(store, lambda kind, application_id, name: heard.append(application_id), listening.set)
    wakes.start()
    try:
        assert listening.wait(10)
        # when work comes to all nodes
        for application_id in APPLICATIONS:
            submit(store, application_id)
        # then it hears of all
        wait_until(lambda: set(heard) == set(APPLICATIONS), 5)
    finally:
        wakes.stop()


def test_a_slot_that_moves_under_load_takes_its_jobs_along(cluster: ValkeyCluster, store: Store) -> None:
    # given clients that submit and work all the time
    application_id = APPLICATIONS[5]
    submit(store, application_id)
    source = node_of(cluster, store, application_id)
    target = next(server for server in cluster.primaries if server is not source)
    ended, submitted, done = threading.Event(), [], []

    def load() -> None:
        while not ended.is_set():
            try:
                submitted.append(submit(store, application_id))
                done.append(work(store, application_id))
            except Refusal as refusal:  # for the moment of the change
                assert refusal.code is Code.STORE_UNAVAILABLE, refusal

    with ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(load) for _ in range(4)]
        try:
            wait_until(lambda: len(submitted) > 100)
            # when Valkey moves the slot to another node
            slot = cluster.ask(source, "CLUSTER KEYSLOT", keys.prefix(application_id))
            cluster.ask(source, "CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", cluster.id_of(target))
            wait_until(lambda: node_of(cluster, store, application_id) is target, 20)
            reached = len(submitted)
            wait_until(lambda: len(submitted) > reached + 100)
        finally:
            ended.set()
        for thread in threads:
            thread.result()
    # then every acknowledged job is there, on the other node, and ends
    wait_until(lambda: not work(store, application_id))
    assert {jobs.get(store, application_id, job_id).state for job_id in submitted} == {State.COMPLETED}
    with target.client() as client:
        assert client.exists(keys.prefix(application_id) + b"app")


def test_a_slot_that_moves_key_by_key_is_left_alone(cluster: ValkeyCluster, store: Store) -> None:
    # given a slot in the old kind of move, in which a script would see half of its keys
    application_id = APPLICATIONS[1]
    job_id = submit(store, application_id)
    source = node_of(cluster, store, application_id)
    target = next(server for server in cluster.primaries if server is not source)
    slot = cluster.ask(source, "CLUSTER KEYSLOT", keys.prefix(application_id))
    cluster.ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", cluster.id_of(source))
    cluster.ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", cluster.id_of(target))
    try:
        # then its applications are refused, in words, and others are not
        assert refusals(store, [application_id, APPLICATIONS[2]]) == {application_id: Code.STORE_UNAVAILABLE}
    finally:
        cluster.ask(source, "CLUSTER SETSLOT", slot, "STABLE")
        cluster.ask(target, "CLUSTER SETSLOT", slot, "STABLE")
    # and afterwards everything is as it was
    assert jobs.get(store, application_id, job_id).state is State.WAITING


def test_a_killed_node_stops_its_own_applications_only(cluster: ValkeyCluster, store: Store) -> None:
    # given a job in each shard, and a delayed one in each
    made = {application_id: submit(store, application_id) for application_id in APPLICATIONS}
    victim = node_of(cluster, store, APPLICATIONS[0])
    lost = [one for one in APPLICATIONS if node_of(cluster, store, one) is victim]
    kept = [one for one in APPLICATIONS if one not in lost]
    late = [jobs.submit(store, application_id, JobSpec("late", delay_ms=200)).job_id for application_id in kept]
    # when the node is killed
    victim.kill()
    # then the other nodes' applications go on, also in the scheduler
    assert refusals(store, APPLICATIONS) == dict.fromkeys(lost, Code.STORE_UNAVAILABLE)
    states = lambda: [jobs.get(store, one, job_id).state for one, job_id in zip(kept, late, strict=True)]  # noqa: E731
    wait_until(lambda: (maintenance.tick(store), set(states()) == {State.WAITING})[1], 10)
    # and when it is back, everything is there
    victim.start()
    wait_until(lambda: not refusals(store, lost), 20)
    assert {jobs.get(store, application, job).state for application, job in made.items()} == {State.WAITING}


def test_a_hanging_node_holds_up_nobody_for_long(cluster: ValkeyCluster, store: Store) -> None:
    # given many threads, and a node that hangs
    submit(store, APPLICATIONS[0])
    victim = node_of(cluster, store, APPLICATIONS[0])
    kept = next(one for one in APPLICATIONS if node_of(cluster, store, one) is not victim)
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        # when all of them ask for plain data and for jobs there
        def ask(number: int) -> float:
            began = time.monotonic()
            with pytest.raises(Refusal):
                if number % 2:
                    store.queues.names(APPLICATIONS[0])
                else:
                    submit(store, APPLICATIONS[0])
            return time.monotonic() - began

        with ThreadPoolExecutor(32) as pool:
            waited = list(pool.map(ask, range(64)))
        # then each waits for one round (or for the one before its own, too), and other nodes serve at once
        assert max(waited) < 2 * COMMAND_TIMEOUT_S + 2, sorted(waited)[-5:]
        began = time.monotonic()
        submit(store, kept)
        assert store.now_ms() > 0
        assert refusals(store, [APPLICATIONS[0]])
        assert time.monotonic() - began < 1
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    # and when it answers again, it is asked again
    wait_until(lambda: not refusals(store, [APPLICATIONS[0]]), 20)


def test_an_address_of_one_node_only_says_what_is_wrong(cluster: ValkeyCluster) -> None:
    wrong = Store.open(cluster.primaries[0].url())
    with pytest.raises(StoreStopped, match="redis\\+cluster://"):
        for application_id in APPLICATIONS:
            submit(wrong, application_id)
    wrong.close()


def test_a_server_that_is_no_cluster_says_what_is_wrong(valkey_server: ValkeyServer) -> None:
    wrong = Store.open(f"redis+cluster://127.0.0.1:{valkey_server.port}")
    with pytest.raises(StoreStopped, match="redis://"):
        wrong.greet()
    wrong.close()


def test_a_replica_takes_over_by_itself() -> None:
    # given primaries with a replica each
    cluster = ValkeyCluster(replicas=True, persistent=True)
    try:
        store = Store.open(cluster.start().url)
        store.greet(initialise=True, counts_wakeups=True)
        made = {application_id: submit(store, application_id) for application_id in APPLICATIONS}
        victim = node_of(cluster, store, APPLICATIONS[0])
        replica = cluster.replicas[cluster.primaries.index(victim)]
        wait_until(lambda: len(cluster.ask(replica, "KEYS", "*")) == len(cluster.ask(victim, "KEYS", "*")))  # type: ignore[arg-type]
        # when one is killed for good
        victim.kill()
        # then its replica serves, and the process finds it without help
        wait_until(lambda: not refusals(store, APPLICATIONS), 30)
        assert node_of(cluster, store, APPLICATIONS[0]) is replica
        assert {jobs.get(store, application, job).state for application, job in made.items()} == {State.WAITING}
        # and the scheduler and the work go on
        assert all(work(store, application_id) for application_id in APPLICATIONS)
        store.close()
    finally:
        cluster.close()
