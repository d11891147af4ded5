"""The client against the real service: everything that a producer and an operator ask."""

import threading

import pytest

from mech_queue.client import Client, Code, JobHandle, NewJob, Refusal
from tests.support import wait_until
from tests.support.service import Service


@pytest.fixture
def client(service: Service):
    with Client(service.url, service.application().api_key) as made:
        yield made


@pytest.fixture
def master(service: Service):
    with Client(service.url, service.master_key) as made:
        yield made


def test_data_comes_back_as_it_was_sent(client):
    data = {"big": 10**30, "text": "ü🙂", "z": [None, False, 0, ""], "a": 0.1}
    job = client.submit("email", data, metadata={"customerId": "cust-1", "n": 3}, priority=7).get()
    assert job.data == data
    assert list(job.data) == list(data)
    assert (job.queue, job.status, job.priority, job.attempt) == ("email", "waiting", 7, 0)
    assert (job.result, job.error, job.ended) == (None, None, False)
    assert job.raw["id"] == job.id


def test_the_same_idempotency_key_is_the_same_job(client):
    first = client.submit("email", 1, idempotency_key="order-1")
    second = client.submit("email", 1, idempotency_key="order-1")
    assert (first.id, first.replayed, second.replayed) == (second.id, False, True)
    with pytest.raises(Refusal) as caught:
        client.submit("email", 2, idempotency_key="order-1")
    assert caught.value.code is Code.IDEMPOTENCY_CONFLICT


def test_the_same_dedupe_key_is_the_same_unfinished_job(client):
    first, second = (client.submit("email", 1, dedupeKey="cust-1") for _ in range(2))
    assert (first.id, first.deduplicated, second.deduplicated) == (second.id, False, True)


def test_a_batch_answers_each_item_in_order(client):
    good = NewJob("email", {"n": 1}, metadata={"n": 1}, options={"delay": 60_000})
    first, bad, last = client.jobs.submit_many([good, {"queue": "no queue!", "data": 1}, NewJob("email", 2)])
    assert isinstance(first, JobHandle)
    assert isinstance(last, JobHandle)
    assert first.get().status == "delayed"
    assert isinstance(bad, Refusal)
    assert bad.code is Code.INVALID


def test_a_search_walks_over_all_pages(client):
    client.jobs.submit_many([NewJob("q", n, metadata={"even": n % 2 == 0, "s": str(n)}) for n in range(25)])
    assert [job.data for job in client.jobs.search(order="asc", page_size=10)] == list(range(25))
    even = client.jobs.search(queue="q", status=["waiting", "active"], metadata={"even": True}, order="asc")
    assert [job.data for job in even] == list(range(0, 25, 2))
    assert [job.data for job in client.jobs.search(metadata={"s": "7"})] == [7]


def test_waiting_ends_with_the_job(client):
    handle = client.submit("email", {"to": "a"})
    taken = client.work.claim("email", worker_id="w-1", lease_s=30)[0]
    assert (taken.id, taken.data, taken.attempt) == (handle.id, {"to": "a"}, 1)
    client.work.progress(taken.id, 50, lease_token=taken.lease_token)
    assert not client.work.heartbeat(taken.id, taken.lease_token).cancelled
    client.work.log(taken.id, ["half", "way"])
    client.work.complete(taken.id, {"sent": True}, lease_token=taken.lease_token)
    client.work.complete(taken.id, {"sent": True}, lease_token=taken.lease_token)  # a repetition is harmless
    job = handle.wait(timeout_s=10)
    assert (job.status, job.result, job.progress, job.ended) == ("completed", {"sent": True}, 50, True)
    assert job.worker_id == "w-1"
    assert len(handle.logs()) == 2
    client.work.log(handle.id, ["again"] * 100)
    assert len(handle.logs()) == 102


def test_waiting_for_a_job_that_does_not_end_stops_in_time(client):
    with pytest.raises(TimeoutError, match="waiting"):
        client.submit("email", 1).wait(timeout_s=1.2)


def test_a_failure_for_good_is_not_tried_again(client):
    handle = client.submit("email", 1, attempts=5)
    taken = client.work.claim(["other", "email"])[0]
    client.work.fail(taken.id, {"why": "no such address"}, retry=False, lease_token=taken.lease_token)
    job = handle.get()
    assert (job.status, job.error) == ("failed", {"why": "no such address"})
    handle.retry()
    assert handle.get().status == "waiting"


def test_a_job_is_steered(client):
    handle = client.submit("email", 1, delay=60_000, metadata={"a": 1, "b": 2})
    assert handle.change(priority=9, metadata={"b": None, "c": 3}).metadata == {"a": 1, "c": 3}
    handle.promote()
    assert handle.get().priority == 9
    hook = "http://127.0.0.1:49151/hook"
    assert handle.set_webhooks({"completed": hook}) == {"completed": hook}
    assert handle.set_webhooks({"completed": None}) == {}
    assert handle.explain()["reasons"] is not None
    handle.cancel()
    assert handle.get().status == "cancelled"
    handle.delete()
    with pytest.raises(Refusal) as caught:
        handle.get()
    assert caught.value.code is Code.NOT_FOUND


def test_a_lost_lease_and_a_cancelled_job_are_told_to_the_worker(client):
    handle = client.submit("email", 1)
    taken = client.work.claim("email")[0]
    with pytest.raises(Refusal) as caught:
        client.work.complete(taken.id, 1, lease_token="somebody-elses")
    assert caught.value.code is Code.LEASE_LOST
    handle.cancel()
    assert client.work.heartbeat(taken.id, taken.lease_token).cancelled


def test_many_updates_are_answered_one_by_one(client):
    handles = [client.submit("email", n) for n in range(2)]
    taken = client.work.claim("email", limit=2)
    updates = [{"jobId": job.id, "leaseToken": job.lease_token, "status": "completed"} for job in taken]
    updates[1]["leaseToken"] = "somebody-elses"
    done, refused = client.work.update_many(updates)
    assert done["success"] is True
    assert isinstance(refused, Refusal)
    assert refused.code is Code.LEASE_LOST
    assert [handle.get().status for handle in handles] == ["completed", "active"]


def test_queues_are_read_and_steered(service):
    application = service.application()
    with Client(service.url, service.master_key, application_id=application.id) as admin:
        admin.submit("email", 1)
        admin.queues.pause("email")
        assert admin.work.claim("email") == []
        assert admin.queues.get("email")["paused"] is True
        admin.queues.resume("email")
        assert admin.queues.change("email", concurrency=1)["settings"]["concurrency"] == 1
        assert admin.queues.stats("email")["waiting"] == 1
        assert [queue["name"] for queue in admin.queues.list()] == ["email"]
        admin.queues.drain("email")
        with pytest.raises(Refusal) as caught:
            admin.submit("email", 2)
        assert caught.value.code is Code.QUEUE_DRAINING


def test_bulk_actions_count_first(client):
    client.jobs.submit_many([NewJob("email", n) for n in range(3)])
    assert client.jobs.bulk("cancel", {"queue": "email"}, dry_run=True)["count"] == 3
    operation = client.jobs.bulk("cancel", {"queue": "email"})["operationId"]
    assert client.operation(operation)["operation"] is not None


def test_subscriptions(client):
    made = client.subscriptions.create(
        name="all", endpoint="http://127.0.0.1:49151/hook", events=["completed"], filters={"queues": ["q"]}
    )
    assert made["secret"].startswith("whsec_")
    assert client.subscriptions.change(made["id"], name="some")["name"] == "some"
    assert [one["name"] for one in client.subscriptions.list()] == ["some"]
    assert "secret" not in client.subscriptions.get(made["id"])
    assert client.subscriptions.rotate_secret(made["id"])["secret"] != made["secret"]
    tested = client.subscriptions.test(made["id"])["deliveryId"]
    wait_until(lambda: client.deliveries.get(tested)["attempts"])  # and the next one comes some seconds later
    assert client.deliveries.get(tested)["event"] == "test"
    assert [one["id"] for one in client.deliveries.list(status=["pending", "failed"])] == [tested]
    assert client.deliveries.replay(tested)["delivery"]["id"] == tested
    assert client.subscriptions.replay(made["id"], "2030-01-31T12:00:00Z")["count"] == 0
    client.subscriptions.delete(made["id"])
    assert list(client.subscriptions.list()) == []


def test_schedules(client):
    made = client.schedules.create(name="nightly", cron="0 3 * * *", job={"queue": "report", "data": {"n": 1}})
    assert client.schedules.change(made["id"], limit=7)["limit"] == 7
    assert client.schedules.toggle(made["id"], active=False)["schedule"]["nextRunAt"] is None
    job = client.jobs.get(client.schedules.execute(made["id"])["jobId"])
    assert (job.queue, job.data) == ("report", {"n": 1})
    assert [(one["jobId"], one["manual"]) for one in client.schedules.runs(made["id"])] == [(job.id, True)]
    client.schedules.delete(made["id"])
    assert list(client.schedules.list()) == []


def test_the_master_key_makes_applications_and_acts_for_them(service, master):
    made = master.applications.create(name="shop", settings={"maxConcurrentJobs": 5})
    assert made["apiKey"].startswith("sk_")
    assert made["id"] in [one["id"] for one in master.applications.list(limit=2)]
    key = master.applications.create_key(made["id"], name="worker", scopes=["jobs:work"])["data"]
    master.applications.delete_key(made["id"], key["id"])
    assert [one["id"] for one in master.applications.get(made["id"])["keys"]] == [made["keyId"]]
    assert master.applications.rotate_webhook_secret(made["id"])["data"]["webhookSecret"] != made["webhookSecret"]
    assert master.applications.change(made["id"], name="shop 2")["name"] == "shop 2"
    with Client(service.url, service.master_key, application_id=made["id"]) as acting:
        handle = acting.submit("email", 1)
    with Client(service.url, made["apiKey"]) as own:
        assert own.jobs.get(handle.id).queue == "email"
        assert own.application()
    with pytest.raises(Refusal) as caught:
        master.jobs.get(handle.id)
    assert caught.value.code is Code.NOT_FOUND


def test_health_and_workers(client):
    assert client.health()["status"] == "healthy"
    client.submit("email", 1)
    client.work.claim("email", worker_id="w-7")
    assert "w-7" in str(list(client.workers()))


def test_events_are_streamed_and_resumed(client):
    # given a stream that somebody reads
    events: list[dict] = []
    reader = threading.Thread(target=lambda: events.append(next(client.events(queue="watched"))))
    reader.start()
    # when jobs are submitted, then the first that comes after the stream began arrives
    handles = {}

    def arrived() -> bool:
        handle = client.submit("watched", 1)
        handles[handle.id] = handle
        client.submit("other", 1)
        return bool(events)

    wait_until(arrived)
    reader.join()
    assert events[0]["event"] == "created"
    assert events[0]["data"]["jobId"] in handles
    # and a stream that resumes there goes on with the next event
    handles[events[0]["data"]["jobId"]].cancel()
    following = client.events(last_event_id=events[0]["id"], events="cancelled")
    event = next(following)
    following.close()
    assert (event["event"], event["data"]["jobId"]) == ("cancelled", events[0]["data"]["jobId"])
