"""/api/schedules."""

import json

import pytest

from api.resources.schedules import EXAMPLE
from mech_queue.model.application import DEFAULT_SCOPES, Scope
from mech_queue.services import maintenance

EVERY_HOUR = {"name": "hourly", "every": 3_600_000, "job": {"queue": "report", "data": 1}}


def created(api, **changes):
    answer = api.post("/api/schedules", {**EVERY_HOUR, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json["schedule"]


def test_the_documented_example(api):
    answer = api.post("/api/schedules", EXAMPLE)
    made = answer.json["schedule"]
    assert answer.status_code == 201 and answer.headers["Location"] == f"/api/schedules/{made['id']}"
    assert {name: made[name] for name in EXAMPLE} == EXAMPLE
    assert (made["active"], made["catchUp"], made["runCount"], made["lastRunAt"]) == (True, "one", 0, None)
    assert made["nextRunAt"] > made["createdAt"]  # ISO times in UTC sort as text
    assert api.get(f"/api/schedules/{made['id']}").json == {"success": True, "schedule": made}


def test_the_job_comes_back_as_it_was_sent(api):
    job = '{"queue": "q", "data": {"z": 1.50, "a": 123456789012345678901234567890, "e": []}}'
    answer = api.post("/api/schedules", b'{"name": "exact", "every": 5000, "job": %s}' % job.encode())
    assert answer.status_code == 201 and job in answer.text


def test_lists_in_pages(api):
    ids = [created(api)["id"] for _ in range(3)]
    first = api.get("/api/schedules?limit=2").json
    rest = api.get(f"/api/schedules?limit=2&cursor={first['nextCursor']}").json
    assert [one["id"] for one in first["schedules"] + rest["schedules"]] == ids
    assert (first["count"], rest["count"], rest["nextCursor"]) == (2, 1, None)
    for bad in ("limit=0", "cursor=x", "active=true"):
        assert api.get(f"/api/schedules?{bad}").status_code == 422


def test_put_and_patch_change_the_fields_sent(api):
    made = created(api)
    path = f"/api/schedules/{made['id']}"
    changed = api.patch(path, {"cron": "@daily", "timezone": "Asia/Tokyo"}).json["schedule"]
    assert (changed["cron"], changed["every"], changed["timezone"]) == ("@daily", None, "Asia/Tokyo")
    assert changed["nextRunAt"].endswith("T15:00:00.000Z")  # midnight in Tokyo
    again = api.put(path, {**changed, "name": "renamed"})  # what GET gave can be sent back
    assert again.status_code == 200, again.text
    assert again.json["schedule"]["name"] == "renamed"
    assert again.json["schedule"]["nextRunAt"] == changed["nextRunAt"]
    assert api.patch(path, {"runCount": 3}).status_code == 422


def test_toggle_there_and_back(api):
    path = f"/api/schedules/{created(api)['id']}/toggle"
    off = api.patch(path).json["schedule"]
    assert (off["active"], off["nextRunAt"]) == (False, None)
    assert api.patch(path, {"active": False}).json["schedule"]["active"] is False
    assert api.patch(path).json["schedule"]["active"] is True
    assert api.patch(path, {"active": 1}).status_code == 422


def test_execute_runs_and_delete(world, api):
    made = created(api, overlap="skip")
    path = f"/api/schedules/{made['id']}"
    answer = api.post(f"{path}/execute")
    assert answer.status_code == 201 and answer.headers["Location"] == f"/api/jobs/{answer.json['jobId']}"
    assert api.job(answer.json["jobId"])["status"] == "waiting"
    runs = api.get(f"{path}/runs").json
    assert runs["count"] == 1
    run = runs["runs"][0]
    assert (run["jobId"], run["jobStatus"], run["outcome"]) == (answer.json["jobId"], "waiting", "submitted")
    assert run["manual"] is True
    assert api.delete(path).status_code == 200
    assert [api.get(path).status_code, api.get(f"{path}/runs").status_code, api.delete(path).status_code] == [404] * 3
    assert api.job(answer.json["jobId"])["status"] == "waiting"


def test_a_time_in_the_past_is_caught_up_by_the_scheduler(world, api):
    now_ms = world.store.now_ms()
    world.store.scripts.clock = lambda: now_ms - 10_000
    made = created(api, every=4_000, catchUp="all")
    world.store.scripts.clock = None
    while maintenance.tick(world.store):
        pass
    shown = api.get(f"/api/schedules/{made['id']}").json["schedule"]
    assert (shown["runCount"], shown["lastOutcome"]) == (2, "submitted")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cron": "61 * * * *", "every": None}, "cron"),
        ({"job": {"queue": "q", "data": 1, "options": {"dependsOn": ["x"]}}}, "job.options.dependsOn.0"),
        ({"job": 3}, "job"),
        ({"when": "now"}, "when"),
        ({"timezone": "Berlin"}, "timezone"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_kept(api, change, field):
    answer = api.post("/api/schedules", {**EVERY_HOUR, **change})
    assert answer.status_code == 422 and field in answer.json["details"], answer.text
    assert api.get("/api/schedules").json["count"] == 0


def test_an_interval_that_is_none_is_told_its_unit(api):
    answer = api.post("/api/schedules", {**EVERY_HOUR, "every": "5m"})
    assert answer.json["details"]["every"] == ["must be a number of ms from 1000 to 316224000000"]


def test_another_application_finds_nothing(api, other):
    path = f"/api/schedules/{created(api)['id']}"
    calls = [("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("PATCH", "/toggle"), ("POST", "/execute")]
    for method, rest in [*calls, ("GET", "/runs")]:
        answer = other.send(method, path + rest, {} if method in ("PUT", "PATCH") else None)
        nowhere = other.send(method, path[:-4] + "0000" + rest, {} if method in ("PUT", "PATCH") else None)
        assert answer.status_code == 404, (method, rest, answer.text)
        bodies = [{**json.loads(one.text), "requestId": ""} for one in (answer, nowhere)]
        assert bodies[0] == bodies[1]
    assert other.get("/api/schedules").json["schedules"] == []
    assert api.get(path).json["schedule"]["active"] is True


def test_scope_and_queues_are_enforced(world):
    reader = world.application(scopes=DEFAULT_SCOPES - {Scope.SUBMIT})
    assert reader.post("/api/schedules", EVERY_HOUR).status_code == 403
    assert reader.get("/api/schedules").status_code == 403
    assert world.anonymous().get("/api/schedules").status_code == 401
    narrow = world.application(allowed_queues=("email",))
    answer = narrow.post("/api/schedules", EVERY_HOUR)
    assert (answer.status_code, answer.json["code"]) == (403, "QUEUE_NOT_ALLOWED")
