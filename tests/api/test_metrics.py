"""HTTP metrics: both lanes count, and the counts of all processes meet in the store."""

import json
from typing import Any

from api.app import runtime_of
from api.metrics import DURATION, TOTAL
from tests.api.conftest import World


def _count(found: dict[str, float], sample: str, **labels: str) -> float:
    return found.get(json.dumps([sample, labels], separators=(",", ":"), sort_keys=True), 0.0)


def test_hot_routes_and_flask_routes_are_counted_alike(make_world: Any) -> None:
    world: World = make_world()
    for app in (world.app, world.plain):
        api = world.application(app)
        job_id = api.submit("q")
        api.get(f"/api/jobs/{job_id}")
        api.get("/api/jobs/nonsense")
        api.get("/api/jobs")
        api.get("/nowhere/else")
        api.post("/api/jobs", {})
        found = runtime_of(app).metrics.samples()
        for method, route, status, count in (
            ("POST", "/api/jobs", "201", 1),
            ("POST", "/api/jobs", "422", 1),
            ("GET", "/api/jobs/<job_id>", "200", 1),
            ("GET", "/api/jobs/<job_id>", "404", 1),
            ("GET", "/api/jobs", "200", 1),
            ("GET", "unmatched", "404", 1),
        ):
            assert _count(found, f"{DURATION}_count", method=method, route=route, status=status) == count, route
        assert _count(found, TOTAL, method="GET", status="404") == 2


def test_no_label_holds_what_callers_invent(make_world: Any) -> None:
    world: World = make_world()
    api = world.application()
    job_id = api.submit("invented-name")
    api.get(f"/api/jobs/{job_id}/explain")
    api.get("/api/queues/invented-name")
    api.client.open("/api/jobs", method="INVENTED")
    text = "".join(runtime_of(world.app).metrics.samples())
    assert job_id not in text
    assert "invented-name" not in text
    assert "INVENTED" not in text


def test_a_flush_adds_what_is_new_to_the_sums_of_all_processes(make_world: Any) -> None:
    # given two processes on one store
    world: World = make_world()
    one, two = world.application(world.app), world.application(world.plain)
    first, second = runtime_of(world.app).metrics, runtime_of(world.plain).metrics
    # when both count and flush, one of them twice
    one.submit("q")
    first.flush(world.store)
    one.submit("q")
    two.submit("q")
    first.flush(world.store)
    second.flush(world.store)
    first.flush(world.store)
    # then the store has each request once
    found = world.store.metrics.http()
    assert _count(found, TOTAL, method="POST", status="201") == 3
    assert _count(found, f"{DURATION}_count", method="POST", route="/api/jobs", status="201") == 3
    buckets = json.dumps(
        [f"{DURATION}_bucket", {"le": "+Inf", "method": "POST", "route": "/api/jobs", "status": "201"}]
    )
    assert found[json.dumps(json.loads(buckets), separators=(",", ":"), sort_keys=True)] == 3


def test_what_could_not_be_flushed_goes_with_the_next(make_world: Any) -> None:
    world: World = make_world()
    metrics = runtime_of(world.app).metrics
    api = world.application()
    api.submit("q")
    right, world.store.redis = world.store.redis, None
    metrics._try_flush(world.store)
    world.store.redis = right
    metrics.flush(world.store)
    assert _count(world.store.metrics.http(), TOTAL, method="POST", status="201") == 1
