"""The stages as real processes: Celery workers, scheduler, a real receiver, kill -9."""

import re
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import trustme
from kombu.connection import Connection
from kombu.messaging import Producer
from standardwebhooks.webhooks import Webhook

from mech_queue.model.address import AddressPolicy
from mech_queue.model.delivery import DeliveryQuery, DeliveryRecord, DeliveryState
from mech_queue.model.errors import Refusal
from mech_queue.model.job import JobSpec, Report
from mech_queue.model.times import parse_iso
from mech_queue.services import applications, deliveries, subscriptions
from mech_queue.store import Store, keys
from tests.outbound.hostile import Hostile, says
from tests.support import Answer, Receiver, wait_until
from tests.support.service import Service

ROLES = ("scheduler", "webhooks", "subscriptions")


class Stages:
    """The processes, and one application on their store."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.store = Store.open(service.environment["REDIS_URL"])
        self.store.secrets_key = service.environment["SECRETS_KEY"]
        self.store.greet(initialise=True)
        made = applications.create(self.store, "test")
        self.id, self.secret = made.application.id, made.webhook_secret

    def close(self) -> None:
        """Leave the store; the processes go on."""
        self.store.close()

    def complete(self, webhooks: dict[str, str], count: int = 1) -> list[str]:
        """Jobs that complete at once."""
        ids = []
        for at in range(0, count, 100):
            specs = [JobSpec(queue="email", webhooks=webhooks)] * min(100, count - at)
            made = self.store.jobs.submit(self.id, specs)
            some = [one.job_id for one in made if not isinstance(one, Refusal)]
            self.store.jobs.report(self.id, [Report(one, "complete", result=b"1") for one in some])
            ids += some
        return ids

    def find(self, **query: Any) -> list[DeliveryRecord]:
        """Deliveries, newest first."""
        return deliveries.search(self.store, self.id, DeliveryQuery(limit=1000, **query)).deliveries

    def wait_for_states(self, state: DeliveryState, count: int, deadline_s: float = 20) -> None:
        """Until that many deliveries are in a state."""
        wait_until(lambda: len(self.find(states=(state,))) >= count, deadline_s, f"{count} {state}")


@pytest.fixture(autouse=True)
def loopback_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here too, where the subscriptions are made."""
    monkeypatch.setattr("mech_queue.model.address._policy", AddressPolicy(["127.0.0.0/8"]))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that only these tests know."""
    return trustme.CA()


@pytest.fixture(scope="module")
def stages(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    """Eight threads, so two for one endpoint and four for one application."""
    ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with Service(ROLES, WEBHOOK_CONCURRENCY="8", WEBHOOK_CA_FILE=str(ca_file)) as service:
        running = Stages(service)
        yield running
        running.close()


def test_a_completed_webhook_arrives_signed(stages: Stages, receiver: Receiver) -> None:
    (job,) = stages.complete({"completed": receiver.url("/hook")})
    (request,) = receiver.wait_for(1, "/hook", 20)
    assert Webhook(stages.secret).verify(request.body, request.headers)
    assert request.json()["jobId"] == job


def test_a_receiver_may_have_a_certificate_of_an_own_authority(stages: Stages, authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Hostile(says(b"HTTP/1.1 204 No Content\r\n\r\n"), context) as trusted:
        (job,) = stages.complete({"completed": trusted.url(scheme="https")})
        wait_until(lambda: len(stages.find(job_id=job, states=(DeliveryState.SUCCEEDED,))) == 1, 20)


def test_a_subscription_is_told(stages: Stages, receiver: Receiver) -> None:
    made = subscriptions.create(
        stages.store, stages.id, {"name": "w", "endpoint": receiver.url("/s"), "events": ["created"]}
    )
    stages.store.jobs.submit(stages.id, [JobSpec(queue="email")])
    (request,) = receiver.wait_for(1, "/s", 20)
    assert Webhook(made.secret).verify(request.body, request.headers)
    subscriptions.delete(stages.store, stages.id, made.subscription.id)


def test_a_failure_is_retried_by_the_scheduler(stages: Stages, receiver: Receiver) -> None:
    made = subscriptions.create(
        stages.store,
        stages.id,
        {
            "name": "w",
            "endpoint": receiver.script("/r", [500, 500, 200]),
            "events": ["created"],
            "retryConfig": {"maxAttempts": 5, "backoffMs": 100},
        },
    )
    stages.store.jobs.submit(stages.id, [JobSpec(queue="email")])
    requests = receiver.wait_for(3, "/r", 20)
    assert len({(one.body, one.headers["webhook-id"]) for one in requests}) == 1
    subscriptions.delete(stages.store, stages.id, made.subscription.id)


def test_wiped_celery_queues_lose_nothing(stages: Stages, receiver: Receiver) -> None:
    shard = keys.shard_of(stages.id)
    for _ in range(20):
        stages.complete({"completed": receiver.url("/wiped")}, 5)
        stages.store.redis.delete(f"subscriptions.{shard:02d}", f"webhooks.{shard:02d}")
    receiver.wait_for(100, "/wiped", 20)
    assert len({one.headers["webhook-id"] for one in receiver.of("/wiped")}) == 100


def test_healthy_deliveries_are_fast_beside_a_black_hole(stages: Stages, receiver: Receiver) -> None:
    # Given an endpoint that never answers, with 1,000 deliveries queued
    with Receiver(Answer(delay_s=600)) as black_hole:
        stages.complete({"completed": black_hole.url("/dead")}, 1000)
        wait_until(lambda: _unsent(stages) == 1000, 60, "1,000 queued deliveries")
        black_hole.wait_for(2, deadline_s=20)
        # When 200 others go to a healthy one, the next ones when the last have arrived
        for number in range(1, 21):
            stages.complete({"completed": receiver.url("/alive")}, 10)
            receiver.wait_for(10 * number, "/alive", 30)
        # Then they do not wait: from the event to the receiver, 99 of 100 in less than 2 s
        requests = receiver.of("/alive")
        waits = sorted(one.at - _seconds(one.json()["timestamp"]) for one in requests)
        assert waits[int(len(waits) * 0.99)] < 2, waits[-5:]
        # And the dead endpoint never had more than its slots
        assert len(black_hole.requests) <= 2


def test_healthy_deliveries_are_fast_beside_an_application_of_black_holes(stages: Stages, receiver: Receiver) -> None:
    with ExitStack() as stack:
        # Given another application with 40 endpoints that take connections and never answer
        holes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(40)]
        crowd = stack.enter_context(closing(Stages(stages.service)))
        stack.callback(lambda: applications.delete(crowd.store, crowd.id))
        for hole in holes:
            crowd.complete({"completed": f"http://127.0.0.1:{hole.getsockname()[1]}/"}, 3)
        crowd.wait_for_states(DeliveryState.SENDING, 4)
        # When the first sends to a healthy one, again and again
        for number in range(1, 21):
            stages.complete({"completed": receiver.url()}, 5)
            receiver.wait_for(5 * number, deadline_s=30)
        # Then its deliveries do not wait, and the other has its slots all the time
        waits = sorted(one.at - _seconds(one.json()["timestamp"]) for one in receiver.requests)
        assert waits[int(len(waits) * 0.99)] < 2, waits[-5:]
        assert len(crowd.find(states=(DeliveryState.SENDING,))) == 4


def test_secrets_show_in_no_log(stages: Stages, receiver: Receiver) -> None:
    url = receiver.script("/canary-path?token=canary-query", [500])
    subscriptions.create(
        stages.store,
        stages.id,
        {
            "name": "w", "endpoint": url, "events": ["created"],
            "headers": {"Authorization": "canary-header"},
        },
    )  # fmt: skip
    stages.store.jobs.submit(stages.id, [JobSpec(queue="email")])
    receiver.wait_for(1, "/canary-path", 20)
    logs = "".join(stages.service.log(role) for role in ROLES)
    assert logs
    for secret in ("canary-query", "canary-header", stages.secret, "whsec_"):
        assert secret not in logs
    assert not re.search(r"Traceback", logs), logs


def test_a_stopping_worker_finishes_what_it_sends(stages: Stages, receiver: Receiver) -> None:
    # Given a worker that waits for a receiver's answer
    receiver.default = Answer(delay_s=1)
    stages.complete({"completed": receiver.url("/slow")})
    (request,) = receiver.wait_for(1, "/slow", 20)
    # When it is told to stop
    stages.service.kill_role("webhooks", signal.SIGTERM)
    stages.service.start_role("webhooks")
    # Then the answer was written down, and nothing is sent twice
    found = deliveries.get(stages.store, stages.id, request.headers["webhook-id"])
    assert (found.state, found.attempt) == (DeliveryState.SUCCEEDED, 1)


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_what_is_no_wake_up_costs_no_delivery(stages: Stages, receiver: Receiver, tmp_path: Path) -> None:
    queue = f"webhooks.{keys.shard_of(stages.id):02d}"
    worker = stages.service.processes["webhooks"]
    # Given a pickled message and one for an unknown task in the queue of a stage
    bomb, headers = Bomb(tmp_path / "pickled"), {"id": "1", "lang": "py", "argsrepr": "", "kwargsrepr": ""}
    with Connection(stages.service.environment["REDIS_URL"]) as connection:
        for task, serializer in (("mech_queue.deliver", "pickle"), ("unknown", "json")):
            body: Any = ([bomb if serializer == "pickle" else 1], {}, {})
            Producer(connection).publish(body, queue, headers={**headers, "task": task}, serializer=serializer)
    # Then it refuses both and goes on
    stages.complete({"completed": receiver.url("/1")})
    receiver.wait_for(1, "/1", 20)
    assert worker.poll() is None and not bomb.path.exists()
    # When something is there that Celery's transport cannot even read, and its worker ends by that
    with stages.service.store.client() as client:
        client.lpush(queue, b"\x80 no JSON")
    stages.complete({"completed": receiver.url("/2")}, 10)
    wait_until(lambda: worker.poll() is not None, 20, "the worker ends")
    # Then the next worker goes on, and nothing is lost
    stages.service.start_role("webhooks")
    receiver.wait_for(10, "/2", 30)


def test_a_killed_worker_loses_nothing_and_its_attempts_are_counted(receiver: Receiver) -> None:
    with Service(ROLES, WEBHOOK_ENDPOINT_SLOTS="16", WEBHOOK_TIMEOUT_SECONDS="1") as service:
        stages = Stages(service)
        url = receiver.url("/k")
        # Given workers of both stages that are killed in the middle of their work
        for round_ in range(3):
            stages.complete({"completed": url}, 100)
            receiver.wait_for(1 + 30 * round_, "/k", 20)
            service.kill_role("webhooks")
            service.kill_role("subscriptions")
            service.start_role("webhooks")
            service.start_role("subscriptions")
        # Then every delivery ends as a success, the interrupted ones after their lease
        wait_until(
            lambda: len(stages.find(states=(DeliveryState.SUCCEEDED,))) == 300,
            90,
            f"300 successes; {service.log('webhooks')}",
        )
        found = stages.find()
        assert len({one.headers["webhook-id"] for one in receiver.of("/k")}) == len(found) == 300
        again = [one for one in found if one.attempt > 1]
        for one in again:
            attempts = deliveries.get(stages.store, stages.id, one.id).attempts
            assert {attempt.error_code for attempt in attempts[:-1]} == {"interrupted"}
            assert attempts[-1].success
        stages.close()


def _unsent(stages: Stages) -> int:
    counts = stages.store.deliveries.waiting(keys.shard_of(stages.id))
    return counts["w"] + counts["d"] + counts["a"]


def _seconds(text: str) -> float:
    return (parse_iso(text) or 0) / 1000
