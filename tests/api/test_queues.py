"""Queues and workers."""

import pytest

from mech_queue.services import jobs, maintenance
from tests.api.conftest import Api, World
from tests.support import wait_until


def test_a_queue_shows_its_counts(api: Api) -> None:
    api.submit("email")
    done = api.submit("email")
    api.put(f"/api/jobs/{done}", {"status": "completed"})
    queue = api.get("/api/queues/email").json["queue"]
    assert queue["name"] == "email"
    assert (queue["counts"]["waiting"], queue["counts"]["completed"]) == (1, 1)
    assert (queue["paused"], queue["settings"]["concurrency"]) == (False, None)


def test_unknown_queues_are_404_everywhere(api: Api) -> None:
    for method, path in (
        ("GET", ""),
        ("GET", "/stats"),
        ("DELETE", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/drain"),
        ("POST", "/purge"),
    ):
        answer = api.send(method, f"/api/queues/nobody{path}")
        assert (answer.status_code, answer.json["code"]) == (404, "NOT_FOUND"), path


def test_queues_are_listed_by_name_in_pages(api: Api) -> None:
    for name in ("b", "c", "a"):
        api.submit(name)
    first = api.get("/api/queues?limit=2").json
    assert [queue["name"] for queue in first["queues"]] == ["a", "b"]
    second = api.get(f"/api/queues?limit=2&cursor={first['nextCursor']}").json
    assert ([queue["name"] for queue in second["queues"]], second["nextCursor"]) == (["c"], None)
    for query in ("limit=0", "cursor=%3D", "name=a"):
        assert api.get(f"/api/queues?{query}").status_code == 422, query


def test_settings_are_kept_shown_and_taken_away(api: Api) -> None:
    settings = {
        "concurrency": 5,
        "concurrencyPerKey": 2,
        "rateLimit": {"max": 10, "perMs": 1000},
        "leaseSeconds": 30,
        "startedLeaseSeconds": 600,
        "attempts": 4,
        "backoff": {"type": "fixed", "delay": 500, "maxDelay": 5000, "jitter": 0.5},
        "retention": {
            "completedSeconds": 60,
            "completedCount": 100,
            "failedSeconds": 0,
            "failedCount": None,
            "cancelledSeconds": None,
            "cancelledCount": 7,
        },
        "paused": True,
    }
    answer = api.patch("/api/queues/new", settings)
    assert (answer.status_code, answer.json["queue"]["settings"]) == (200, settings)
    assert api.get("/api/queues/new").json["queue"]["settings"] == settings
    nothing = dict.fromkeys(settings)
    cleared = api.patch("/api/queues/new", nothing).json["queue"]["settings"]
    assert cleared == {**nothing, "paused": False, "retention": dict.fromkeys(settings["retention"])}  # type: ignore[call-overload]


def test_only_what_is_sent_is_changed(api: Api) -> None:
    api.patch("/api/queues/q", {"concurrency": 5, "attempts": 3})
    settings = api.patch("/api/queues/q", {"attempts": 4}).json["queue"]["settings"]
    assert (settings["concurrency"], settings["attempts"]) == (5, 4)


def test_a_backoff_may_leave_its_pause_open(api: Api) -> None:
    shown = {"type": "fixed", "delay": None, "maxDelay": None, "jitter": 0.0}
    assert api.patch("/api/queues/q", {"backoff": {"type": "fixed"}}).json["queue"]["settings"]["backoff"] == shown


def test_settings_hold(api: Api) -> None:
    api.patch("/api/queues/one", {"concurrency": 1, "leaseSeconds": 5, "attempts": 2})
    first = api.submit("one")
    api.submit("one")
    jobs = api.post("/api/queues/one/claim", {"limit": 10}).json["jobs"]
    assert [(job["id"], job["maxAttempts"]) for job in jobs] == [(first, 2)]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": "5"}, "concurrency"),
        ({"rateLimit": {"max": 1}}, "rateLimit.perMs"),
        ({"rateLimit": 5}, "rateLimit"),
        ({"leaseSeconds": 4}, "leaseSeconds"),
        ({"backoff": {"delay": -1}}, "backoff.delay"),
        ({"retention": {"completed": 5}}, "retention.completed"),
        ({"retention": {"failedCount": -1}}, "retention.failedCount"),
        ({"paused": 1}, "paused"),
        ({"pause": True}, "pause"),
    ],
)
def test_invalid_settings_are_422(api: Api, body: object, path: str) -> None:
    answer = api.patch("/api/queues/q", body)
    assert answer.status_code == 422
    assert path in answer.json["details"]


def test_a_bad_name_makes_no_queue(api: Api) -> None:
    assert api.patch("/api/queues/a%20b", {"concurrency": 1}).status_code == 422
    assert api.get("/api/queues").json["queues"] == []


def test_pause_and_resume(api: Api) -> None:
    job_id = api.submit("q")
    assert api.post("/api/queues/q/pause").json["queue"]["paused"] is True
    assert api.post("/api/queues/q/claim", {}).json["jobs"] == []
    assert api.put(f"/api/jobs/{job_id}", {"status": "started"}).json["code"] == "QUEUE_PAUSED"
    assert api.post("/api/queues/q/resume").json["queue"]["paused"] is False
    assert api.post("/api/queues/q/claim", {}).json["count"] == 1


def test_drain_refuses_new_jobs(api: Api) -> None:
    api.submit("q")
    assert api.post("/api/queues/q/drain").json["queue"]["draining"] is True
    answer = api.post("/api/jobs", {"queue": "q", "data": 1})
    assert (answer.status_code, answer.json["code"]) == (409, "QUEUE_DRAINING")
    assert api.post("/api/queues/q/claim", {}).json["count"] == 1


def test_purge_drops_what_waits(api: Api, world: World) -> None:
    for _ in range(3):
        api.submit("q")
    answer = api.post("/api/queues/q/purge")
    assert (answer.status_code, answer.json["count"]) == (202, 3)

    def empty() -> bool:
        maintenance.tick(world.store)
        return bool(api.get("/api/queues/q").json["queue"]["counts"]["waiting"] == 0)

    wait_until(empty)
    assert api.delete("/api/queues/q").status_code == 200


def test_a_queue_with_jobs_is_not_deleted(api: Api) -> None:
    api.submit("q")
    answer = api.delete("/api/queues/q")
    assert (answer.status_code, answer.json["code"]) == (409, "CONFLICT")


def test_stats_are_flat_numbers(api: Api) -> None:
    api.submit("q")
    api.put(f"/api/jobs/{api.submit('q')}", {"status": "completed"})
    api.post("/api/queues/q/claim", {"workerId": "w1"})
    stats = api.get("/api/queues/q/stats").json
    assert (stats["active"], stats["completed"], stats["waiting"]) == (1, 1, 0)
    assert (stats["submittedTotal"], stats["completedTotal"], stats["workers"]) == (2, 1, 1)
    assert stats["oldestWaitingSeconds"] == 0
    assert [stats[f"{name}PerMinute"] for name in ("submitted", "completed", "failed")] == [2, 1, 0]


def test_workers_are_those_who_asked_lately(api: Api) -> None:
    api.post("/api/queues/a/claim", {"workerId": "w1"})
    api.post("/api/queues/b/claim", {"workerId": "w1"})
    api.post("/api/queues/a/claim", {"workerId": "w2"})
    api.post("/api/queues/claim", {"queues": ["c", "a"], "workerId": "w3"})
    workers = api.get("/api/workers").json["workers"]
    assert [(worker["id"], worker["kind"], worker["queues"], worker["jobs"]) for worker in workers] == [
        ("w1", "http", ["a", "b"], 0),
        ("w2", "http", ["a"], 0),
        ("w3", "http", ["a", "c"], 0),
    ]


def test_workers_show_how_many_jobs_they_hold(api: Api) -> None:
    # given one worker that claimed two jobs, one that took a named job, and one job of nobody with a name
    for _ in range(2):
        api.submit("a")
    api.post("/api/queues/a/claim", {"workerId": "w1", "limit": 2})
    named, ended = api.submit("b"), api.submit("b")
    api.put(f"/api/jobs/{named}", {"status": "started", "workerId": "w2"})
    api.put(f"/api/jobs/{api.submit('b')}", {"status": "started"})
    # when w2 also does another to its end
    api.put(f"/api/jobs/{ended}", {"status": "completed", "workerId": "w2"})
    # then each is listed with what it holds now
    workers = api.get("/api/workers").json["workers"]
    assert [(worker["id"], worker["queues"], worker["jobs"]) for worker in workers] == [
        ("w1", ["a"], 2),
        ("w2", ["b"], 1),
    ]
    assert all(worker["lastSeen"] for worker in workers)


def test_a_native_worker_stays_listed_as_one_while_it_holds_a_job(api: Api, world: World) -> None:
    api.submit("a")
    claim = jobs.claim(world.store, api.application_id, ["a"], worker_id="celery@host", kind="native")
    assert len(claim.jobs) == 1
    found = api.get("/api/workers").json["workers"]
    assert [(worker["id"], worker["kind"], worker["jobs"]) for worker in found] == [("celery@host", "native", 1)]
