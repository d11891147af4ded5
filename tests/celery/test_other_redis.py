"""Another Redis than the store carries the wake-ups, as a store in cluster mode needs it."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from celery import Celery
from kombu.connection import Connection

from mech_queue.celery.publish import Publisher
from mech_queue.client import Client
from tests.celery.support import APPLICATION, QUEUE, Shop
from tests.support import Receiver, wait_until
from tests.support.service import Service
from tests.support.valkey import ValkeyServer, free_port

NAME = f"jobs.{APPLICATION}.{QUEUE}"


@pytest.fixture
def broker_url(valkey_server: ValkeyServer) -> str:
    """Another database is another broker."""
    return valkey_server.fresh_database()


@pytest.fixture
def other_shop(valkey_server: ValkeyServer, broker_url: str) -> Iterator[Shop]:
    """A shop whose wake-ups go through it."""
    opened = Shop(valkey_server, BROKER_URL=broker_url)
    opened.store.greet(initialise=True, counts_wakeups=True)
    publisher = Publisher(opened.store, lambda: Connection(broker_url))
    yield opened
    publisher.close()
    opened.close()


def test_jobs_run_without_any_repair(other_shop: Shop) -> None:
    other_shop.worker("prefork", 2)
    other_shop.stop_ticking()
    jobs = [other_shop.run("add", [1]).id, *other_shop.submit_many(100, "noop")]
    assert other_shop.all_ended(jobs) == {"completed": 101}


def test_a_wiped_list_is_filled_again(other_shop: Shop, broker_url: str, valkey_server: ValkeyServer) -> None:
    jobs = other_shop.submit_many(5, "noop")
    with valkey_server.client(int(broker_url.rpartition("/")[2])) as broker:
        wait_until(lambda: broker.llen(NAME) == 5)
        broker.delete(NAME)
        wait_until(lambda: broker.llen(NAME) == 5)
    with other_shop.redis() as store:
        assert store.llen(NAME) == 0
    other_shop.worker("threads", 2)
    assert other_shop.all_ended(jobs) == {"completed": 5}


def test_a_worker_at_the_store_is_told_that_it_waits_at_the_wrong_broker(other_shop: Shop) -> None:
    worker = other_shop.worker("solo", 1, BROKER_URL=other_shop.url)
    assert "The service sends wake-ups through another broker" in worker.log()


def test_a_message_without_acknowledgement_does_not_end_a_worker_whose_broker_dies(valkey_server: ValkeyServer) -> None:
    # given an ordinary task that is acknowledged at its end, and a worker that asks for more
    with (
        closing(ValkeyServer().start()) as broker,
        closing(Shop(valkey_server, BROKER_URL=broker.url())) as shop,
        Celery("caller", broker=broker.url(), set_as_current=False) as app,
    ):
        shop.store.greet(initialise=True, counts_wakeups=True)
        worker = shop.worker("prefork", 2)
        app.send_task("late", [1], ignore_result=True)
        shop.noted("start", "late")
        # when the broker dies
        broker.kill()
        wait_until(lambda: "Trying again in" in worker.log() or worker.process.poll() is not None, 15)
        # then the worker lives, and connects again
        assert worker.process.poll() is None, worker.log()[-2000:]
        broker.start()
        wait_until(lambda: worker.log().count("Connected to") == 2, 15)


def test_a_job_that_is_revoked_while_the_store_is_away_does_not_run_again(valkey_server: ValkeyServer) -> None:
    # given a running job, and a store that has died
    with (
        closing(ValkeyServer(persistent=True).start()) as server,
        closing(Shop(server, BROKER_URL=valkey_server.fresh_database())) as shop,
        Celery("revoker", broker=shop.broker_url, set_as_current=False) as app,
    ):
        shop.store.greet(initialise=True, counts_wakeups=True)
        publisher = Publisher(shop.store, lambda: Connection(shop.broker_url))
        job = shop.submit("sleep", [30])
        worker = shop.worker("prefork", 1, MECH_QUEUE_LEASE_SECONDS="3")
        shop.noted("start", job)
        server.kill()
        # when it is revoked
        app.control.revoke(job, terminate=True)
        wait_until(lambda: "not cancelled in the store" in worker.log(), 15)
        server.start()
        # then its lease runs out, and the worker that claims it next cancels it
        assert shop.until(job).state == "cancelled"
        assert len(shop.notes("start")) == 1
        publisher.close()


def test_a_limit_that_is_over_as_its_job_ends_harms_no_other(valkey_server: ValkeyServer) -> None:
    # given a process that goes on by itself, and a store that answers nothing around a job's end and its limit
    with (
        closing(ValkeyServer().start()) as server,
        closing(Shop(server, BROKER_URL=valkey_server.fresh_database())) as shop,
        closing(Publisher(shop.store, lambda: Connection(shop.broker_url))),
    ):
        shop.store.greet(initialise=True, counts_wakeups=True)
        ids = [shop.submit("noop"), shop.submit("sleep", [1.0], timeout_ms=1_300), shop.submit("sleep", [1.0])]
        shop.worker("prefork", 1, MECH_QUEUE_CHAIN_MS="60000")
        shop.noted("start", ids[1])
        with shop.redis() as client:
            client.client_pause(1_500, all=True)

        # then the report of its limit comes too late, and its process, which is at the next one, is not stopped
        assert shop.all_ended(ids) == {"completed": 3}
        assert [(shop.job(job).attempt, shop.job(job).stalls) for job in ids] == [(1, 0)] * 3


@pytest.fixture
def cluster_node() -> Iterator[ValkeyServer]:
    """A store in cluster mode: one node with all slots."""
    server = ValkeyServer("--cluster-enabled", "yes", "--cluster-port", str(free_port())).start()
    with server.client() as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", 30)
    yield server
    server.close()


def test_the_service_on_a_store_in_cluster_mode(
    cluster_node: ValkeyServer, broker_url: str, receiver: Receiver
) -> None:
    service = Service(BROKER_URL=broker_url, REDIS_URL=cluster_node.url())
    with service, Client(service.url, service.application().api_key) as client:
        client.subscriptions.create(name="s", endpoint=receiver.url("/s"), events=["created"])
        ids = [client.submit("mail", n, webhooks={"completed": receiver.url("/w")}).id for n in range(20)]
        for job in client.work.claim("mail", limit=100):
            client.work.complete(job.id, lease_token=job.lease_token)
        told = receiver.wait_for(20, "/w", 20)
        receiver.wait_for(20, "/s", 20)
    assert {one.json()["jobId"] for one in told} == set(ids)
