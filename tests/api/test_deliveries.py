"""/api/deliveries."""

from collections.abc import Callable, Iterator

import pytest

from api.app import runtime_of
from mech_queue.model.address import AddressPolicy
from mech_queue.outbound import Sender
from mech_queue.services import deliveries, events
from mech_queue.store import keys
from tests.api.caller import app, new_application
from tests.support import Answer, Receiver

__all__ = ["app"]  # the fixture

LOOPBACK = AddressPolicy(["127.0.0.0/8"])


@pytest.fixture
def shop(app, monkeypatch):
    monkeypatch.setattr("mech_queue.model.address._policy", LOOPBACK)
    return new_application(app)


@pytest.fixture
def run(app) -> Iterator[Callable[[], None]]:
    """Matches and delivers whatever waits, in this process."""
    sender = Sender(LOOPBACK, connect_s=0.5, total_s=1)
    store = runtime_of(app).store

    def go() -> None:
        for shard in range(keys.SHARDS):
            events.match(store, shard, 5)
            deliveries.deliver(store, sender, shard, 5)

    yield go
    sender.close()


def completed(shop, url: str) -> str:
    job = shop.call("POST", "/api/jobs", {"queue": "email", "data": 1, "webhooks": {"completed": url}}).body["jobId"]
    assert shop.call("PUT", f"/api/jobs/{job}", {"status": "completed", "result": 7}).status == 200
    return str(job)


def test_a_delivery_is_listed_and_shown_with_its_attempts(shop, run, receiver: Receiver):
    receiver.script("/hook", [Answer(500, body=b"sorry \xff"), Answer(200)])
    job = completed(shop, receiver.url("/hook?token=canary"))
    run()

    page = shop.call("GET", f"/api/deliveries?jobId={job}&status=pending,failed")
    assert (page.status, page.body["count"], page.body["nextCursor"]) == (200, 1, None)
    listed = page.body["deliveries"][0]
    assert (listed["jobId"], listed["event"], listed["status"]) == (job, "completed", "pending")
    assert (listed["responseStatus"], listed["errorCode"]) == (500, "http_status")
    assert listed["nextAttemptAt"].endswith("Z") and listed["url"].endswith("/hook?…")

    shown = shop.call("GET", f"/api/deliveries/{listed['id']}").body["delivery"]
    assert {name: shown[name] for name in listed} == listed
    (attempt,) = shown["attempts"]
    assert (attempt["attempt"], attempt["success"], attempt["responseStatus"]) == (1, False, 500)
    assert (attempt["responseBody"], attempt["truncated"], attempt["manual"]) == ("sorry \ufffd", False, False)
    assert "canary" not in str(page.body) + str(shown)


def test_a_replay_sends_the_same_bytes_at_once(shop, run, receiver: Receiver):
    receiver.script("/hook", [500, 200])
    completed(shop, receiver.url("/hook"))
    run()
    one = shop.call("GET", "/api/deliveries").body["deliveries"][0]

    answer = shop.call("POST", f"/api/deliveries/{one['id']}/replay")
    assert (answer.status, answer.body["delivery"]["status"]) == (200, "pending")
    run()

    first, second = receiver.of("/hook")
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    shown = shop.call("GET", f"/api/deliveries/{one['id']}").body["delivery"]
    assert shown["status"] == "succeeded"
    assert shown["requestBody"].encode() == first.body
    assert [attempt["manual"] for attempt in shown["attempts"]] == [False, True]


def test_a_replay_to_a_subscription_that_is_off_is_a_conflict(shop, run, receiver: Receiver):
    made = shop.call(
        "POST", "/api/subscriptions", {"name": "w", "endpoint": receiver.url("/s"), "events": ["created"]}
    ).body["subscription"]
    shop.call("POST", "/api/jobs", {"queue": "email", "data": 1})
    run()
    one = shop.call("GET", f"/api/deliveries?subscriptionId={made['id']}").body["deliveries"][0]
    shop.call("PATCH", f"/api/subscriptions/{made['id']}", {"active": False})

    answer = shop.call("POST", f"/api/deliveries/{one['id']}/replay")
    assert (answer.status, answer.body["code"]) == (409, "CONFLICT")


def test_another_applications_delivery_is_as_one_that_does_not_exist(app, shop, run, receiver: Receiver):
    completed(shop, receiver.url("/hook"))
    run()
    one = shop.call("GET", "/api/deliveries").body["deliveries"][0]
    stranger = new_application(app)
    missing = "01890000-0000-7000-8000-000000000000"
    for method, path in (("GET", "/api/deliveries/{}"), ("POST", "/api/deliveries/{}/replay")):
        theirs, none = stranger.call(method, path.format(one["id"])), stranger.call(method, path.format(missing))
        assert theirs.status == none.status == 404
        assert {**theirs.body, "requestId": ""} == {**none.body, "requestId": ""}
    assert stranger.call("GET", "/api/deliveries").body["deliveries"] == []
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("jobid=x", "jobid"),
        ("jobId=x", "jobId"),
        ("subscriptionId=1", "subscriptionId"),
        ("status=done", "status"),
        ("createdAfter=yesterday", "createdAfter"),
        ("limit=0", "limit"),
        ("cursor=nonsense!", "cursor"),
    ],
)
def test_a_wrong_filter_is_named(shop, query, field):
    answer = shop.call("GET", f"/api/deliveries?{query}")
    assert (answer.status, list(answer.body["details"])) == (422, [field])


def test_pages_follow_each_other(shop, run, receiver: Receiver):
    jobs = [completed(shop, receiver.url("/hook")) for _ in range(5)]
    run()
    found, cursor = [], ""
    while cursor is not None:
        page = shop.call("GET", "/api/deliveries?limit=2" + (f"&cursor={cursor}" if cursor else "")).body
        found += [one["jobId"] for one in page["deliveries"]]
        cursor = page["nextCursor"]
    assert found == jobs[::-1]
