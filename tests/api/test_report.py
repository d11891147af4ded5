"""PUT /api/jobs/{id}, updates and heartbeats: what workers say."""

import json

import pytest

from tests.api.conftest import Api


def test_the_seeds_worker_starts_reports_progress_and_completes(api: Api) -> None:
    job_id = api.submit()
    path = f"/api/jobs/{job_id}"

    started = api.put(path, {"status": "started"})
    assert started.status_code == 200
    assert started.json["message"] == f"Job {job_id} updated"
    assert (started.json["attempt"], started.json["status"]) == (1, "active")
    assert started.json["leaseToken"]
    assert started.json["leaseExpiresAt"].endswith("Z")

    progress = api.put(path, {"status": "progress", "progress": 50})
    assert (progress.json["success"], progress.json["message"]) == (True, f"Job {job_id} updated")
    assert api.job(job_id)["progress"] == 50

    assert api.put(path, {"status": "completed", "result": {"sent": True}}).status_code == 200
    job = api.job(job_id)
    assert (job["status"], job["result"], job["progress"]) == ("completed", {"sent": True}, 50)
    assert job["timestamps"]["completed"] is not None


def test_a_failed_job_shows_its_error_and_is_final(api: Api) -> None:
    job_id = api.submit()
    api.put(f"/api/jobs/{job_id}", {"status": "failed", "error": "SMTP said no"})
    job = api.job(job_id)
    assert (job["status"], job["error"]) == ("failed", "SMTP said no")


def test_a_failure_is_repeated_while_attempts_are_left_unless_it_is_permanent(api: Api) -> None:
    first, second = (api.submit(options={"attempts": 3}) for _ in range(2))
    assert api.put(f"/api/jobs/{first}", {"status": "failed", "error": "x"}).json["status"] == "delayed"
    assert api.put(f"/api/jobs/{second}", {"status": "failed", "retry": False}).json["status"] == "failed"


def test_the_second_to_start_gets_409_and_its_failure_is_ignored(api: Api) -> None:
    path = f"/api/jobs/{api.submit()}"
    assert api.put(path, {"status": "started"}).status_code == 200
    loser = api.put(path, {"status": "started"})
    assert (loser.status_code, loser.json["code"]) == (409, "JOB_TAKEN")
    ignored = api.put(path, {"status": "failed", "error": "Request failed with status code 409"})
    assert (ignored.status_code, ignored.json["ignored"], ignored.json["status"]) == (200, True, "active")
    assert api.put(path, {"status": "completed"}).json["status"] == "completed"


@pytest.mark.parametrize("lease", [{}, {"leaseToken": "of an attempt that is over"}])
@pytest.mark.parametrize("at_once", [False, True])
def test_started_may_carry_metadata_that_filters_see(api: Api, at_once: bool, lease: dict[str, str]) -> None:
    job_id = api.submit(metadata={"a": 1})
    said = {"status": "started", "metadata": {"host": "w1", "a": None}, **lease}
    if at_once:
        answer = api.post("/api/jobs/updates", {"updates": [{"jobId": job_id, **said}]})
        assert answer.json["accepted"] == 1, answer.text
    else:
        answer = api.put(f"/api/jobs/{job_id}", said)
    assert answer.status_code == 200
    assert api.job(job_id)["metadata"] == {"host": "w1"}
    assert [job["id"] for job in api.get("/api/jobs?metadata.host=w1").json["jobs"]] == [job_id]


def test_a_delayed_job_is_not_due(api: Api) -> None:
    path = f"/api/jobs/{api.submit(options={'delay': 60_000})}"
    for status in ("started", "completed"):
        answer = api.put(path, {"status": status})
        assert (answer.status_code, answer.json["code"]) == (409, "NOT_DUE")


def test_a_lease_token_once_used_is_required(api: Api) -> None:
    path = f"/api/jobs/{api.submit()}"
    token = api.put(path, {"status": "started", "workerId": "w1"}).json["leaseToken"]
    assert api.put(path, {"status": "progress", "progress": 1, "leaseToken": token}).status_code == 200
    lost = api.put(path, {"status": "progress", "progress": 2})
    assert (lost.status_code, lost.json["code"]) == (409, "LEASE_LOST")
    assert api.put(path, {"status": "completed", "leaseToken": token}).status_code == 200


INVALID = {
    "none": ({}, "status"),
    "status": ({"status": "done"}, "status"),
    "unknown": ({"status": "progress", "progres": 1}, "progres"),
    "lease": ({"status": "started", "leaseSeconds": 4}, "leaseSeconds"),
    "lease type": ({"status": "started", "leaseSeconds": "60"}, "leaseSeconds"),
    "token": ({"status": "progress", "leaseToken": 1}, "leaseToken"),
    "worker": ({"status": "started", "workerId": "w" * 256}, "workerId"),
    "retry": ({"status": "failed", "retry": "no"}, "retry"),
    "metadata": ({"status": "progress", "metadata": 1}, "metadata"),
    "list": ([], ""),
}


@pytest.mark.parametrize(("body", "path"), INVALID.values(), ids=INVALID)
def test_an_invalid_report_is_422(api: Api, body: object, path: str) -> None:
    answer = api.put(f"/api/jobs/{api.submit()}", body)
    assert (answer.status_code, list(answer.json["details"])) == (422, [path]), answer.text


def test_updates_report_many_each_by_itself(api: Api) -> None:
    first, second, third = (api.submit() for _ in range(3))
    updates = [
        {"jobId": first, "status": "completed", "result": [1]},
        {"jobId": "0192f0c1-7b7e-7000-8000-000000000001", "status": "completed"},
        {"jobId": second, "status": "nonsense"},
        {"jobId": third, "status": "started"},
        {"jobId": third, "status": "progress", "progress": 7},
        "no object",
    ]
    answer = api.post("/api/jobs/updates", {"updates": updates})
    assert answer.status_code == 200, answer.text
    results = answer.json["results"]
    assert [one["success"] for one in results] == [True, False, False, True, True, False]
    assert (answer.json["accepted"], answer.json["rejected"]) == (3, 3)
    assert results[0] == {"success": True, "jobId": first, "status": "completed"}
    assert (results[1]["code"], results[2]["code"]) == ("NOT_FOUND", "INVALID")
    assert results[3]["leaseToken"]
    assert (api.job(first)["result"], api.job(third)["progress"]) == ([1], 7)


def test_a_result_in_updates_keeps_its_text(api: Api) -> None:
    job_id = api.submit()
    text = b'{"b":12345678901234567890123,"a":1.10}'
    body = b'{"updates":[{"jobId":"%s","status":"completed","result":%s}]}' % (job_id.encode(), text)
    assert api.post("/api/jobs/updates", body).json["accepted"] == 1
    assert b'"result":' + text in api.get(f"/api/jobs/{job_id}").data


@pytest.mark.parametrize("body", [{}, {"updates": {}}, {"updates": [1] * 1001}, {"update": []}])
def test_updates_need_a_list(api: Api, body: object) -> None:
    assert api.post("/api/jobs/updates", body).status_code == 422


def test_a_heartbeat_renews_and_tells_of_the_cancel(api: Api) -> None:
    job_id = api.submit()
    token = api.put(f"/api/jobs/{job_id}", {"status": "started", "leaseSeconds": 10}).json["leaseToken"]
    beat = api.post(f"/api/jobs/{job_id}/heartbeat", {"leaseToken": token, "leaseSeconds": 100})
    assert (beat.status_code, beat.json["cancelled"]) == (200, False)
    assert beat.json["leaseExpiresAt"] == api.job(job_id)["leaseExpiresAt"]
    assert api.post(f"/api/jobs/{job_id}/cancel").json["status"] == "cancelled"
    beat = api.post(f"/api/jobs/{job_id}/heartbeat", {"leaseToken": token})
    assert (beat.status_code, beat.json["cancelled"]) == (200, True)
    late = api.put(f"/api/jobs/{job_id}", {"status": "completed", "leaseToken": token})
    assert (late.status_code, late.json["code"]) == (409, "JOB_CANCELLED")


def test_a_heartbeat_without_body_is_the_tokenless_holders(api: Api) -> None:
    job_id = api.submit()
    api.put(f"/api/jobs/{job_id}", {"status": "started"})
    assert api.client.post(f"/api/jobs/{job_id}/heartbeat", headers=api.headers).status_code == 200
    assert api.post(f"/api/jobs/{job_id}/heartbeat", {"leaseToken": "other"}).json["code"] == "LEASE_LOST"


def test_logs_are_appended_and_read_in_pages(api: Api) -> None:
    path = f"/api/jobs/{api.submit()}/logs"
    assert api.post(path, {"lines": ["one", "zwei €", "three"]}).json["count"] == 3
    page = api.get(path + "?limit=2").json
    assert [line["line"] for line in page["logs"]] == ["one", "zwei €"]
    rest = api.get(f"{path}?cursor={page['nextCursor']}").json
    assert ([line["line"] for line in rest["logs"]], rest["nextCursor"]) == (["three"], None)


def test_a_cursor_of_a_log_skips_nothing_that_is_still_there(api: Api) -> None:
    # given a full log of which a reader has seen the first hundred lines
    path = f"/api/jobs/{api.submit()}/logs"
    for start in range(0, 1_000, 100):
        api.post(path, {"lines": [str(start + number) for number in range(100)]})
    cursor = api.get(path).json["nextCursor"]
    # when fifty lines more push out the oldest fifty
    api.post(path, {"lines": [str(1_000 + number) for number in range(50)]})
    # then the reader goes on where it was
    page = api.get(f"{path}?cursor={cursor}").json
    assert (page["logs"][0]["line"], page["nextCursor"]) == ("100", "200")
    # and one who came too late goes on with the oldest that is left
    assert api.get(f"{path}?cursor=20&limit=1").json["logs"][0]["line"] == "50"
    last = api.get(f"{path}?cursor=1000").json
    assert ([line["line"] for line in last["logs"]][-1], last["nextCursor"]) == ("1049", None)


@pytest.mark.parametrize(
    "body", [{}, {"lines": []}, {"lines": "x"}, {"lines": [1]}, {"lines": ["x" * 4097]}, {"lines": ["x"] * 101}]
)
def test_log_lines_are_bounded(api: Api, body: object) -> None:
    assert api.post(f"/api/jobs/{api.submit()}/logs", body).status_code == 422


def test_reports_of_unknown_jobs_are_404(api: Api) -> None:
    for job_id in ("0192f0c1-7b7e-7000-8000-000000000001", "x", "%00"):
        for method, path, body in (
            ("PUT", "", {"status": "completed"}),
            ("PUT", "", {"status": "started"}),
            ("POST", "/heartbeat", {}),
            ("POST", "/logs", {"lines": ["x"]}),
        ):
            answer = api.send(method, f"/api/jobs/{job_id}{path}", body)
            assert (answer.status_code, answer.json["code"]) == (404, "NOT_FOUND"), (job_id, path, answer.text)


def test_errors_may_be_any_json(api: Api) -> None:
    job_id = api.submit()
    error = {"message": "no", "stack": ["a", "b"], "n": 1}
    api.put(f"/api/jobs/{job_id}", {"status": "failed", "error": error})
    assert api.job(job_id)["error"] == error
    assert json.loads(api.get(f"/api/jobs/{job_id}").data)["job"]["errorCode"] is None
