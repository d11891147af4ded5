"""POST /api/queues/{q}/claim and /api/queues/claim: plain and waiting."""

import threading
import time
from typing import Any

import pytest

from api.app import runtime_of
from mech_queue.services import maintenance
from tests.api.conftest import Api, World
from tests.support import wait_until


def test_jobs_are_claimed_in_order_with_a_lease(api: Api) -> None:
    late, early, urgent = api.submit(), api.submit(), api.submit(options={"priority": 9})
    answer = api.post("/api/queues/email/claim", {"limit": 2, "workerId": "w1"})
    assert answer.status_code == 200
    assert [job["id"] for job in answer.json["jobs"]] == [urgent, late]
    assert answer.json["count"] == 2
    job = answer.json["jobs"][0]
    assert (job["status"], job["attempt"], job["data"], job["metadata"]) == ("active", 1, 1, {})
    assert api.put(f"/api/jobs/{urgent}", {"status": "completed", "leaseToken": job["leaseToken"]}).status_code == 200
    for forgot in (api.put(f"/api/jobs/{late}", {"status": "completed"}), api.post(f"/api/jobs/{late}/heartbeat")):
        assert (forgot.status_code, forgot.json["code"]) == (409, "LEASE_LOST")
        assert "send the leaseToken that the answer to its claim" in forgot.json["error"]
    assert api.job(late)["workerId"] == "w1"
    assert api.job(early)["status"] == "waiting"


def test_a_claim_without_body_takes_one(api: Api) -> None:
    first, _ = api.submit(), api.submit()
    answer: Any = api.client.post("/api/queues/email/claim", headers=api.headers)
    assert [job["id"] for job in answer.json["jobs"]] == [first]


def test_a_queue_that_nobody_used_is_empty(api: Api) -> None:
    answer = api.post("/api/queues/nobody/claim", {})
    assert answer.json == {"success": True, "jobs": [], "count": 0}


def test_queues_are_preferred_in_the_order_given(api: Api) -> None:
    slow, fast = api.submit("slow"), api.submit("fast")
    answer = api.post("/api/queues/claim", {"queues": ["fast", "slow"], "limit": 2})
    assert [job["id"] for job in answer.json["jobs"]] == [fast, slow]


def test_the_same_nonce_gets_the_same_jobs(api: Api) -> None:
    api.submit()
    first = api.post("/api/queues/email/claim", {"nonce": "n1"}).json["jobs"]
    again = api.post("/api/queues/email/claim", {"nonce": "n1"}).json["jobs"]
    assert [job["leaseToken"] for job in again] == [job["leaseToken"] for job in first]
    assert len(first) == 1


INVALID = {
    "limit": ({"limit": 0}, "limit"),
    "limit high": ({"limit": 101}, "limit"),
    "wait": ({"wait": 31}, "wait"),
    "wait type": ({"wait": "5"}, "wait"),
    "lease": ({"leaseSeconds": 86_401}, "leaseSeconds"),
    "worker": ({"workerId": ""}, "workerId"),
    "unknown": ({"queues": ["a"]}, "queues"),
}


@pytest.mark.parametrize(("body", "path"), INVALID.values(), ids=INVALID)
def test_an_invalid_claim_is_422(api: Api, body: object, path: str) -> None:
    answer = api.post("/api/queues/email/claim", body)
    assert (answer.status_code, list(answer.json["details"])) == (422, [path]), answer.text


@pytest.mark.parametrize(
    ("queues", "path"), [(None, "queues"), ([], "queues"), (["a b"], "queues.0"), ([1], "queues.0")]
)
def test_a_claim_over_queues_needs_their_names(api: Api, queues: object, path: str) -> None:
    answer = api.post("/api/queues/claim", {"queues": queues})
    assert (answer.status_code, list(answer.json["details"])) == (422, [path]), answer.text


def test_a_misspelt_list_of_queues_is_named_too(api: Api) -> None:
    answer = api.post("/api/queues/claim", {"queue": "email"})
    assert set(answer.json["details"]) == {"queue", "queues"}, answer.text


def test_a_misspelt_filter_of_events_is_told_the_known_ones(api: Api) -> None:
    answer = api.get("/api/events?queues=email")
    assert answer.json["details"]["queues"] == ["is not a known name here; known are: events, queue, metadata.<key>"]


def test_a_bad_queue_name_is_422(api: Api) -> None:
    assert api.post("/api/queues/a%20b/claim", {}).status_code == 422


def test_a_queue_that_is_not_allowed_cannot_be_claimed(world: World) -> None:
    api = world.application(allowed_queues=("email",))
    answer = api.post("/api/queues/claim", {"queues": ["email", "other"]})
    assert answer.json["code"] == "QUEUE_NOT_ALLOWED"


def _in_background(
    api: Api, world: World, path: str, body: dict[str, object] | None
) -> tuple[list[object], threading.Thread]:
    found: list[object] = []
    own = Api(world.app.test_client(), api.headers)

    def ask() -> None:
        answer = own.post(path, body) if body is not None else own.get(path)
        found.append(answer.json)

    thread = threading.Thread(target=ask)
    thread.start()
    return found, thread


def test_a_waiting_claim_is_answered_when_a_job_comes(api: Api, world: World) -> None:
    began = time.monotonic()
    found, thread = _in_background(api, world, "/api/queues/email/claim", {"wait": 25})
    wait_until(lambda: runtime_of(world.app).waiters._waiting)
    job_id = api.submit()
    thread.join(10)
    assert [job["id"] for job in found[0]["jobs"]] == [job_id]  # type: ignore[index]
    assert time.monotonic() - began < 10


def test_a_waiting_claim_is_empty_when_the_time_is_up(api: Api) -> None:
    began = time.monotonic()
    answer = api.post("/api/queues/email/claim", {"wait": 0.3})
    assert answer.json["jobs"] == []
    assert time.monotonic() - began >= 0.29


def test_get_with_wait_answers_when_the_job_ends(api: Api, world: World) -> None:
    job_id = api.submit()
    found, thread = _in_background(api, world, f"/api/jobs/{job_id}?wait=25", None)
    wait_until(lambda: runtime_of(world.app).waiters._waiting)
    api.put(f"/api/jobs/{job_id}", {"status": "completed", "result": 5})
    thread.join(10)
    assert found[0]["job"]["result"] == 5  # type: ignore[index]


def test_get_with_wait_shows_the_job_as_it_is_when_the_time_is_up(api: Api, world: World) -> None:
    job_id = api.submit()
    found, thread = _in_background(api, world, f"/api/jobs/{job_id}?wait=0.7", None)
    wait_until(lambda: runtime_of(world.app).waiters._waiting)
    api.put(f"/api/jobs/{job_id}", {"status": "progress", "progress": 50})
    thread.join(10)
    assert (found[0]["job"]["status"], found[0]["job"]["progress"]) == ("active", 50)  # type: ignore[index]


@pytest.mark.parametrize("removal", ["purge", "delete"])
def test_get_with_wait_is_404_as_soon_as_the_job_is_removed(api: Api, world: World, removal: str) -> None:
    job_id = api.submit("q")
    found, thread = _in_background(api, world, f"/api/jobs/{job_id}?wait=25", None)
    wait_until(lambda: runtime_of(world.app).waiters._waiting)
    if removal == "purge":
        api.post("/api/queues/q/purge")
        maintenance.tick(world.store)
    else:
        api.delete(f"/api/jobs/{job_id}")
    thread.join(10)
    assert [answer["code"] for answer in found] == ["NOT_FOUND"]  # type: ignore[index]


@pytest.mark.parametrize("wait", ["31", "-1", "x", "", "1.", ".5", "1e1", "٣", "nan", "0.0000000001"])
def test_a_bad_wait_is_422(api: Api, wait: str) -> None:
    answer = api.get(f"/api/jobs/{api.submit()}?wait={wait}")
    assert (answer.status_code, list(answer.json["details"])) == (422, ["wait"]), wait


def test_beyond_max_waiters_the_answer_is_immediate_with_retry_after(make_world: object) -> None:
    world: World = make_world(max_waiters=1)  # type: ignore[operator]
    api = world.application()
    _, thread = _in_background(api, world, "/api/queues/email/claim", {"wait": 20})
    wait_until(lambda: runtime_of(world.app).waiters.full())
    answer = api.post("/api/queues/email/claim", {"wait": 20})
    assert (answer.status_code, answer.json["jobs"], answer.headers["Retry-After"]) == (200, [], "1")
    got = api.get(f"/api/jobs/{api.submit('other')}?wait=20")
    assert (got.status_code, got.headers["Retry-After"]) == (200, "1")
    api.submit()
    thread.join(10)
    assert not thread.is_alive()


def test_a_stopping_process_answers_those_who_wait(make_world: object) -> None:
    world: World = make_world()  # type: ignore[operator]
    api = world.application()
    found, thread = _in_background(api, world, "/api/queues/email/claim", {"wait": 30})
    runtime = runtime_of(world.app)
    wait_until(lambda: runtime.waiters._waiting)
    runtime.stopping.set()
    runtime.waiters.close()
    thread.join(10)
    assert found == [{"success": True, "jobs": [], "count": 0}]
