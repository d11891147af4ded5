"""One application never learns of another's things: every route, walked with the other's key and ids.

The walk reads the url map, so a route that comes new is walked too, or fails here until it is named.
What another application owns must look exactly like what does not exist: same status, same bytes
(but for requestId and the id that was asked for).
"""

import re
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from werkzeug.routing import Rule

from api.guards import SCOPE
from mech_queue.model.application import MASTER
from tests.api.caller import Answer, Caller, app, master, new_application

__all__ = ["app"]  # the fixture

UNKNOWN_ID = "0190a8c0-0000-7000-8000-00000000dead"
CANARY = "canary-of-the-owner"
QUEUE = "owners-queue"
SOON = {"since": "2020-01-01T00:00:00Z"}

# A body with which a request gets as far as looking for the thing. Routes without body are absent.
BODIES: dict[tuple[str, str], Any] = {
    ("PATCH", "/api/jobs/<job_id>"): {"priority": 5},
    ("PUT", "/api/jobs/<job_id>"): {"status": "completed", "result": 1},
    ("POST", "/api/jobs/<job_id>/heartbeat"): {},
    ("POST", "/api/jobs/<job_id>/logs"): {"lines": ["x"]},
    ("POST", "/api/jobs/<job_id>/webhook"): {"webhooks": {"completed": "https://example.com/"}},
    ("PATCH", "/api/queues/<queue>"): {"concurrency": 3},
    ("POST", "/api/queues/<queue>/claim"): {"limit": 10},
    ("PUT", "/api/subscriptions/<subscription_id>"): {"name": "stolen"},
    ("PATCH", "/api/subscriptions/<subscription_id>"): {"name": "stolen"},
    ("POST", "/api/subscriptions/<subscription_id>/replay"): SOON,
    ("PUT", "/api/schedules/<schedule_id>"): {"name": "stolen"},
    ("PATCH", "/api/schedules/<schedule_id>"): {"name": "stolen"},
    ("PATCH", "/api/applications/<target>"): {"name": "stolen"},
}
# Routes with a queue's name in the path: names belong to each application, so these work on an own queue.
OWN_NAMESPACE = {
    ("PATCH", "/api/queues/<queue>"),
    ("POST", "/api/queues/<queue>/claim"),
}
# Routes that take no id: lists are walked; the others are tried one by one below.
WITHOUT_ID = {
    ("POST", "/api/jobs"),
    ("POST", "/api/jobs/batch"),
    ("POST", "/api/jobs/actions"),
    ("POST", "/api/jobs/updates"),
    ("POST", "/api/queues/claim"),
    ("POST", "/api/schedules"),
    ("POST", "/api/subscriptions"),
    ("POST", "/api/application/keys"),
    ("POST", "/api/application/rotate-webhook-secret"),
    ("GET", "/api/events"),
}
ANY_OF_OWN = {("GET", "/api/application"), ("GET", "/api/application/keys")}
PUBLIC = {"/", "/docs", "/docs/<name>", "/openapi.json", "/health", "/health/live", "/health/ready"}


@dataclass
class Owner:
    """An application with one of each thing."""

    caller: Caller
    ids: dict[str, str]  # name of a path's variable -> the owner's id

    def snapshot(self) -> list[bytes]:
        """All that the owner can see of its things, to prove that nothing changed."""
        paths = [
            f"/api/jobs/{self.ids['job_id']}",
            f"/api/jobs/{self.ids['job_id']}/logs",
            f"/api/queues/{QUEUE}",
            f"/api/subscriptions/{self.ids['subscription_id']}",
            f"/api/schedules/{self.ids['schedule_id']}",
            f"/api/deliveries/{self.ids['delivery_id']}",
            "/api/application/keys",
            "/api/jobs",
        ]
        answers = [self.caller.call("GET", path) for path in paths]
        assert {answer.status for answer in answers} == {200}
        return [answer.raw for answer in answers]


@pytest.fixture(scope="module")
def owner(app: Flask) -> Owner:
    caller = new_application(app, CANARY, scopes=["jobs:submit", "jobs:work", "jobs:read", "webhooks", "admin"])

    def make(path: str, body: Any) -> dict[str, Any]:
        answer = caller.call("POST", path, body)
        assert 200 <= answer.status < 300, (path, answer.body)
        return dict(answer.body)

    job = {"queue": QUEUE, "data": CANARY, "metadata": {"tag": CANARY}}
    hook = {"name": CANARY, "endpoint": "https://example.com/", "events": ["*"]}
    job_id = make("/api/jobs", job)["jobId"]
    make(f"/api/jobs/{job_id}/logs", {"lines": [CANARY]})
    subscription_id = make("/api/subscriptions", hook)["subscription"]["id"]
    schedule = {"name": CANARY, "every": 86_400_000, "job": {"queue": QUEUE, "data": CANARY}}
    caller.call("POST", f"/api/queues/{QUEUE}/claim", {"workerId": CANARY})
    # a bulk action that finds nothing: its id counts, not its work
    actions = {"action": "retry", "filter": {"queue": QUEUE, "status": "failed"}}
    ids = {
        "job_id": make("/api/jobs", job)["jobId"],
        "subscription_id": subscription_id,
        "delivery_id": make(f"/api/subscriptions/{subscription_id}/test", None)["deliveryId"],
        "schedule_id": make("/api/schedules", schedule)["schedule"]["id"],
        "operation_id": make("/api/jobs/actions", actions)["operationId"],
        "key_id": caller.call("GET", "/api/application/keys").body["data"][0]["id"],
        "target": caller.call("GET", "/api/application").body["application"]["id"],
        "queue": QUEUE,
    }
    make(f"/api/jobs/{ids['job_id']}/logs", {"lines": [CANARY]})
    return Owner(caller, ids)


def routes(app: Flask) -> list[tuple[str, Rule]]:
    """Every (method, rule) below /api; fails on an address that is neither there nor known to be public."""
    found = []
    for rule in app.url_map.iter_rules():
        if str(rule) not in PUBLIC:
            assert str(rule).startswith("/api"), f"{rule} is outside /api and not known to be public"
            found += [(method, rule) for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})]
    return found


def stranger(app: Flask) -> Caller:
    """Somebody else, who may do everything in an application of its own."""
    return new_application(app, "stranger", scopes=["jobs:submit", "jobs:work", "jobs:read", "webhooks", "admin"])


def without_ids(answer: Answer, asked: str) -> bytes:
    """An answer's bytes without the request's id and the id that was asked for."""
    return re.sub(rb'"requestId":"[^"]*"', b'"requestId":""', answer.raw).replace(asked.encode(), b"ID")


def path_of(rule: Rule, ids: dict[str, str]) -> str:
    """The address of a rule with its variables filled in."""
    return re.sub(r"<(\w+)>", lambda found: ids[found[1]], str(rule))


def view_of(app: Flask, method: str, rule: Rule) -> Any:
    """The function that answers a method of a rule."""
    view = app.view_functions[rule.endpoint]
    return getattr(getattr(view, "view_class", None), method.lower(), view)


def test_anothers_things_look_like_nothing_on_every_route(app, owner):
    """Walks all routes with a variable; whatever the method, nothing of the owner's changes."""
    before, walked = owner.snapshot(), 0
    for method, rule in routes(app):
        if not rule.arguments:
            continue
        unknown_names = rule.arguments - owner.ids.keys()
        assert not unknown_names, f"{rule}: say in this test what {unknown_names} of the owner is"
        where, body = (method, str(rule)), BODIES.get((method, str(rule)))
        body = {} if body is None and method in ("POST", "PUT", "PATCH") else body
        answers = []
        for asked in ({name: owner.ids[name] for name in rule.arguments}, dict.fromkeys(rule.arguments, UNKNOWN_ID)):
            path = path_of(rule, asked)
            answer = stranger(app).call(method, path, body)
            text = answer.raw
            for value in asked.values():
                text = without_ids(Answer(answer.status, None, None, text), value)
            answers.append((answer.status, text))
        own, unknown = answers
        master_only = getattr(view_of(app, method, rule), SCOPE) == MASTER
        wanted = 403 if master_only else 200 if where in OWN_NAMESPACE else 404
        assert own[0] == wanted, f"{method} {rule} answered {own}"
        assert own == unknown, f"{method} {rule} tells the owner's from what does not exist"
        assert CANARY.encode() not in own[1]
        walked += 1
    assert owner.snapshot() == before
    assert walked >= 30


def test_anothers_things_are_in_no_list_and_no_count(app, owner):
    walked = 0
    for method, rule in routes(app):
        if method != "GET" or rule.arguments or (method, str(rule)) in WITHOUT_ID | ANY_OF_OWN:
            continue
        answer = stranger(app).call(method, str(rule))
        if getattr(view_of(app, method, rule), SCOPE) == MASTER:
            assert answer.status == 403
            continue
        lists = {name: value for name, value in answer.body.items() if isinstance(value, list)}
        assert answer.status == 200 and answer.body["count"] == 0 and list(lists.values()) == [[]], str(rule)
        assert CANARY.encode() not in answer.raw
        walked += 1
    assert walked >= 4


def test_filters_by_anothers_ids_find_nothing(app, owner):
    """The owner finds something by each of these, so it is no misspelt filter that finds nothing."""
    other = stranger(app)
    for path in (
        f"/api/jobs?queue={QUEUE}",
        f"/api/jobs?metadata.tag={CANARY}",
        f"/api/subscriptions?queue={QUEUE}",
        f"/api/deliveries?subscriptionId={owner.ids['subscription_id']}",
    ):
        mine, theirs = owner.caller.call("GET", path), other.call("GET", path)
        assert mine.status == 200 and mine.body["count"] > 0, path
        assert (theirs.status, theirs.body["count"]) == (200, 0), path


def test_every_route_without_an_id_is_known_here(app):
    found = {(method, str(rule)) for method, rule in routes(app) if not rule.arguments and method != "GET"}
    found = {
        (method, path)
        for method, path in found
        if getattr(view_of(app, method, next(rule for rule in app.url_map.iter_rules() if str(rule) == path)), SCOPE)
        != MASTER
    }
    assert found == {(method, path) for method, path in WITHOUT_ID if method != "GET"}


def test_ids_in_bodies_reach_nobody_elses_things(app, owner):
    other, before = stranger(app), owner.snapshot()
    theirs = owner.ids["job_id"]

    for job_id in (theirs, UNKNOWN_ID):
        depends = {"queue": "q", "data": 1, "options": {"dependsOn": [job_id]}}
        single = other.call("POST", "/api/jobs", depends)
        assert single.status == 422 and "does not exist" in single.body["error"]
        batch = other.call("POST", "/api/jobs/batch", {"jobs": [depends]}).body
        assert (batch["accepted"], batch["results"][0]["code"]) == (0, "INVALID")
        updates = {"updates": [{"jobId": job_id, "status": "completed"}]}
        (result,) = other.call("POST", "/api/jobs/updates", updates).body["results"]
        assert (result["success"], result["code"]) == (False, "NOT_FOUND")
    for key_id in (owner.ids["key_id"], "key-unknown"):
        assert other.call("POST", "/api/application/keys", {"replaces": key_id}).status == 404
    for action in ("cancel", "delete", "retry", "promote"):
        found = {"action": action, "filter": {"queue": QUEUE}, "dryRun": True}
        assert other.call("POST", "/api/jobs/actions", found).body["count"] == 0
    claimed = other.call("POST", "/api/queues/claim", {"queues": [QUEUE], "limit": 10})
    assert claimed.body["jobs"] == []
    assert other.call("POST", "/api/application/rotate-webhook-secret", {}).status == 200

    assert owner.snapshot() == before


def test_a_dedupe_key_an_idempotency_key_and_a_nonce_are_each_applications_own(app, owner):
    other, job = stranger(app), {"queue": QUEUE, "data": 1, "options": {"dedupeKey": "same"}}
    first = owner.caller.call("POST", "/api/jobs", job, **{"Idempotency-Key": "same"})
    second = other.call("POST", "/api/jobs", job, **{"Idempotency-Key": "same"})
    assert (first.status, second.status) == (201, 201) and first.body["jobId"] != second.body["jobId"]
    claims = [
        caller.call("POST", f"/api/queues/{QUEUE}/claim", {"nonce": "same", "workerId": "w"}).body["jobs"]
        for caller in (owner.caller, other)
    ]
    assert claims[0][0]["id"] != claims[1][0]["id"] == second.body["jobId"]


def test_the_event_stream_has_own_events_only(app, owner):
    other = stranger(app)
    begun = app.test_client().get("/api/events", headers={"x-api-key": other.key, "Last-Event-ID": "0-1"})
    lines = iter(begun.response)
    assert next(lines)
    owner.caller.call("POST", "/api/jobs", {"queue": QUEUE, "data": CANARY})
    mine = other.call("POST", "/api/jobs", {"queue": QUEUE, "data": 1}).body["jobId"]
    frame = next(line for line in lines if b"jobId" in line)  # the first is "gap": this id is long gone
    begun.close()
    assert mine.encode() in frame and CANARY.encode() not in frame


def test_a_lease_token_of_another_application_opens_nothing(app, owner):
    job = owner.caller.call("POST", "/api/jobs", {"queue": "leased", "data": 1}).body["jobId"]
    token = owner.caller.call("PUT", f"/api/jobs/{job}", {"status": "started"}).body["leaseToken"]
    write = {"status": "completed", "leaseToken": token}
    assert stranger(app).call("PUT", f"/api/jobs/{job}", write).status == 404
    assert owner.caller.call("GET", f"/api/jobs/{job}").body["job"]["status"] == "active"


def test_the_master_key_acts_for_one_application_at_a_time(app, owner):
    """Without X-Application-Id it acts for the built-in one, which owns none of this."""
    for method, rule in routes(app):
        if method == "GET" and rule.arguments and str(rule).startswith(("/api/jobs/", "/api/subscriptions/")):
            path = path_of(rule, owner.ids)
            assert master(app).call(method, path).status == 404, path
    assert master(app).call("GET", "/api/jobs").body["jobs"] == []


def test_every_route_below_api_demands_a_key(app):
    """And says what it demands, for the documentation and for this walk."""
    for method, rule in routes(app):
        assert hasattr(view_of(app, method, rule), SCOPE), f"{method} {rule} has no guard"
        path = re.sub(r"<(\w+)>", UNKNOWN_ID, str(rule))
        answer = Caller(app, None).call(method, path, {} if method in ("POST", "PUT", "PATCH") else None)
        assert answer.status == 401, f"{method} {rule}"
