"""From an event to a receiver and back: matching, bodies, attempts, retries, breaker, replay."""

import pytest
from standardwebhooks.webhooks import Webhook

from mech_queue.model import endpoint
from mech_queue.model.application import Secret
from mech_queue.model.delivery import DeliveryQuery, DeliveryState
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.event import EventType
from mech_queue.services import deliveries, events, subscriptions
from mech_queue.store import keys
from tests.services.pipeline import Pipeline
from tests.support import Answer, Receiver

LEASE_MS = 30_000


def test_a_job_webhook_arrives_signed_with_the_promised_body(pipeline: Pipeline, receiver: Receiver) -> None:
    # Given a job with a webhook
    job = pipeline.submit(webhooks={"completed": receiver.url("/hook?t=1")}, metadata={"customer": "c-1"})
    # When it completes
    pipeline.report(job, "complete", result=b'{"big": 12345678901234567890, "list": []}')
    assert pipeline.run() == 1
    # Then its receiver gets exactly what the contract says
    (request,) = receiver.requests
    assert Webhook(pipeline.secret).verify(request.body, request.headers)
    body = request.json()
    assert list(body) == [
        "jobId", "status", "timestamp", "result", "queue", "metadata", "applicationId", "sequence",
    ]  # fmt: skip
    assert (body["jobId"], body["status"], body["queue"]) == (job, "completed", "email")
    assert b'"result":{"big": 12345678901234567890, "list": []}' in request.body
    assert (body["metadata"], body["applicationId"]) == ({"customer": "c-1"}, pipeline.application_id)
    assert body["sequence"] == 3
    assert request.headers["content-type"] == "application/json"
    assert (request.headers["x-job-id"], request.headers["x-job-status"]) == (job, "completed")
    # And the log tells it
    found = pipeline.only()
    assert (found.state, found.job_id, found.last_status) == (DeliveryState.SUCCEEDED, job, 200)
    assert [(one.number, one.success, one.excerpt) for one in found.attempts] == [(1, True, b"ok")]
    assert request.headers["webhook-id"] == found.id


def test_a_subscription_body_serves_both_readers(pipeline: Pipeline, receiver: Receiver) -> None:
    made = pipeline.subscribe(
        receiver.url("/s"),
        name='quo"te é',
        filters={"queues": ["email"], "metadata": {"priority": "high"}},
        headers={"Authorization": "Bearer x y"},
        method="PUT",
    )
    pipeline.submit(metadata={"priority": "low"})
    other = pipeline.submit(queue="email-bulk", metadata={"priority": "high"})
    job = pipeline.submit(metadata={"priority": "high"}, data=b'{"a":[],"b":{}}')
    for one in (other, job):
        pipeline.report(one, "complete", result=b"7")
    assert pipeline.run() == 1
    (request,) = receiver.requests
    assert Webhook(made.secret).verify(request.body, request.headers)
    body = request.json()
    assert (body["jobId"], body["status"], body["result"]) == (job, "completed", 7)
    assert body["subscription"] == {"id": made.subscription.id, "name": 'quo"te é'}
    assert body["event"] == {
        "id": f"{job}-3", "type": "completed", "timestamp": body["timestamp"], "sequence": 3,
    }  # fmt: skip
    assert body["job"] == {
        "id": job, "queue": "email", "status": "completed", "data": {"a": [], "b": {}},
        "metadata": {"priority": "high"}, "result": 7,
    }  # fmt: skip
    headers = request.headers
    assert (request.method, headers["authorization"]) == ("PUT", "Bearer x y")
    assert headers["x-subscription-id"] == made.subscription.id
    assert headers["x-application-id"] == pipeline.application_id
    shown = subscriptions.get(pipeline.store, pipeline.application_id, made.subscription.id)
    assert (shown.health.trigger_count, shown.health.word) == (1, "healthy")


def test_specific_and_star_both_fire_once_per_distinct_url(pipeline: Pipeline, receiver: Receiver) -> None:
    same = receiver.url("/same")
    pipeline.submit(webhooks={"completed": same, "*": same})
    job = pipeline.submit(webhooks={"completed": receiver.url("/one"), "*": receiver.url("/all")})
    pipeline.report(job, "complete")
    pipeline.run()
    assert sorted((one.path, one.json()["status"]) for one in receiver.requests) == [
        ("/all", "completed"), ("/all", "started"), ("/one", "completed"),
    ]  # fmt: skip


def test_a_webhook_whose_url_is_a_matching_subscriptions_is_covered(pipeline: Pipeline, receiver: Receiver) -> None:
    url = receiver.url("/same")
    pipeline.subscribe(url)
    pipeline.subscribe(url)
    job = pipeline.submit(webhooks={"completed": url})
    pipeline.report(job, "complete")
    assert pipeline.run() == 2  # two subscriptions are always two requests
    assert all("x-subscription-id" in one.headers for one in receiver.requests)


def test_a_batch_matched_twice_delivers_nothing_twice(pipeline: Pipeline, receiver: Receiver) -> None:
    job = pipeline.submit(webhooks={"*": receiver.url("/a"), "completed": receiver.url("/b")})
    pipeline.report(job, "complete")
    # Given a worker that died after it made the deliveries and before it ticked the batch off
    batch = pipeline.store.events.claim(pipeline.shard, b"1" * 16)
    assert batch is not None
    pipeline.store.deliveries.create(pipeline.shard, events.deliveries_of(pipeline.store, batch))
    assert pipeline.match() == 0
    # When its lease ends and another takes the batch
    pipeline.advance(30_001)
    assert pipeline.match() == len(batch.events)
    # Then each delivery exists once, and nothing waits any more
    assert pipeline.deliver() == 3
    assert pipeline.store.redis.exists(keys.shard_prefix(pipeline.shard) + b"matching") == 0
    assert pipeline.store.redis.hget(keys.prefix(pipeline.application_id) + b"j:" + _raw(job), "u") is None


def test_events_that_nobody_wants_are_not_queued(pipeline: Pipeline) -> None:
    pipeline.report(pipeline.submit(), "complete")
    assert pipeline.store.events.pending(pipeline.shard) == 0


def test_a_failed_attempt_is_repeated_with_the_same_bytes(pipeline: Pipeline, receiver: Receiver) -> None:
    url = receiver.script("/hook", [500, Answer(cut=True), Answer(cut=True), 200])
    job = pipeline.submit(webhooks={"failed": url})
    pipeline.report(job, "fail", error=b'"no \xe2\x82\xac"', retry=False)
    assert pipeline.run() == 1
    waiting = pipeline.only()
    assert (waiting.state, waiting.attempt, waiting.last_status) == (DeliveryState.PENDING, 1, 500)
    assert 4_000 <= (waiting.next_attempt_ms or 0) - pipeline.now <= 6_000
    assert pipeline.deliver() == 0
    pipeline.advance(6_001)
    assert pipeline.deliver() == 1
    pipeline.advance(360_001)
    assert pipeline.deliver() == 1
    assert len({(one.body, one.headers["webhook-id"]) for one in receiver.requests}) == 1
    found = pipeline.only()
    assert found.state is DeliveryState.SUCCEEDED
    assert [(one.number, one.status, one.error_code) for one in found.attempts] == [
        (1, 500, "http_status"), (2, None, "connection_closed"), (3, 200, None),
    ]  # fmt: skip


def test_an_own_schedule_ends_where_it_says(pipeline: Pipeline, receiver: Receiver) -> None:
    receiver.default = Answer(404)
    pipeline.subscribe(receiver.url(), retryConfig={"maxAttempts": 2, "backoffMs": 1000})
    pipeline.report(pipeline.submit(), "complete")
    pipeline.run()
    pipeline.advance(1_201)
    assert pipeline.deliver() == 1
    assert (pipeline.only().state, pipeline.only().attempt) == (DeliveryState.FAILED, 2)
    pipeline.advance(86_400_000)
    assert pipeline.deliver() == 0


def test_a_kill_while_sending_counts_as_an_interrupted_attempt(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.submit(webhooks={"started": receiver.url()})
    pipeline.report(pipeline.submit(webhooks={"completed": receiver.url()}), "complete")
    pipeline.match()
    # Given a worker that died with the delivery in its hands
    assert pipeline.store.deliveries.claim(pipeline.shard, LEASE_MS) is not None
    assert pipeline.deliver() == 0
    # When its lease ends
    pipeline.advance(LEASE_MS + 1)
    # Then the next worker sends it, and the log shows both
    assert pipeline.deliver() == 1
    found = pipeline.only()
    assert [(one.number, one.error_code) for one in found.attempts] == [(1, "interrupted"), (2, None)]


def test_a_late_report_of_a_lost_lease_changes_nothing(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.report(pipeline.submit(webhooks={"completed": receiver.url()}), "complete")
    pipeline.match()
    claimed = pipeline.store.deliveries.claim(pipeline.shard, LEASE_MS)
    assert claimed is not None
    pipeline.advance(LEASE_MS + 1)
    assert pipeline.store.deliveries.drop(claimed, DeliveryState.CANCELLED) is False
    assert pipeline.only().state is DeliveryState.PENDING


def test_a_retry_uses_the_endpoint_and_secrets_of_its_time(pipeline: Pipeline, receiver: Receiver) -> None:
    made = pipeline.subscribe(receiver.script("/old", [500]))
    pipeline.report(pipeline.submit(), "complete")
    pipeline.run()
    subscriptions.change(
        pipeline.store, pipeline.application_id, made.subscription.id, {"endpoint": receiver.url("/new")}
    )
    secret = subscriptions.rotate_secret(pipeline.store, pipeline.application_id, made.subscription.id)
    pipeline.advance(6_001)
    pipeline.deliver()
    (old,), (new,) = receiver.of("/old"), receiver.of("/new")
    assert new.body == old.body
    for known in (made.secret, secret):  # the old secret signs along for a day
        assert Webhook(known).verify(new.body, new.headers)


def test_progress_is_coalesced_to_one_a_second(pipeline: Pipeline, receiver: Receiver) -> None:
    job = pipeline.submit(webhooks={"progress": receiver.url("/p")})
    pipeline.store.jobs.start(pipeline.application_id, job, lease_token=None, lease_ms=None, worker_id=None)
    for number in range(1, 6):
        pipeline.report(job, "progress", progress=b"%d" % number)
        pipeline.run()
        pipeline.advance(100)
    pipeline.advance(1_000)
    pipeline.deliver()
    assert [one.json()["progress"] for one in receiver.requests] == [1, 5]
    pipeline.report(job, "progress", progress=b"6")
    pipeline.advance(2_000)
    pipeline.run()
    assert [one.json()["progress"] for one in receiver.requests] == [1, 5, 6]


def test_the_breaker_opens_probes_and_closes(pipeline: Pipeline, receiver: Receiver) -> None:
    # Given eight deliveries to an endpoint that fails
    receiver.default = Answer(500)
    for _ in range(8):
        pipeline.report(pipeline.submit(webhooks={"completed": receiver.url()}), "complete")
    # When five have failed, then it is open: the others wait and spend no attempt
    assert pipeline.run() == 5
    pipeline.advance(20_000)
    assert pipeline.deliver() == 0
    # When 30 s have passed, then one probe goes, and its failure opens it for a minute
    pipeline.advance(10_001)
    assert pipeline.deliver() == 1
    pipeline.advance(59_000)
    assert pipeline.deliver() == 0
    # When the next probe succeeds, then everything goes
    receiver.default = Answer(200)
    pipeline.advance(1_001)
    assert pipeline.deliver() >= 7
    pipeline.advance(400_000)
    pipeline.deliver()
    assert {one.state for one in pipeline.find()} == {DeliveryState.SUCCEEDED}


def test_an_overloaded_receiver_is_left_alone_for_a_minute(pipeline: Pipeline, receiver: Receiver) -> None:
    receiver.script("/", [Answer(429, {"Retry-After": "90"})])
    for _ in range(3):
        pipeline.report(pipeline.submit(webhooks={"completed": receiver.url()}), "complete")
    assert pipeline.run() == 1
    pipeline.advance(89_000)
    assert pipeline.deliver() == 0
    pipeline.advance(1_001)
    assert pipeline.deliver() == 2


def test_a_success_can_be_replayed_and_says_so(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.report(pipeline.submit(webhooks={"completed": receiver.url()}), "complete")
    pipeline.run()
    again = deliveries.replay(pipeline.store, pipeline.application_id, pipeline.only().id)
    assert again.state is DeliveryState.PENDING
    pipeline.deliver()
    first, second = receiver.requests
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert [(one.number, one.manual) for one in pipeline.only().attempts] == [(1, False), (2, True)]


def test_a_replay_supersedes_the_pending_retry(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.report(pipeline.submit(webhooks={"completed": receiver.script("/h", [500])}), "complete")
    pipeline.run()
    deliveries.replay(pipeline.store, pipeline.application_id, pipeline.only().id)
    pipeline.deliver()
    pipeline.advance(86_400_000)
    assert pipeline.deliver() == 0
    assert len(receiver.requests) == 2


def test_another_applications_delivery_does_not_exist(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.report(pipeline.submit(webhooks={"completed": receiver.url()}), "complete")
    pipeline.match()
    stranger = pipeline.neighbour()
    for act in (deliveries.get, deliveries.replay):
        with pytest.raises(Refusal) as refused:
            act(pipeline.store, stranger, pipeline.only().id)
        assert refused.value.code is Code.NOT_FOUND
    assert deliveries.search(pipeline.store, stranger, DeliveryQuery()).deliveries == []
    assert deliveries.search(pipeline.store, stranger, DeliveryQuery(states=(DeliveryState.PENDING,))).deliveries == []


def test_a_test_goes_the_way_of_every_delivery(pipeline: Pipeline, receiver: Receiver) -> None:
    made = pipeline.subscribe(receiver.url("/t"), filters={"queues": ["elsewhere"], "metadata": {"a": 1}}, active=False)
    delivery_id = deliveries.send_test(pipeline.store, pipeline.application_id, made.subscription.id)
    assert pipeline.deliver() == 1
    (request,) = receiver.requests
    assert Webhook(made.secret).verify(request.body, request.headers)
    body = request.json()
    assert (body["status"], body["event"]["type"], request.headers["x-job-status"]) == ("test", "test", "test")
    assert deliveries.get(pipeline.store, pipeline.application_id, delivery_id).state is DeliveryState.SUCCEEDED


def test_lists_filter_by_job_subscription_state_and_time(pipeline: Pipeline, receiver: Receiver) -> None:
    made = pipeline.subscribe(receiver.url("/s"))
    jobs = []
    for _ in range(5):
        jobs.append(pipeline.submit(webhooks={"failed": receiver.url("/w")}))
        pipeline.report(jobs[-1], "complete")
        pipeline.match()
        pipeline.now += 1000
    deliveries.deliver_next(pipeline.store, pipeline.sender, pipeline.shard)
    assert [one.job_id for one in pipeline.find()] == jobs[::-1]
    assert [one.job_id for one in pipeline.find(job_id=jobs[2])] == [jobs[2]]
    assert len(pipeline.find(subscription_id=made.subscription.id)) == 5
    assert len(pipeline.find(states=(DeliveryState.PENDING,))) == 4
    start = pipeline.now - 5000
    assert [one.job_id for one in pipeline.find(after_ms=start + 1000, before_ms=start + 3000)] == jobs[2:0:-1]
    page = deliveries.search(pipeline.store, pipeline.application_id, DeliveryQuery(limit=2))
    rest = deliveries.search(pipeline.store, pipeline.application_id, DeliveryQuery(limit=9, cursor=page.next_cursor))
    assert [one.job_id for one in page.deliveries + rest.deliveries] == jobs[::-1]


def test_ended_deliveries_leave_no_trace_after_a_week(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.report(pipeline.submit(webhooks={"completed": receiver.url()}), "complete")
    pipeline.run()
    pipeline.advance(7 * 86_400_000 - 1000)
    assert len(pipeline.find()) == 1
    pipeline.advance(2000)
    assert pipeline.find() == []
    place = keys.shard_prefix(pipeline.shard) + b"~:"
    redis = pipeline.store.redis
    left = {key.removeprefix(place) for key in redis.scan_iter(place + b"*") if redis.ttl(key) < 0}
    assert left <= {b"app", b"queues", b"q:webhooks"}


def test_a_noisy_endpoint_pushes_out_only_its_own_records(pipeline: Pipeline, receiver: Receiver) -> None:
    with Receiver() as other:
        # Given a delivery to each of two endpoints, and thousands more to one of them since
        for url in (receiver.url(), other.url()):
            pipeline.report(pipeline.submit(webhooks={"completed": url}), "complete")
        pipeline.run()
        place = keys.shard_prefix(pipeline.shard) + b"~:kept:c"
        noisy = place + f"{pipeline.application_id} {endpoint.origin(receiver.url())}".encode()
        assert pipeline.store.redis.llen(noisy) == 1
        pipeline.store.redis.rpush(noisy, *(b"%016d" % number for number in range(9_999)))
        # When one more ends there
        last = pipeline.submit(webhooks={"completed": receiver.url()})
        pipeline.report(last, "complete")
        pipeline.run()
        # Then its oldest record is gone, and the other endpoint's is there
        assert [one.url for one in pipeline.find()] == [receiver.url(), other.url()]
        assert pipeline.find()[0].job_id == last


def test_deliveries_are_no_jobs_to_anybody(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.report(pipeline.submit(webhooks={"completed": receiver.url()}), "complete")
    pipeline.match()
    totals = pipeline.store.maintenance.totals()
    assert totals == {**dict.fromkeys(totals, 0), "completed": 1}
    pipeline.deliver()
    row = pipeline.store.metrics.application(pipeline.application_id, 0)
    assert row.webhooks["call:completed:success"] == 1


def test_a_secret_that_cannot_be_opened_is_a_failed_attempt(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.report(pipeline.submit(webhooks={"completed": receiver.url()}), "complete")
    before = pipeline.store.applications.get(pipeline.application_id)
    pipeline.store.applications.change(before, secrets=(Secret("whsec_!"),))
    pipeline.run()
    found = pipeline.only()
    assert (found.state, found.attempts[0].error_code) == (DeliveryState.PENDING, "invalid_request")
    assert receiver.requests == []


def test_urls_of_a_job_are_those_of_the_six_events(pipeline: Pipeline) -> None:
    job = pipeline.store.jobs.get(pipeline.application_id, pipeline.submit(webhooks={"*": "http://a.example/"}))
    assert job is not None
    named = [event for event in EventType if events.webhook_urls(job, event)]
    assert [event.value for event in named] == "started progress completed failed cancelled retrying".split()
    assert endpoint.origin("http://a.example/") == "http://a.example:80"


def _raw(job_id: str) -> bytes:
    return bytes.fromhex(job_id.replace("-", ""))
