"""/api/subscriptions."""

import json
from datetime import datetime

import pytest

from api.app import runtime_of
from mech_queue.services import deliveries, subscriptions
from tests.api.caller import app, new_application

__all__ = ["app"]  # the fixture

SEED = {
    "name": "High Priority Email Monitor",
    "endpoint": "https://myapp.com/webhooks/priority-emails",
    "filters": {"queues": ["email"], "metadata": {"priority": "high", "type": "transactional"}},
    "events": ["created", "completed", "failed"],
}


@pytest.fixture
def shop(app):
    return new_application(app)


def created(shop, **changes):
    answer = shop.call("POST", "/api/subscriptions", {**SEED, **changes})
    assert answer.status == 201, answer.body
    return answer.body["subscription"]


def test_the_seeds_subscription(shop):
    answer = shop.call("POST", "/api/subscriptions", SEED)

    made = answer.body["subscription"]
    assert answer.status == 201 and answer.body["success"] is True
    assert answer.headers["Location"] == f"/api/subscriptions/{made['id']}"
    assert {name: made[name] for name in SEED} == SEED
    assert made["active"] is True and made["secret"].startswith("whsec_")


def test_get_shows_everything_but_secrets(shop):
    made = created(
        shop,
        description="d",
        method="PUT",
        headers={"X-Token": "canary-1", "Authorization": "Bearer canary-2"},
        retryConfig={"maxAttempts": 5, "backoffMs": 100},
    )
    answer = shop.call("GET", f"/api/subscriptions/{made['id']}")

    one = answer.body["subscription"]
    assert answer.status == 200 and "secret" not in one
    assert one["headers"] == {"X-Token": "********", "Authorization": "********"}
    assert (one["description"], one["method"]) == ("d", "PUT")
    assert one["retryConfig"] == {"maxAttempts": 5, "backoffMs": 100}
    assert (one["triggerCount"], one["lastTriggeredAt"], one["disabledReason"]) == (0, None, None)
    assert one["health"] == {
        "status": "unknown",
        "consecutiveFailures": 0,
        "failingSince": None,
        "disablesAt": None,
        "lastSuccessAt": None,
    }
    assert datetime.fromisoformat(one["createdAt"]) == datetime.fromisoformat(one["updatedAt"])
    listed = shop.call("GET", "/api/subscriptions")
    for shown in (answer, listed):
        assert "canary" not in shown.raw.decode() and made["secret"] not in shown.raw.decode()


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_only_the_fields_sent_change(shop, method):
    made = created(shop, description="d")
    path = f"/api/subscriptions/{made['id']}"
    changed = shop.call(method, path, {"events": ["*"], "active": False}).body["subscription"]
    assert changed["events"] == ["*"] and changed["active"] is False
    assert {name: changed[name] for name in ("name", "endpoint", "filters", "description")} == {
        name: made[name] for name in ("name", "endpoint", "filters", "description")
    }
    assert shop.call("GET", path).body["subscription"] == changed
    assert shop.call(method, path, {"evnts": []}).status == 422
    assert shop.call(method, path, {"endpoint": None}).status == 422


def test_what_get_showed_can_be_put_back(shop):
    made = created(shop, headers={"X-Token": "canary"})
    path = f"/api/subscriptions/{made['id']}"
    shown = shop.call("GET", path).body["subscription"]

    put = shop.call("PUT", path, {**shown, "name": "renamed"})

    own, store = shop.call("GET", "/api/application").body["application"]["id"], runtime_of(shop.app).store
    assert put.status == 200 and put.body["subscription"]["name"] == "renamed"
    assert subscriptions.receiver(store, subscriptions.get(store, own, made["id"])).headers == {"X-Token": "canary"}


def test_the_list_filters_and_pages(shop):
    made = [created(shop, name=str(n), active=n != 1, filters={"queues": ["a"] if n < 3 else ["b"]}) for n in range(5)]

    def listed(query):
        answer = shop.call("GET", f"/api/subscriptions?{query}")
        assert answer.status == 200 and answer.body["count"] == len(answer.body["subscriptions"])
        return answer.body

    def names(query):
        return sorted(one["name"] for one in listed(query)["subscriptions"])

    assert names("") == ["0", "1", "2", "3", "4"]
    assert names("active=false") == ["1"] and names("active=true") == ["0", "2", "3", "4"]
    assert names("queue=b") == ["3", "4"] and names("queue=c") == [] and names("queue=a&active=true") == ["0", "2"]
    first = listed("limit=3")
    second = listed(f"limit=3&cursor={first['nextCursor']}")
    ids = [one["id"] for one in first["subscriptions"] + second["subscriptions"]]
    assert sorted(ids) == sorted(one["id"] for one in made) and second["nextCursor"] is None
    for query in ("active=yes", "limit=0", "cursor=x", "queue=%20", "quue=a", "active=true&active=false"):
        refused = shop.call("GET", f"/api/subscriptions?{query}")
        assert (refused.status, refused.body["code"]) == (422, "INVALID"), query


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"endpoint": "http://user:canary@example.com/"}, "endpoint"),
        ({"endpoint": "http://127.0.0.1:9000/"}, "endpoint"),
        ({"endpoint": "http://[::7f00:1]/"}, "endpoint"),
        ({"endpoint": "http://example.com\\@127.0.0.1/"}, "endpoint"),
        ({"endpoint": "http://2130706433/"}, "endpoint"),
        ({"events": ["finished"]}, "events"),
        ({"filters": {"metadata": {"n": {"$gt": 3}}}}, "filters.metadata"),
        ({"headers": {"webhook-id": "canary"}}, "headers.webhook-id"),
        ({"headers": {"X-A": "canary\n"}}, "headers.X-A"),
        ({"retryConfig": {"maxAttempts": 0}}, "retryConfig.maxAttempts"),
        ({"url": "https://example.com"}, "url"),
    ],
)
def test_wrong_bodies_name_the_field_and_never_repeat_a_secret(shop, change, field):
    refused = shop.call("POST", "/api/subscriptions", {**SEED, **change})
    assert (refused.status, refused.body["code"]) == (422, "INVALID")
    assert list(refused.body["details"]) == [field]
    assert "canary" not in refused.raw.decode()
    assert shop.call("GET", "/api/subscriptions").body["count"] == 0


def test_required_fields_are_named_all_at_once(shop):
    refused = shop.call("POST", "/api/subscriptions", {})
    assert sorted(refused.body["details"]) == ["endpoint", "events", "name"]


def test_delete_and_after(shop):
    made = created(shop)
    path = f"/api/subscriptions/{made['id']}"
    assert shop.call("DELETE", path).status == 200
    for method, below in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/rotate-secret"), ("POST", "/test")):
        body: dict[str, object] | None = {} if method in ("PUT", "POST") else None
        assert shop.call(method, path + below, body).status == 404, method
    assert shop.call("GET", "/api/subscriptions").body["subscriptions"] == []


def test_a_test_is_sent_whatever_the_filters_and_the_switch(shop):
    made = created(shop, active=False, filters={"queues": ["never"]})
    path = f"/api/subscriptions/{made['id']}/test"
    sent = shop.call("POST", path)
    assert sent.status == 200 and sent.body["deliveryId"]
    own = shop.call("GET", "/api/application").body["application"]["id"]
    delivery = deliveries.get(runtime_of(shop.app).store, own, sent.body["deliveryId"])
    assert (delivery.event, delivery.subscription_id) == ("test", made["id"])
    assert shop.call("GET", f"/api/subscriptions/{made['id']}").body["subscription"]["triggerCount"] == 1
    assert shop.call("POST", path, {"event": "failed"}).status == 422


def test_replay_needs_a_time_and_an_active_subscription(shop):
    made = created(shop)
    path = f"/api/subscriptions/{made['id']}"
    replayed = shop.call("POST", f"{path}/replay", {"since": "2020-01-01T00:00:00Z"})
    assert replayed.status == 200 and (replayed.body["count"], replayed.body["complete"]) == (0, True)
    wrong: list[dict[str, object]] = [{}, {"since": "yesterday"}, {"since": None}, {"from": "2020-01-01T00:00:00Z"}]
    for body in wrong:
        refused = shop.call("POST", f"{path}/replay", body)
        assert (refused.status, refused.body["code"]) == (422, "INVALID"), body
    shop.call("PATCH", path, {"active": False})
    assert shop.call("POST", f"{path}/replay", {"since": "2020-01-01T00:00:00Z"}).status == 409


def test_a_secret_rotates(shop):
    made = created(shop)
    path = f"/api/subscriptions/{made['id']}/rotate-secret"
    rotated = shop.call("POST", path, {"overlapSeconds": 0})
    assert rotated.status == 200 and rotated.body["overlapSeconds"] == 0
    assert rotated.body["secret"].startswith("whsec_") and rotated.body["secret"] != made["secret"]
    assert shop.call("POST", path, {"overlapSeconds": "1"}).status == 422


def test_big_integers_and_key_order_of_filters_come_back(shop):
    metadata = {"z": 10**25, "a": 1.5, "m": "😀", "deep": {"b": [1, None]}}
    made = created(shop, filters={"metadata": metadata})
    raw = shop.call("GET", f"/api/subscriptions/{made['id']}").raw.decode()
    assert json.dumps(metadata, ensure_ascii=False, separators=(",", ":")) in raw


def test_the_scope_webhooks_is_needed(app):
    reader = new_application(app, scopes=["jobs:read", "jobs:submit", "jobs:work", "admin"])
    assert reader.call("GET", "/api/subscriptions").status == 403
    assert reader.call("POST", "/api/subscriptions", SEED).status == 403
