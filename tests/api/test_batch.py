"""POST /api/jobs/batch and bulk actions."""

import pytest

from mech_queue.services import maintenance
from tests.api.conftest import Api, World
from tests.support import wait_until


def test_each_item_stands_for_itself(api: Api, world: World) -> None:
    jobs = [{"queue": "q", "data": 1}, {"queue": "a b", "data": 1}, 7, {"queue": "q"}, {"queue": "q", "data": None}]
    answer = api.post("/api/jobs/batch", {"jobs": jobs})
    assert answer.status_code == 200
    results = answer.json["results"]
    assert [one["success"] for one in results] == [True, False, False, False, True]
    assert (answer.json["accepted"], answer.json["rejected"]) == (2, 3)
    assert [one.get("code") for one in results] == [None, "INVALID", "INVALID", "INVALID", None]
    assert results[3]["details"] == {"data": ["is required (any JSON value, also null)"]}
    assert api.job(results[4]["jobId"])["data"] is None


def test_texts_of_items_stay_as_sent(api: Api) -> None:
    body = b'{"jobs":[ {"queue":"q","data": {"b":1, "a":99999999999999999999} } ,{"queue":"q","data":[]}]}'
    job_id = api.post("/api/jobs/batch", body).json["results"][0]["jobId"]
    assert b'"data":{"b":1, "a":99999999999999999999},' in api.get(f"/api/jobs/{job_id}").data


def test_a_thousand_jobs_are_one_request(api: Api) -> None:
    answer = api.post("/api/jobs/batch", {"jobs": [{"queue": "q", "data": n} for n in range(1000)]})
    assert answer.json["accepted"] == 1000
    assert api.get("/api/queues/q").json["queue"]["counts"]["waiting"] == 1000
    ids = [one["jobId"] for one in answer.json["results"]]
    assert [job["id"] for job in api.get("/api/jobs?order=asc&limit=1000").json["jobs"]] == ids


@pytest.mark.parametrize("body", [{}, {"jobs": None}, {"jobs": {}}, {"jobs": [1] * 1001}, {"jobs": [], "x": 1}, [1]])
def test_a_batch_needs_a_list(api: Api, body: object) -> None:
    assert api.post("/api/jobs/batch", body).status_code == 422


def test_queues_that_are_not_allowed_fail_alone(world: World) -> None:
    api = world.application(allowed_queues=("a",))
    answer = api.post("/api/jobs/batch", {"jobs": [{"queue": "a", "data": 1}, {"queue": "b", "data": 1}]})
    assert [one.get("code") for one in answer.json["results"]] == [None, "QUEUE_NOT_ALLOWED"]


def test_a_bulk_action_is_counted_first_and_then_done_in_the_background(api: Api, world: World) -> None:
    jobs = [api.submit("bulk", metadata={"n": n % 2}) for n in range(6)]
    body = {"action": "cancel", "filter": {"queue": "bulk", "metadata.n": 1}, "dryRun": True}
    dry = api.post("/api/jobs/actions", body)
    assert (dry.status_code, dry.json) == (200, {"success": True, "count": 3, "dryRun": True})

    answer = api.post("/api/jobs/actions", {**body, "dryRun": False})
    assert answer.status_code == 202
    path = f"/api/operations/{answer.json['operationId']}"
    assert api.get(path).json["operation"]["action"] == "cancel"

    def done() -> bool:
        maintenance.tick(world.store)
        return bool(api.get(path).json["operation"]["endedAt"])

    wait_until(done)
    assert api.get(path).json["operation"]["done"] == 3
    assert [api.job(job_id)["status"] for job_id in jobs] == ["waiting", "cancelled"] * 3


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "action"),
        ({"action": "cancel"}, "filter"),
        ({"action": "explode", "filter": {}}, "action"),
        ({"action": "cancel", "filter": {"limit": 1}}, "filter.limit"),
        ({"action": "cancel", "filter": {"queue": ["a"]}}, "filter.queue"),
        ({"action": "cancel", "filter": {"status": "x"}}, "filter.status"),
        ({"action": "cancel", "filter": {}, "dryRun": 1}, "dryRun"),
        ({"action": "cancel", "filter": {}, "force": True}, "force"),
    ],
)
def test_an_invalid_bulk_action_is_422(api: Api, body: object, path: str) -> None:
    answer = api.post("/api/jobs/actions", body)
    assert answer.status_code == 422
    assert path in answer.json["details"]


def test_an_unknown_operation_is_404(api: Api) -> None:
    for operation_id in ("x", "0192f0c1-7b7e-7000-8000-000000000001", "y" * 100):
        assert api.get(f"/api/operations/{operation_id}").json["code"] == "NOT_FOUND"


@pytest.mark.parametrize(("path", "name"), [("/api/jobs/batch", "jobs"), ("/api/jobs/updates", "updates")])
def test_a_bare_list_is_told_where_it_belongs(api: Api, path: str, name: str) -> None:
    answer = api.post(path, [{"queue": "q", "data": 1}])
    assert (answer.status_code, answer.json["error"]) == (
        422,
        f'the body must be a JSON object such as {{"{name}": […]}}.',
    )
