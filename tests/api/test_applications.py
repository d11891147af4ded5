"""/api/applications and the keys below it."""

import pytest

from tests.api.caller import MASTER_KEY, Caller, app, master, new_application

__all__ = ["app"]  # the fixture

SEED = {
    "name": "My Application",
    "settings": {"maxConcurrentJobs": 100, "metadata": {"environment": "production"}},
}


def test_the_seeds_application(app):
    made = master(app).call("POST", "/api/applications", SEED)

    data = made.body["data"]
    assert made.status == 201 and made.body["success"] is True
    assert made.headers["Location"] == f"/api/applications/{data['id']}"
    assert data["name"] == "My Application" and data["apiKey"].startswith("sk_")
    assert data["webhookSecret"].startswith("whsec_")
    assert data["settings"]["maxConcurrentJobs"] == 100
    assert data["settings"]["metadata"] == {"environment": "production"}
    assert data["settings"]["allowedQueues"] == ["*"]
    job = Caller(app, data["apiKey"]).call("POST", "/api/jobs", {"queue": "email", "data": 1})
    assert job.status == 201
    bearer = Caller(app, None, {"Authorization": f"Bearer {data['apiKey']}"})
    assert bearer.call("GET", "/api/application").body["application"]["id"] == data["id"]


def test_neither_list_nor_get_shows_a_key_or_a_secret(app):
    made = master(app).call("POST", "/api/applications", SEED).body["data"]
    listed = master(app).call("GET", "/api/applications")
    one = master(app).call("GET", f"/api/applications/{made['id']}")

    assert listed.body["data"][-1]["id"] == made["id"]  # the newest
    assert listed.body["count"] == len(listed.body["data"]) and listed.body["nextCursor"] is None
    assert one.body["data"]["usage"]["waiting"] == 0
    (key,) = one.body["data"]["keys"]
    assert key["id"] == made["keyId"] and "admin" not in key["scopes"] and key["expiresAt"] is None
    for answer in (listed, one):
        assert made["apiKey"] not in answer.raw.decode() and made["webhookSecret"] not in answer.raw.decode()


def test_the_list_pages(app):
    for n in range(5):
        new_application(app, f"page {n}")
    names, path = [], "/api/applications?limit=2"
    while path:
        page = master(app).call("GET", path).body
        names += [one["name"] for one in page["data"]]
        path = page["nextCursor"] and f"/api/applications?limit=2&cursor={page['nextCursor']}"
    assert sorted(names[-5:]) == [f"page {n}" for n in range(5)]
    assert len(names) == master(app).call("GET", "/api/applications?limit=1000").body["count"]
    for query in ("limit=0", "limit=1001", "limit=x", "cursor=x", "lmit=1"):
        refused = master(app).call("GET", f"/api/applications?{query}")
        assert (refused.status, refused.body["code"]) == (422, "INVALID"), query


def test_patch_merges_settings(app):
    made = master(app).call("POST", "/api/applications", SEED).body["data"]
    path = f"/api/applications/{made['id']}"
    patch = {"settings": {"maxWaiting": 5, "metadata": {"team": "a"}}}
    settings = master(app).call("PATCH", path, patch).body["data"]["settings"]
    assert (settings["maxConcurrentJobs"], settings["maxWaiting"]) == (100, 5)
    assert settings["metadata"] == {"environment": "production", "team": "a"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": 5}, "name"),
        ({"name": "a", "setings": {}}, "setings"),
        ({"name": "a", "settings": {"maxConcurrentJobs": -1}}, "settings.maxConcurrentJobs"),
        ({"name": "a", "settings": {"nope": 1}}, "settings.nope"),
    ],
)
def test_wrong_bodies_name_the_field(app, body, field):
    before = master(app).call("GET", "/api/applications").body["count"]
    refused = master(app).call("POST", "/api/applications", body)
    assert (refused.status, refused.body["code"]) == (422, "INVALID")
    assert list(refused.body["details"]) == [field]
    assert master(app).call("GET", "/api/applications").body["count"] == before


def test_a_setting_outside_of_settings_is_told_its_place(app):
    refused = master(app).call("POST", "/api/applications", {"name": "a", "maxWaiting": 5})
    assert refused.body["error"].startswith("maxWaiting is not a known name here, but settings.maxWaiting is; ")


def test_only_the_master_key_opens_applications(app):
    shop = new_application(app, scopes=["jobs:submit", "jobs:work", "jobs:read", "webhooks", "admin"])
    own = shop.call("GET", "/api/application").body["application"]["id"]
    for method, path in (
        ("GET", "/api/applications"),
        ("POST", "/api/applications"),
        ("GET", f"/api/applications/{own}"),
        ("PATCH", f"/api/applications/{own}"),
        ("DELETE", f"/api/applications/{own}"),
        ("GET", f"/api/applications/{own}/keys"),
        ("POST", f"/api/applications/{own}/keys"),
        ("DELETE", f"/api/applications/{own}/keys/key-1"),
        ("POST", f"/api/applications/{own}/rotate-webhook-secret"),
    ):
        body: dict[str, object] | None = {} if method in ("POST", "PATCH") else None
        assert shop.call(method, path, body).status == 403, path
        assert Caller(app, "sk_wrong").call(method, path, body).status == 401, path
        assert Caller(app, None).call(method, path, body).status == 401, path


def test_the_master_key_acts_for_one_application(app):
    shop = new_application(app)
    own = shop.call("GET", "/api/application").body["application"]["id"]
    acting = Caller(app, MASTER_KEY, {"X-Application-Id": own})
    job_id = acting.call("POST", "/api/jobs", {"queue": "email", "data": 1}).body["jobId"]

    assert shop.call("GET", f"/api/jobs/{job_id}").status == 200
    assert master(app).call("GET", f"/api/jobs/{job_id}").status == 404
    assert master(app).call("GET", "/api/application").body["application"]["id"] == "master"
    unknown = Caller(app, MASTER_KEY, {"X-Application-Id": "app-unknown"})
    assert unknown.call("GET", "/api/jobs").status == 404
    assert shop.call("GET", "/api/jobs", **{"X-Application-Id": own}).status == 403


def test_keys_are_added_listed_replaced_and_revoked(app):
    made = master(app).call("POST", "/api/applications", SEED).body["data"]
    path = f"/api/applications/{made['id']}/keys"
    reader = master(app).call("POST", path, {"name": "reader", "scopes": ["jobs:read"], "expiresInSeconds": 3600})
    assert reader.status == 201 and reader.body["data"]["scopes"] == ["jobs:read"]
    assert reader.body["data"]["expiresAt"].endswith("Z")
    new = master(app).call("POST", path, {"replaces": made["keyId"], "overlapSeconds": 60}).body["data"]

    listed = master(app).call("GET", path)
    assert listed.body["data"][0]["id"] == made["keyId"] and listed.body["count"] == 3
    assert listed.body["data"][0]["expiresAt"] is not None
    assert new["apiKey"] not in listed.raw.decode()

    limited = Caller(app, reader.body["data"]["apiKey"])
    assert limited.call("GET", "/api/jobs").status == 200
    refused = limited.call("POST", "/api/jobs", {"queue": "email", "data": 1})
    assert (refused.status, refused.body["code"]) == (403, "FORBIDDEN")

    assert master(app).call("DELETE", f"{path}/{reader.body['data']['id']}").status == 200
    assert limited.call("GET", "/api/jobs").status == 401
    assert master(app).call("DELETE", f"{path}/{reader.body['data']['id']}").status == 404
    wrong: list[dict[str, object]] = [
        {"scopes": ["jobs:everything"]},
        {"scopes": []},
        {"overlapSeconds": -1},
        {"scope": ["admin"]},
    ]
    for body in wrong:
        assert master(app).call("POST", path, body).status == 422, body
    assert master(app).call("POST", path, {"replaces": "key-unknown"}).status == 404


def test_an_admin_key_manages_its_own_keys(app):
    plain, admin = new_application(app), new_application(app, scopes=["admin"])
    assert plain.call("GET", "/api/application/keys").status == 403
    new = admin.call("POST", "/api/application/keys", {"scopes": ["jobs:read"]}).body["data"]
    assert Caller(app, new["apiKey"]).call("GET", "/api/jobs").status == 200
    assert admin.call("GET", "/api/application/keys").body["count"] == 3
    assert admin.call("DELETE", f"/api/application/keys/{new['id']}").status == 200
    assert Caller(app, new["apiKey"]).call("GET", "/api/jobs").status == 401


def test_the_webhook_secret_rotates(app):
    made = master(app).call("POST", "/api/applications", SEED).body["data"]
    path = f"/api/applications/{made['id']}/rotate-webhook-secret"
    rotated = master(app).call("POST", path)
    assert rotated.status == 200 and rotated.body["data"]["overlapSeconds"] == 86_400
    assert rotated.body["data"]["webhookSecret"] != made["webhookSecret"]
    assert master(app).call("POST", path, {"overlapSeconds": 604_801}).status == 422


def test_a_deleted_application_answers_202_and_its_keys_401(app):
    made = master(app).call("POST", "/api/applications", SEED).body["data"]
    shop, path = Caller(app, made["apiKey"]), f"/api/applications/{made['id']}"
    assert shop.call("GET", "/api/jobs").status == 200

    assert master(app).call("DELETE", path).status == 202

    assert shop.call("GET", "/api/jobs").status == 401
    assert master(app).call("GET", path).status == 404
    assert master(app).call("DELETE", path).status == 404
    assert master(app).call("DELETE", "/api/applications/master").status == 409


def test_settings_are_enforced(app):
    shop = new_application(app, maxConcurrentJobs=1, maxWaiting=2, allowedQueues=["email"])
    submit = {"queue": "email", "data": 1}
    ids = [shop.call("POST", "/api/jobs", submit).body["jobId"] for _ in range(2)]
    full = shop.call("POST", "/api/jobs", submit)
    other = shop.call("POST", "/api/jobs", {**submit, "queue": "sms"})
    assert (full.status, full.body["code"]) == (429, "QUEUE_FULL") and full.headers["Retry-After"]
    assert (other.status, other.body["code"]) == (403, "QUEUE_NOT_ALLOWED")
    assert shop.call("PUT", f"/api/jobs/{ids[0]}", {"status": "started"}).status == 200
    busy = shop.call("PUT", f"/api/jobs/{ids[1]}", {"status": "started"})
    assert (busy.status, busy.body["code"]) == (409, "LIMIT_REACHED")


def test_an_applications_own_rate_limit_holds(app):
    shop = new_application(app, rateLimit={"max": 3, "perMs": 86_400_000})
    statuses = [shop.call("GET", "/api/jobs").status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert new_application(app).call("GET", "/api/jobs").status == 200


@pytest.mark.parametrize("target", ["app-x", "APP", "a:b", "{s00}", "%00", "app-%F0%9F%98%80", "*", "~", "x" * 300])
def test_odd_ids_are_just_unknown(app, target):
    path = f"/api/applications/{target}"
    answers = [
        master(app).call("GET", path),
        master(app).call("PATCH", path, {"name": "x"}),
        master(app).call("DELETE", path),
        master(app).call("GET", f"{path}/keys"),
        master(app).call("POST", f"{path}/keys", {}),
        master(app).call("POST", f"{path}/rotate-webhook-secret", {}),
        master(app).call("DELETE", f"{path}/keys/key-1"),
    ]
    assert {answer.status for answer in answers} == {404}
    assert {answer.body["error"] for answer in answers} == {"There is no such application."}
    assert {answer.body["code"] for answer in answers} == {"NOT_FOUND"}
