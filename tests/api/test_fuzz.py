"""No input gives a 500: random bodies, queries, headers and paths through both lanes."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import Api, World

UNKNOWN = "0192f0c1-7b7e-7000-8000-000000000001"
NAMES = st.sampled_from(
    "queue data metadata webhooks task options priority delay runAt attempts backoff timeout expiresIn maxStalls "
    "retentionSeconds concurrencyKey dedupeKey dedupeTtl debounce dependsOn onParentFailure status progress result "
    "error leaseToken leaseSeconds workerId retry limit wait nonce queues updates jobs jobId ref lines action filter "
    "dryRun concurrency concurrencyPerKey rateLimit max perMs retention paused type maxDelay jitter * completed".split()
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(
        ["q", "started", "completed", "failed", "progress", UNKNOWN, "https://a.example/", "2030-01-01T00:00:00Z"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
BODIES = st.none() | st.binary(min_size=1, max_size=30) | st.dictionaries(NAMES, VALUES, max_size=5) | VALUES
QUERIES = st.dictionaries(
    st.sampled_from(["queue", "status", "limit", "cursor", "order", "wait", "metadata.k", "submittedAfter", "x"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    max_size=3,
)
ROUTES = [
    ("POST", "/api/jobs"),
    ("GET", "/api/jobs"),
    ("POST", "/api/jobs/batch"),
    ("POST", "/api/jobs/updates"),
    ("POST", "/api/jobs/actions"),
    ("PUT", "/api/jobs/{job}"),
    ("PATCH", "/api/jobs/{job}"),
    ("GET", "/api/jobs/{job}"),
    ("POST", "/api/jobs/{job}/webhook"),
    ("POST", "/api/jobs/{job}/heartbeat"),
    ("POST", "/api/jobs/{job}/logs"),
    ("GET", "/api/jobs/{job}/logs"),
    ("PATCH", "/api/queues/q"),
    ("GET", "/api/queues"),
    ("POST", "/api/queues/q/claim"),
    ("POST", "/api/queues/claim"),
]


@pytest.mark.parametrize("lane", ["app", "plain"])
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_input_is_an_accident(world: World, lane: str, data: Any) -> None:
    api = _client(world, lane)
    method, path = data.draw(st.sampled_from(ROUTES))
    body, query = data.draw(BODIES), data.draw(QUERIES)
    if isinstance(body, dict) and "wait" in body:
        body["wait"] = 0
    query.pop("wait", None)
    job_id = api.submit("q") if "{job}" in path else ""
    answer: Any = api.client.open(
        path.replace("{job}", job_id),
        method=method,
        query_string=query or None,
        **({"data": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}),
        headers={**api.headers, **({"Content-Type": "application/json"} if isinstance(body, bytes) else {})},
    )
    assert answer.status_code < 500, answer.text
    assert answer.is_json
    assert answer.get_json()["success"] is (answer.status_code < 400)


_CLIENTS: dict[tuple[int, str], Api] = {}


def _client(world: World, lane: str) -> Api:
    key = (id(world), lane)
    if key not in _CLIENTS:
        _CLIENTS[key] = world.application(getattr(world, lane))
    return _CLIENTS[key]
