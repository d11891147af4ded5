"""kill -9 of everything, restarts, wiped Celery queues: no job and no event is lost.

``make kills`` is the long form: KILLS kills while jobs are submitted, and an exact count at the end.
"""

import itertools
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from mech_queue.client import Client, Job, Refusal, Unreachable
from tests.e2e.processes import UserWorkers
from tests.support import Receiver, wait_until
from tests.support.service import ROLES, Service

QUEUES = ("http", "native")
KILLED = (*ROLES, *QUEUES, "store")
KILLS = int(os.environ.get("KILLS", len(KILLED)))
BETWEEN_KILLS_S = (0.5, 2.5)
"""At random, so that a kill meets a process anywhere between its start and full load."""

BETWEEN_SUBMITS_S = 0.04
DEADLINE_S = 90 + KILLS
"""After the last kill a delivery may be held by a dead worker's lease for half a minute."""


@pytest.fixture
def own_service() -> Iterator[Service]:
    """A service for this test alone, whose store writes to disk."""
    with Service(persistent=True) as running:
        yield running


@contextmanager
def in_background(function: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run ``function`` in a thread until the block ends; its failure fails the block."""
    closing = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            function(closing)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        thread.join()
    if failed:
        raise failed[0]


def submit(client: Client, number: int, webhooks: dict[str, str]) -> str:
    """Submit one job, come what may: after a lost answer the same key makes no second job."""
    queue = QUEUES[number % 2]
    while True:
        try:
            data = {"number": number}
            key = f"job-{number}"
            return client.submit(queue, data, webhooks=webhooks, idempotency_key=key, attempts=3, maxStalls=50).id
        except (Unreachable, Refusal) as error:
            if isinstance(error, Refusal) and error.status < 500:
                raise


def ended(client: Client) -> int:
    """How many jobs have completed; 0 while nobody answers."""
    try:
        return sum(client.queues.get(queue)["counts"]["completed"] for queue in QUEUES)
    except (Unreachable, Refusal):
        return 0


def kill_and_start(service: Service, workers: UserWorkers, name: str) -> None:
    """kill -9 and start again; after the API, wait for it, so that the next one dies under load again."""
    if name in QUEUES:
        workers.kill(name)
        workers.start(name)
        return
    if name == "store":
        service.store.kill()
        service.store.start()
        return
    service.kill_role(name)
    service.start_role(name)
    if name == "api":
        service.wait_until_healthy(60)


def all_jobs(client: Client) -> list[Job]:
    return list(client.jobs.search(page_size=1000))


def assert_each_job_ended_once(client: Client, receiver: Receiver, ids: list[str]) -> None:
    """The jobs, the counts and the webhooks tell the same story."""
    jobs = all_jobs(client)
    assert Counter(job.id for job in jobs) == Counter(ids)
    assert {job.status for job in jobs} == {"completed"}
    assert all(job.result == {"number": job.data["number"]} for job in jobs)
    for queue in QUEUES:
        counts = client.queues.get(queue)["counts"]
        assert counts["completed"] == sum(job.queue == queue for job in jobs)
        assert [counts[name] for name in ("waiting", "active", "delayed", "failed", "cancelled")] == [0] * 5
    # a delivery that was cut by a kill comes again under the same id; a second event would have its own
    webhooks = {one.headers["webhook-id"]: one.json()["jobId"] for one in receiver.of("/completed")}
    assert Counter(webhooks.values()) == Counter(ids)


def events_told(receiver: Receiver) -> dict[str, dict[int, set[tuple[str, str]]]]:
    """Job -> sequence -> what a subscription to everything was told: (event, webhook-id)."""
    told: dict[str, dict[int, set[tuple[str, str]]]] = defaultdict(lambda: defaultdict(set))
    for one in receiver.of("/all"):
        body = one.json()
        told[body["jobId"]][body["sequence"]].add((body["status"], one.headers["webhook-id"]))
    return told


def complete(events: dict[int, set[tuple[str, str]]]) -> bool:
    """Whether all events of a job are told: no gap in the sequence, from ``created`` to ``completed``."""
    last = {event for event, _ in events.get(len(events), ())}
    return events.keys() == set(range(1, len(events) + 1)) and last == {"completed"}


def test_every_job_ends_once_while_everything_is_killed(own_service, receiver, tmp_path):
    application = own_service.application()
    kills: Counter[str] = Counter()
    with ExitStack() as stack:
        client = stack.enter_context(Client(own_service.url, application.api_key, retries=1))
        workers = stack.enter_context(UserWorkers(own_service, application, tmp_path))
        for name in QUEUES:
            workers.start(name)
        client.subscriptions.create(name="all", endpoint=receiver.url("/all"), events=["*"])
        webhooks = {"completed": receiver.url("/completed")}
        ids: list[str] = []

        def submit_on(closing: threading.Event) -> None:
            while not closing.wait(BETWEEN_SUBMITS_S):
                ids.append(submit(client, len(ids), webhooks))

        # given jobs for an HTTP worker and a native one, submitted while one process after the other is killed
        # (from this thread: a process that dies with its parent dies with the parent's thread, too)
        with in_background(submit_on):
            for name in itertools.islice(itertools.cycle(KILLED), KILLS):
                time.sleep(random.uniform(*BETWEEN_KILLS_S))  # the load of this time is what the kill meets
                kill_and_start(own_service, workers, name)
                kills[name] += 1
        assert len(set(ids)) == len(ids) > KILLS
        # when they are left in peace
        try:
            wait_until(lambda: ended(client) >= len(ids), DEADLINE_S, "all jobs end")
            wait_until(
                lambda: sum(map(complete, events_told(receiver).values())) == len(ids),
                DEADLINE_S,
                "all events are told",
            )
        except AssertionError as error:
            left = [job.raw for job in all_jobs(client) if job.status != "completed"]
            logs = "\n".join([f"{len(left)} left, such as {left[:2]}", *(workers.log(name) for name in QUEUES)])
            raise AssertionError(f"{error}; kills {kills}\n{logs}\n{own_service.log('webhooks')}") from None
        # then every job ended once, and of each of its events there is one delivery, whatever was sent again
        assert_each_job_ended_once(client, receiver, ids)
        told = [whole for events in events_told(receiver).values() for whole in events.values()]
        assert [len(whole) for whole in told] == [1] * len(told)
        sent = len(receiver.of("/all"))
        print(f"{len(ids)} jobs, {len(told)} events told by {sent} requests, kills: {dict(kills)}")


def test_a_restart_of_everything_keeps_everything(own_service, receiver):
    application = own_service.application()
    hook = {"completed": receiver.url("/completed")}
    with Client(own_service.url, application.api_key) as client:
        # given a job in every state, a subscription, and a queue with settings
        waiting = client.submit("kept", {"n": 1}, metadata={"a": 1}, webhooks=hook)
        delayed = client.submit("other", 2, delay=3_600_000)
        active_handle = client.submit("active", 3, webhooks=hook)
        active = client.work.claim("active", lease_s=600)[0]
        done = client.submit("done", 4)
        taken = client.work.claim("done")[0]
        client.work.complete(taken.id, {"ok": True}, lease_token=taken.lease_token)
        cancelled = client.submit("gone", 5)
        cancelled.cancel()
        client.subscriptions.create(name="s", endpoint=receiver.url("/s"), events=["cancelled"])
        handles = [waiting, delayed, active_handle, done, cancelled]
        before = [handle.get().raw for handle in handles]
        # when everything is killed, the store too, and started again
        for role in ROLES:
            own_service.kill_role(role)
        own_service.store.kill()
        own_service.store.start()
        own_service.start()
        client.close()
        # then all is as it was
        assert [handle.get().raw for handle in handles] == before
        assert [one["name"] for one in client.subscriptions.list()] == ["s"]
        assert [job.id for job in client.jobs.search(metadata={"a": 1})] == [waiting.id]
        # and goes on: the lease holds, the webhooks go out
        client.work.complete(active.id, "late", lease_token=active.lease_token)
        again = client.work.claim("kept")[0]
        client.work.complete(again.id, lease_token=again.lease_token)
        received = receiver.wait_for(2, "/completed", deadline_s=40)
        assert {one.json()["jobId"] for one in received} == {waiting.id, active_handle.id}


def test_wiped_celery_queues_lose_nothing(own_service, receiver, tmp_path):
    application = own_service.application()
    wiped = 0
    with ExitStack() as stack:
        client = stack.enter_context(Client(own_service.url, application.api_key))
        store = stack.enter_context(own_service.store.client())
        workers = stack.enter_context(UserWorkers(own_service, application, tmp_path))

        def wipe(closing: threading.Event) -> None:
            nonlocal wiped
            while not closing.wait(0.05):
                for pattern in ("jobs.*", "webhooks.*", "subscriptions.*"):
                    names = store.keys(pattern)
                    wiped += store.delete(*names) if names else 0

        # given somebody who deletes the broker's lists twenty times a second
        with in_background(wipe):
            for name in QUEUES:
                workers.start(name)
            webhooks = {"completed": receiver.url("/completed")}
            ids = [submit(client, number, webhooks) for number in range(200)]
            # when the jobs are worked off all the same
            wait_until(lambda: ended(client) == 200, 90, "all jobs end")
            receiver.wait_for(200, "/completed", deadline_s=90)
        # then nothing is lost, nothing done twice
        assert wiped > 0
        assert_each_job_ended_once(client, receiver, ids)
        assert {job.attempt for job in all_jobs(client)} == {1}
