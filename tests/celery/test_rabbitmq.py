"""RabbitMQ carries the wake-ups: native jobs and the service's own stages, outages and wipes included."""

import itertools
import json
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from standardwebhooks.webhooks import Webhook

from config.settings import Settings
from mech_queue.celery.broker import Broker
from mech_queue.client import Client
from mech_queue.services import jobs, queues
from mech_queue.store import wakeups
from tasks import wakeups as wakeups_of_service
from tests.celery.support import APPLICATION, QUEUE, Shop
from tests.support import Receiver, wait_until
from tests.support.rabbitmq import RabbitServer
from tests.support.service import Service

NAME = f"jobs.{APPLICATION}.{QUEUE}"


def received(rabbit: RabbitServer, name: str) -> Any:
    """The next message of a queue, taken off it."""
    with rabbit.connection() as connection:
        channel = connection.channel()
        return wait_until(lambda: channel.basic_get(name, no_ack=True), message=f"a message in {name}")


def attempts(shop: Shop, jobs: list[str]) -> set[int]:
    return {shop.job(job).attempt for job in jobs}


def consumed(rabbit: RabbitServer, name: str) -> bool:
    with rabbit.connection() as connection:
        try:
            return bool(connection.channel().queue_declare(name, passive=True).consumer_count)
        except connection.channel_errors:
            return False


def test_a_wake_up_is_what_send_task_writes(rabbit_shop: Shop, rabbit: RabbitServer) -> None:
    rabbit_shop.submit("noop")
    ours = received(rabbit, NAME)
    with Celery("sender", broker=rabbit.url, set_as_current=False) as app:
        app.send_task("mech_queue.wake", queue="by-celery", ignore_result=True, priority=0)
    theirs = received(rabbit, "by-celery")

    assert ours.body == theirs.body
    only_celery = {"group_index", "replaced_task_nesting", "stamped_headers", "stamps"}  # its canvas
    assert set(theirs.headers) - set(ours.headers) <= only_celery
    quorum = "x-delivery-count"  # added by a quorum queue, which Celery's default is not
    assert set(ours.headers) - set(theirs.headers) == {"mq", wakeups.COUNTED, quorum}
    for name in ("lang", "task", "eta", "expires", "retries", "timelimit", "ignore_result"):
        assert ours.headers[name] == theirs.headers[name], name
    for name in ("content_type", "content_encoding", "delivery_mode", "priority"):
        assert ours.properties[name] == theirs.properties[name], name
    assert ours.properties["correlation_id"] == ours.headers["id"] == ours.headers["root_id"]


@pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 2), ("gevent", 4)])
def test_jobs_run_beside_ordinary_tasks_without_any_repair(
    rabbit_shop: Shop, rabbit: RabbitServer, pool: str, concurrency: int
) -> None:
    rabbit_shop.worker(pool, concurrency)
    rabbit_shop.stop_ticking()  # so nothing but the wake-ups themselves can start a job

    with Celery("caller", broker=rabbit.url, set_as_current=False) as caller:
        caller.send_task("add", (1, 2), ignore_result=True)
    job = rabbit_shop.run("add", [20, 22])
    more = rabbit_shop.submit_many(100, "noop")

    assert json.loads(job.result or b"null")["sum"] == 42
    assert rabbit_shop.all_ended([job.id, *more]) == {"completed": 101}
    wait_until(lambda: len(rabbit_shop.notes("add")) == 2)
    assert "delayed delivery" not in rabbit_shop.workers[0].log()


def test_the_next_claim_takes_the_highest_priority_in_exact_order(rabbit_shop: Shop) -> None:
    low = rabbit_shop.submit_many(60, "noop")
    high = [rabbit_shop.submit("noop", priority=priority) for priority in (1, 5, 3)]

    rabbit_shop.worker("prefork", 2)
    assert rabbit_shop.all_ended(low + high) == {"completed": 63}

    times = {job: rabbit_shop.job(job).started_ms or 0 for job in low + high}
    expected = [high[1], high[2], high[0], *low]
    assert all(times[one] <= times[other] for one, other in itertools.pairwise(expected))


def test_a_queue_is_consumed_while_it_is_there(rabbit_shop: Shop, rabbit: RabbitServer) -> None:
    options = {"SHOP_APPLICATION": APPLICATION, "MECH_QUEUE_DISCOVER_SECONDS": "0.2"}
    rabbit_shop.worker("threads", 2, "-Q", "celery", **options)
    job = rabbit_shop.submit("noop", queue="later")
    assert rabbit_shop.until(job).state == "completed"

    # given that it is deleted: nobody takes from the broker's queue any more
    jobs.delete(rabbit_shop.store, APPLICATION, job)
    queues.delete(rabbit_shop.store, APPLICATION, "later")
    wait_until(lambda: not consumed(rabbit, f"jobs.{APPLICATION}.later"))
    # until it is there again
    assert rabbit_shop.run("noop", queue="later").state == "completed"


def test_a_queue_that_somebody_declared_otherwise_holds_up_no_other(rabbit_shop: Shop, rabbit: RabbitServer) -> None:
    broken = f"jobs.{APPLICATION}.broken"
    with rabbit.connection() as connection:
        channel = connection.channel()
        channel.queue_declare(broken, durable=True, auto_delete=False)  # not as a quorum queue
        publish = rabbit_shop.store.scripts.publish
        assert publish is not None
        publish([[broken.encode(), 1], [NAME.encode(), 1]])  # together, the broken one first
        assert received(rabbit, NAME)
        channel.queue_delete(broken)


def test_a_busy_worker_that_hoards_wake_ups_holds_up_nobody(rabbit_shop: Shop) -> None:
    rabbit_shop.worker("threads", 1)
    long = [rabbit_shop.submit("sleep", [5]) for _ in range(2)]  # one runs, the wake-up of the other is prefetched
    rabbit_shop.noted("start", long[0])

    rabbit_shop.worker("threads", 1)

    rabbit_shop.noted("start", long[1], deadline_s=3)


def test_a_broker_killed_under_load_loses_nothing(rabbit_shop: Shop, rabbit: RabbitServer) -> None:
    worker = rabbit_shop.worker("threads", 4)
    jobs = rabbit_shop.submit_many(100, "sleep", [0.02])
    wait_until(lambda: len(rabbit_shop.notes("end")) > 10)

    rabbit.kill()
    jobs += [rabbit_shop.submit("sleep", [0.02]) for _ in range(50)]  # nobody notices at submit
    rabbit.start()

    assert rabbit_shop.all_ended(jobs) == {"completed": 150}
    assert attempts(rabbit_shop, jobs) == {1}
    assert worker.process.poll() is None


def test_queues_purged_and_deleted_under_load_lose_nothing(rabbit_shop: Shop, rabbit: RabbitServer) -> None:
    worker = rabbit_shop.worker("prefork", 2)
    closing = threading.Event()
    purged = deleted = 0

    def wipe() -> None:
        nonlocal purged, deleted
        with rabbit.connection() as connection:
            channel = connection.channel()
            # Deleted while it serves, not while it is being declared again: RabbitMQ 3.10 then never gets it right
            # any more; and in the first moment of a connection Celery overlooks that its consumer was cancelled.
            served = 0
            while not closing.wait(0.1):
                purged += channel.queue_purge(NAME)
                if deleted < 2 and len(rabbit_shop.notes("end")) > served + 20:
                    channel.queue_delete(NAME)
                    deleted += 1
                    wait_until(lambda: consumed(rabbit, NAME))
                    served = len(rabbit_shop.notes("end"))

    jobs = rabbit_shop.submit_many(150, "sleep", [0.01])
    wiper = threading.Thread(target=wipe)
    wiper.start()
    try:
        jobs += [rabbit_shop.submit("sleep", [0.01]) for _ in range(50)]
        wait_until(lambda: len(rabbit_shop.notes("end")) > 120, 30)
    finally:
        closing.set()
        wiper.join()

    assert rabbit_shop.all_ended(jobs) == {"completed": 200}
    assert purged and deleted and attempts(rabbit_shop, jobs) == {1}
    assert worker.process.poll() is None


def test_tls_checks_the_certificate(rabbit: RabbitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(broker_url=rabbit.tls_url, redis_url="redis://127.0.0.1:1/0")
    with pytest.raises(ssl.SSLCertVerificationError):
        wakeups_of_service.connection(settings).connect()
    monkeypatch.setenv("SSL_CERT_FILE", str(rabbit.authority))
    broker = Broker(lambda: wakeups_of_service.connection(settings))
    broker.publish({"webhooks.00": 1})
    broker.drop()
    assert received(rabbit, "webhooks.00")


@pytest.fixture(scope="module")
def rabbit_service(rabbit: RabbitServer) -> Iterator[Service]:
    """The whole service with BROKER_URL set to RabbitMQ."""
    with Service(BROKER_URL=rabbit.url, WEBHOOK_CONCURRENCY="4") as running:
        yield running


def test_the_stages_deliver_over_it(rabbit_service: Service, rabbit: RabbitServer, receiver: Receiver) -> None:
    application = rabbit_service.application()
    with Client(rabbit_service.url, application.api_key) as client:
        client.subscriptions.create(name="s", endpoint=receiver.url("/s"), events=["created"])
        ids = [client.submit("mail", n, webhooks={"completed": receiver.url("/w")}).id for n in range(100)]
        taken = client.work.claim("mail", limit=100)
        for job in taken:
            client.work.complete(job.id, lease_token=job.lease_token)
        try:
            told = receiver.wait_for(100, "/w", 20)
            receiver.wait_for(100, "/s", 20)
        except AssertionError as error:
            logs = "\n".join(rabbit_service.log(role) for role in rabbit_service.roles)
            raise AssertionError(f"{error}\n{logs}") from None

    assert {one.json()["jobId"] for one in told} == set(ids)
    assert Webhook(application.webhook_secret).verify(told[0].body, told[0].headers)
    with rabbit_service.store.client() as store:
        assert [key for key in store.keys("*") if not key.startswith(b"mq:")] == [], "wake-ups went into the store"
