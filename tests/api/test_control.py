"""What owners do with a job: cancel, retry, promote, delete, change, webhooks, explain."""

import pytest

from tests.api.conftest import Api, World

UNKNOWN = "0192f0c1-7b7e-7000-8000-000000000001"


def test_cancel_ends_a_job_at_once_in_any_state(api: Api) -> None:
    waiting, active, delayed = api.submit(), api.submit(), api.submit(options={"delay": 60_000})
    api.put(f"/api/jobs/{active}", {"status": "started"})
    for job_id in (waiting, active, delayed):
        answer = api.post(f"/api/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
        assert answer.json["message"] == f"Job {job_id} cancelled"
        assert api.job(job_id)["timestamps"]["cancelled"]


def test_an_ended_job_waits_again_after_retry(api: Api) -> None:
    job_id = api.submit()
    api.put(f"/api/jobs/{job_id}", {"status": "failed", "error": "x"})
    assert api.post(f"/api/jobs/{job_id}/retry").json["status"] == "waiting"
    assert api.post(f"/api/jobs/{job_id}/retry").status_code == 409


def test_promote_lets_a_delayed_job_wait_now(api: Api) -> None:
    job_id = api.submit(options={"delay": 60_000})
    assert api.post(f"/api/jobs/{job_id}/promote").json["status"] == "waiting"
    assert api.post(f"/api/jobs/{job_id}/promote").status_code == 409


def test_delete_removes_what_waits_or_ended_but_not_what_runs(api: Api) -> None:
    waiting, active = api.submit(), api.submit()
    api.put(f"/api/jobs/{active}", {"status": "started"})
    assert api.delete(f"/api/jobs/{waiting}").status_code == 200
    assert api.get(f"/api/jobs/{waiting}").status_code == 404
    refused = api.delete(f"/api/jobs/{active}")
    assert (refused.status_code, refused.json["code"]) == (409, "JOB_ACTIVE")


@pytest.mark.parametrize("action", ["cancel", "retry", "promote"])
def test_actions_of_unknown_jobs_are_404_and_take_no_fields(api: Api, action: str) -> None:
    assert api.post(f"/api/jobs/{UNKNOWN}/{action}").status_code == 404
    refused = api.post(f"/api/jobs/{UNKNOWN}/{action}", {"force": True})
    assert (refused.status_code, refused.json["error"]) == (422, "force is not a known name here; known are: none.")
    assert api.post(f"/api/jobs/{UNKNOWN}/{action}?force=1").status_code == 422


def test_change_sets_priority_time_and_metadata(api: Api) -> None:
    job_id = api.submit(metadata={"a": 1, "b": 2})
    answer = api.patch(f"/api/jobs/{job_id}", {"priority": 7, "metadata": {"a": None, "c": "x"}})
    assert answer.status_code == 200
    assert (answer.json["job"]["priority"], answer.json["job"]["metadata"]) == (7, {"b": 2, "c": "x"})
    assert [job["id"] for job in api.get("/api/jobs?metadata.c=x").json["jobs"]] == [job_id]
    assert api.get("/api/jobs?metadata.a=1").json["jobs"] == []
    later = api.patch(f"/api/jobs/{job_id}", {"runAt": "2099-01-01T00:00:00Z"})
    assert later.json["job"]["status"] == "delayed"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, ""),
        ({"priority": "x"}, "priority"),
        ({"runAt": 5}, "runAt"),
        ({"metadata": [1]}, "metadata"),
        ({"data": 1}, "data"),
        ([], ""),
    ],
)
def test_an_invalid_change_is_422(api: Api, body: object, path: str) -> None:
    answer = api.patch(f"/api/jobs/{api.submit()}", body)
    assert (answer.status_code, list(answer.json["details"])) == (422, [path])


def test_an_ended_job_cannot_be_changed(api: Api) -> None:
    job_id = api.submit()
    api.put(f"/api/jobs/{job_id}", {"status": "completed"})
    assert api.patch(f"/api/jobs/{job_id}", {"priority": 1}).status_code == 409
    assert api.post(f"/api/jobs/{job_id}/webhook", {"webhooks": {}}).json["code"] == "JOB_ENDED"


def test_webhooks_merge_and_null_removes(api: Api) -> None:
    job_id = api.submit(webhooks={"completed": "https://a.example/1", "failed": "https://a.example/2"})
    patch = {"webhooks": {"completed": "https://A.example:443/3", "failed": None, "*": "https://b.example/"}}
    answer = api.post(f"/api/jobs/{job_id}/webhook", patch)
    wanted = {"completed": "https://a.example/3", "*": "https://b.example/"}
    assert answer.json == {
        "success": True,
        "message": f"Webhooks registered for job {job_id}",
        "webhooks": wanted,
    }
    assert api.job(job_id)["webhooks"] == wanted


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "webhooks"),
        ({"webhooks": []}, "webhooks"),
        ({"webhooks": {"done": "https://a.b/"}}, "webhooks.done"),
        ({"webhooks": {"failed": 1}}, "webhooks.failed"),
        ({"webhooks": {"failed": "https://user:pw@a.b/"}}, "webhooks.failed"),
        ({"webhook": {}}, "webhook"),
    ],
)
def test_invalid_webhooks_are_422(api: Api, body: object, path: str) -> None:
    answer = api.post(f"/api/jobs/{api.submit()}/webhook", body)
    assert answer.status_code == 422
    assert path in answer.json["details"]


def test_explain_names_what_holds_a_job_up(api: Api) -> None:
    first, job_id = api.submit("held"), api.submit("held")
    api.patch("/api/queues/held", {"paused": True})
    found = api.get(f"/api/jobs/{job_id}/explain").json
    assert (found["jobId"], found["status"]) == (job_id, "waiting")
    assert {"QUEUE_PAUSED", "NO_WORKER", "JOBS_AHEAD"} <= {reason["code"] for reason in found["reasons"]}
    api.post(f"/api/jobs/{first}/cancel")
    assert api.get(f"/api/jobs/{first}/explain").json["reasons"][0]["code"] == "CANCELLED"
    assert api.get(f"/api/jobs/{UNKNOWN}/explain").status_code == 404


def reasons(api: Api, job_id: str) -> dict[str, dict[str, object]]:
    """Code -> details of what holds a job up, those about workers left out."""
    found = api.get(f"/api/jobs/{job_id}/explain").json["reasons"]
    return {reason["code"]: reason["details"] for reason in found if reason["code"] != "NO_WORKER"}


def test_every_limit_is_explained_with_its_numbers(world: World) -> None:
    # given an application, a queue and a key that are all at their limits
    api = world.application(max_concurrent_jobs=2)
    limits = {"concurrency": 2, "concurrencyPerKey": 1, "rateLimit": {"max": 2, "perMs": 60_000}}
    assert api.patch("/api/queues/q", limits).status_code == 200
    keyed = {"options": {"concurrencyKey": "c"}}
    started = [api.submit("q"), api.submit("q", **keyed)]
    for job_id in started:
        assert api.put(f"/api/jobs/{job_id}", {"status": "started"}).status_code == 200
    # when one more of the key waits
    found = reasons(api, api.submit("q", **keyed))
    # then all of them are named
    until = found["RATE_LIMIT"].pop("until")
    assert until
    assert found == {
        "QUEUE_LIMIT": {"active": 2, "limit": 2},
        "KEY_LIMIT": {"active": 1, "limit": 1},
        "APPLICATION_LIMIT": {"active": 2, "limit": 2},
        "RATE_LIMIT": {"started": 2, "max": 2},
    }


def test_jobs_ahead_are_those_of_the_queue_and_of_the_key(api: Api) -> None:
    # given two jobs without key, two of one key and another one of that key
    keyed = {"options": {"concurrencyKey": "c"}}
    for more in ({}, {}, keyed, keyed):
        api.submit("q", **more)
    last = api.submit("q", **keyed)
    # then at least four are ahead of it
    assert reasons(api, last) == {"JOBS_AHEAD": {"ahead": 4}}
    message = api.get(f"/api/jobs/{last}/explain").json["reasons"][-1]["message"]
    assert message == "At least 4 jobs are ahead of it."
