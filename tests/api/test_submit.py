"""POST /api/jobs."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.conftest import Api, World


def test_the_seeds_submit_is_answered_as_the_seed_says(api: Api) -> None:
    body = {
        "queue": "email-notifications",
        "data": {"to": "user@example.com"},
        "metadata": {"priority": "high", "customerId": "cust-123"},
        "webhooks": {"completed": "https://myapp.com/hook", "*": "https://myapp.com/all"},
    }
    answer = api.post("/api/jobs", body)
    assert answer.status_code == 201
    job_id = answer.json["jobId"]
    assert answer.json == {
        "success": True,
        "jobId": job_id,
        "message": "Job submitted to email-notifications queue",
    }
    assert answer.headers["Location"] == f"/api/jobs/{job_id}"
    job = api.job(job_id)
    assert job["queue"] == job["task"] == "email-notifications"
    assert (job["status"], job["webhooks"]) == ("waiting", body["webhooks"])


@pytest.mark.parametrize("data", [0, "", [], None, False, {}, 1.0, "日本 \U0001f600"])
def test_any_json_is_data(api: Api, data: object) -> None:
    job_id = api.submit(data=data)
    assert api.job(job_id)["data"] == data


@pytest.mark.parametrize(
    "text",
    [
        b'{"z":1,"a":{"z":[],"y":{}},"big":123456789012345678901234567890,"e":1.0e2}',
        b'[1.10, 1e-400,   "\\u00e9\\ud83d\\ude00", -0.0]',
        '"日本 \U0001f600 \\u0000"'.encode(),
    ],
)
def test_data_metadata_and_result_come_back_byte_for_byte(api: Api, text: bytes) -> None:
    answer = api.post("/api/jobs", b'{"queue":"q","data":' + text + b',"metadata":{"m" : ' + text + b"}}")
    path = answer.headers["Location"]
    api.put(path, b'{"status":"completed","result":' + text + b"}")
    raw = api.get(path).data
    assert b'"data":' + text + b"," in raw
    assert b'"metadata":{"m" : ' + text + b"}," in raw
    assert b'"result":' + text + b"," in raw


BAD_JSON = {
    "nan": b'{"queue":"q","data":NaN}',
    "infinity": b'{"queue":"q","data":-Infinity}',
    "overflow": b'{"queue":"q","data":1e999}',
    "twice": b'{"queue":"q","data":{"a":1,"a":2}}',
    "surrogate": b'{"queue":"q","data":"\\ud800"}',
    "latin": b'{"queue":"q","data":"\xe9"}',
    "utf-16": '{"queue":"q","data":1}'.encode("utf-16"),
    "bom": b'\xef\xbb\xbf{"queue":"q","data":1}',
    "deep": b'{"queue":"q","data":' + b"[" * 64 + b"]" * 64 + b"}",
    "very deep": b"[" * 100_000,
    "digits": b'{"queue":"q","data":' + b"9" * 4_301 + b"}",
    "half": b'{"queue":"q"',
    "two": b'{"queue":"q","data":1} {}',
}


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON)
def test_what_is_no_strict_json_is_400(api: Api, body: bytes) -> None:
    answer = api.post("/api/jobs", body)
    assert (answer.status_code, answer.json["code"]) == (400, "BAD_JSON"), answer.text
    assert answer.json["success"] is False
    assert answer.json["requestId"] == answer.headers["X-Request-Id"]


INVALID = {
    "no queue": ({"data": 1}, "queue"),
    "no data": ({"queue": "q"}, "data"),
    "queue name": ({"queue": "a b", "data": 1}, "queue"),
    "queue length": ({"queue": "a" * 129, "data": 1}, "queue"),
    "queue type": ({"queue": 1, "data": 1}, "queue"),
    "unknown": ({"queue": "q", "data": 1, "prority": 1}, "prority"),
    "unknown option": ({"queue": "q", "data": 1, "options": {"prio": 1}}, "options.prio"),
    "metadata": ({"queue": "q", "data": 1, "metadata": []}, "metadata"),
    "metadata size": ({"queue": "q", "data": 1, "metadata": {str(n): n for n in range(51)}}, "metadata"),
    "webhook event": ({"queue": "q", "data": 1, "webhooks": {"created": "https://a.b/"}}, "webhooks.created"),
    "webhook url": ({"queue": "q", "data": 1, "webhooks": {"failed": "ftp://a.b/"}}, "webhooks.failed"),
    "webhook address": ({"queue": "q", "data": 1, "webhooks": {"*": "http://127.0.0.1/"}}, "webhooks.*"),
    "priority": ({"queue": "q", "data": 1, "options": {"priority": 2**31}}, "options.priority"),
    "priority type": ({"queue": "q", "data": 1, "options": {"priority": True}}, "options.priority"),
    "delay": ({"queue": "q", "data": 1, "options": {"delay": -1}}, "options.delay"),
    "runAt": ({"queue": "q", "data": 1, "options": {"runAt": "tomorrow"}}, "options.runAt"),
    "both": ({"queue": "q", "data": 1, "options": {"delay": 1, "runAt": "2030-01-01T00:00:00Z"}}, "options.runAt"),
    "attempts": ({"queue": "q", "data": 1, "options": {"attempts": 0}}, "options.attempts"),
    "backoff": ({"queue": "q", "data": 1, "options": {"backoff": "1s"}}, "options.backoff"),
    "backoff type": ({"queue": "q", "data": 1, "options": {"backoff": {"type": "x"}}}, "options.backoff.type"),
    "jitter": ({"queue": "q", "data": 1, "options": {"backoff": {"jitter": 2}}}, "options.backoff.jitter"),
    "key": ({"queue": "q", "data": 1, "options": {"concurrencyKey": "é" * 128}}, "options.concurrencyKey"),
    "debounce": ({"queue": "q", "data": 1, "options": {"debounce": "replace"}}, "options.debounce"),
    "parent": ({"queue": "q", "data": 1, "options": {"dependsOn": ["x"]}}, "options.dependsOn.0"),
    "task": ({"queue": "q", "data": 1, "task": ""}, "task"),
    "list": ([1], ""),
}


@pytest.mark.parametrize(("body", "path"), INVALID.values(), ids=INVALID)
def test_what_is_invalid_is_422_and_names_the_field(api: Api, body: object, path: str) -> None:
    answer = api.post("/api/jobs", body)
    assert (answer.status_code, answer.json["code"]) == (422, "INVALID"), answer.text
    assert list(answer.json["details"]) == [path]
    assert answer.json["error"].startswith(path or "the body")


def test_a_parent_that_does_not_exist_is_named(api: Api) -> None:
    parents = [api.submit(), "0192f0c1-7b7e-7000-8000-000000000001"]
    answer = api.post("/api/jobs", {"queue": "q", "data": 1, "options": {"dependsOn": parents}})
    assert answer.status_code == 422
    assert answer.json["details"] == {"options.dependsOn": [f"names a job that does not exist: {parents[1]}"]}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"attempts": 3}, "attempts is not a known name here, but options.attempts is; "),
        ({"run_at": 3}, "run_at is not a known name here, but options.runAt is; "),
        ({"options": {"dedupe_key": "a"}}, "options.dedupe_key is not a known name here, but dedupeKey is; "),
        ({"Metadata": {}}, "Metadata is not a known name here, but metadata is; "),
    ],
)
def test_whoever_misses_a_name_is_told_the_one_that_was_meant(api: Api, given: object, meant: str) -> None:
    answer = api.post("/api/jobs", {"queue": "q", "data": 1, **given})  # type: ignore[dict-item]
    assert answer.json["error"].startswith(meant)


def test_all_fields_are_named_at_once(api: Api) -> None:
    answer = api.post("/api/jobs", {"queue": "", "options": {"attempts": 0, "priority": "high"}})
    assert set(answer.json["details"]) == {"queue", "data", "options.attempts", "options.priority"}
    assert "and 1 more" in answer.json["error"]


def test_an_unknown_query_name_is_422(api: Api) -> None:
    answer = api.post("/api/jobs?wiat=1", {"queue": "q", "data": 1})
    assert (answer.status_code, list(answer.json["details"])) == (422, ["wiat"])


def test_a_body_without_its_type_is_415_and_the_answer_shows_the_right_curl(api: Api) -> None:
    answer: Any = api.client.post("/api/jobs", data="{}", headers=api.headers)
    assert (answer.status_code, answer.json["code"]) == (415, "NOT_JSON")
    assert "Content-Type: application/json" in answer.json["details"]["curl"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.api+json", "Application/JSON"])
def test_other_spellings_of_json_are_fine(api: Api, kind: str) -> None:
    answer = api.client.post("/api/jobs", data=b'{"queue":"q","data":1}', headers={**api.headers, "Content-Type": kind})
    assert answer.status_code == 201


def test_a_body_beyond_the_limit_is_413(api: Api) -> None:
    answer = api.post("/api/jobs", b'{"queue":"q","data":"' + b"x" * 1_048_576 + b'"}')
    assert (answer.status_code, answer.json["code"]) == (413, "TOO_LARGE")
    assert answer.json["details"] == {"limit": 1_048_576}


def test_the_same_idempotency_key_and_body_is_one_job(api: Api) -> None:
    body = {"queue": "q", "data": 1}
    first = api.post("/api/jobs", body, Idempotency_Key="k1")
    again = api.post("/api/jobs", body, Idempotency_Key="k1")
    assert (again.status_code, again.data) == (201, first.data)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    conflict = api.post("/api/jobs", {"queue": "q", "data": 2}, Idempotency_Key="k1")
    assert (conflict.status_code, conflict.json["code"]) == (409, "IDEMPOTENCY_CONFLICT")


def test_an_idempotency_key_is_the_applications_own(api: Api, other: Api) -> None:
    body = {"queue": "q", "data": 1}
    mine = api.post("/api/jobs", body, Idempotency_Key="k")
    theirs = other.post("/api/jobs", body, Idempotency_Key="k")
    assert mine.json["jobId"] != theirs.json["jobId"]


def test_many_equal_submits_at_once_make_one_job(api: Api, world: World) -> None:
    def submit(_: int) -> bytes:
        own = Api(world.app.test_client(), api.headers)
        return own.post("/api/jobs", {"queue": "q", "data": 1}, Idempotency_Key="same").data

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(submit, range(40)))
    assert len(answers) == 1
    assert api.get("/api/jobs").json["count"] == 1


def test_an_idempotency_key_is_at_most_255_bytes(api: Api) -> None:
    answer = api.post("/api/jobs", {"queue": "q", "data": 1}, Idempotency_Key="k" * 256)
    assert (answer.status_code, list(answer.json["details"])) == (422, ["Idempotency-Key"])


def test_a_doubled_dedupe_key_answers_200_with_the_first_job(api: Api) -> None:
    body = {"queue": "q", "data": 1, "options": {"dedupeKey": "d"}}
    first, second = api.post("/api/jobs", body), api.post("/api/jobs", body)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json["jobId"] == first.json["jobId"]
    assert second.json["deduplicated"] is True


def test_options_show_in_the_job(api: Api) -> None:
    options = {"priority": -5, "attempts": 4, "runAt": "2099-01-31T12:00:00+01:00", "concurrencyKey": "customer-1"}
    job = api.job(api.submit(options=options, task="mails.send"))
    assert (job["status"], job["task"], job["priority"], job["maxAttempts"]) == ("delayed", "mails.send", -5, 4)
    assert job["timestamps"]["runAt"] == "2099-01-31T11:00:00.000Z"
    assert job["concurrencyKey"] == "customer-1"


def test_null_options_count_as_not_given(api: Api) -> None:
    body = {"queue": "q", "data": 1, "metadata": None, "webhooks": None, "task": None, "options": {"delay": None}}
    assert api.post("/api/jobs", body).status_code == 201


def test_settings_give_the_defaults(make_world: object) -> None:
    world: World = make_world(default_job_attempts=3)  # type: ignore[operator]
    api = world.application()
    assert api.job(api.submit())["maxAttempts"] == 3
    assert api.job(api.submit(options={"attempts": 1}))["maxAttempts"] == 1
    assert api.patch("/api/queues/own", {"attempts": 2}).status_code == 200
    assert api.job(api.submit("own"))["maxAttempts"] == 2


def test_a_queue_that_is_not_allowed_is_403(world: World) -> None:
    api = world.application(allowed_queues=("email",))
    assert api.post("/api/jobs", {"queue": "email", "data": 1}).status_code == 201
    answer = api.post("/api/jobs", {"queue": "email-bulk", "data": 1})
    assert (answer.status_code, answer.json["code"]) == (403, "QUEUE_NOT_ALLOWED")


def test_the_answer_is_json_without_escapes_of_ours(api: Api) -> None:
    answer = api.post("/api/jobs", {"queue": "q", "data": 1})
    assert json.loads(answer.data) == answer.json
    assert answer.headers["Content-Type"] == "application/json"
