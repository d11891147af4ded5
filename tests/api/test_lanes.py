"""One corpus through both lanes: the hot one in front of Flask and Flask itself must answer alike."""

import re
from typing import Any

import pytest

from tests.api.conftest import Api, World

UNKNOWN = "0192f0c1-7b7e-7000-8000-000000000001"
JSON = {"Content-Type": "application/json"}
UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
TOKEN = re.compile(rb'"leaseToken":"[^"]+"')
VOLATILE = {"X-RateLimit-Remaining", "X-RateLimit-Reset", "Location", "Date"}

Step = tuple[str, str, bytes | None, dict[str, str]]

CORPUS: list[Step] = [
    ("POST", "/api/jobs", b'{"queue":"q","data":{"a":[1,  2]},"metadata":{"k":1}}', JSON),
    ("POST", "/api/jobs", b'{"queue":"q","data":1}', {**JSON, "Idempotency-Key": "k"}),
    ("POST", "/api/jobs", b'{"queue":"q","data":1}', {**JSON, "Idempotency-Key": "k"}),
    ("POST", "/api/jobs", b'{"queue":"q","data":2}', {**JSON, "Idempotency-Key": "k"}),
    ("POST", "/api/jobs", b'{"queue":"q","data":2}', {**JSON, "Idempotency-Key": "k" * 300}),
    ("POST", "/api/jobs", None, {}),
    ("POST", "/api/jobs", None, JSON),
    ("POST", "/api/jobs", b"{}", {}),
    ("POST", "/api/jobs", b"{}", {"Content-Type": "text/plain; x='"}),
    ("POST", "/api/jobs", b"{", JSON),
    ("POST", "/api/jobs", b"[]", JSON),
    ("POST", "/api/jobs?x=1", b'{"queue":"q","data":1}', JSON),
    ("POST", "/api/jobs", b" " * 1_048_577, JSON),
    ("POST", "/api/jobs", b"{}", {**JSON, "x-api-key": "sk_wrong"}),
    ("POST", "/api/jobs", b"{}", {**JSON, "x-api-key": ""}),
    ("POST", "/api/jobs", b"{}", {**JSON, "X-Application-Id": "app-x"}),
    ("POST", "/api/jobs", b"{}", {**JSON, "X-Request-Id": "mine-1"}),
    ("POST", "/api/jobs", b"{}", {**JSON, "X-Request-Id": "no good"}),
    ("GET", "/api/jobs/{job}", None, {}),
    ("GET", "/api/jobs/{job}?wait=0", None, {}),
    ("GET", "/api/jobs/{job}?wait=x", None, {}),
    ("GET", "/api/jobs/{job}?a=1", None, {}),
    ("GET", "/api/jobs/{job}?a=1&a=1", None, {}),
    ("GET", "/api/jobs/{job}?%FF=1", None, {}),
    ("GET", f"/api/jobs/{UNKNOWN}", None, {}),
    ("GET", "/api/jobs/{job}".upper().replace("/API/JOBS/{JOB}", "/api/jobs/{JOB}"), None, {}),
    ("GET", "/api/jobs/nonsense", None, {}),
    ("HEAD", "/api/jobs/{job}", None, {}),
    ("PUT", "/api/jobs/{job}", b'{"status":"started","workerId":"w"}', JSON),
    ("PUT", "/api/jobs/{job}", b'{"status":"started"}', JSON),
    ("PUT", "/api/jobs/{job}", b'{"status":"failed","error":"409"}', JSON),
    ("PUT", "/api/jobs/{job}", b'{"status":"progress","progress":{"a":[]}}', JSON),
    ("PUT", "/api/jobs/{job}", b'{"status":"done"}', JSON),
    ("PUT", "/api/jobs/{job}", b"[]", JSON),
    ("PUT", "/api/jobs/{job}", None, {}),
    ("PUT", "/api/jobs/{job}", b"{}", {}),
    ("PUT", "/api/jobs/{job}?x", b'{"status":"progress"}', JSON),
    ("PUT", "/api/jobs/{job}", b'{"status":"completed","result":[ ]}', JSON),
    ("PUT", "/api/jobs/{job}", b'{"status":"completed","result":[ ]}', JSON),
    ("PUT", "/api/jobs/{job}", b'{"status":"failed"}', JSON),
    ("PUT", f"/api/jobs/{UNKNOWN}", b'{"status":"completed"}', JSON),
    ("PUT", "/api/jobs/{job}", b"{}", {**JSON, "x-api-key": "sk_wrong"}),
    ("GET", "/api/jobs/{job}", None, {}),
    ("POST", "/api/queues/q/claim", b'{"limit":5,"workerId":"w"}', JSON),
    ("POST", "/api/queues/q/claim", None, {}),
    ("POST", "/api/queues/q/claim", b'{"limit":500}', JSON),
    ("POST", "/api/queues/q/claim", b"nonsense", JSON),
    ("POST", "/api/queues/a%20b/claim", b"{}", JSON),
    ("POST", "/api/queues/%C3%A9/claim", b"{}", JSON),
    ("GET", "/api/queues/q/claim", None, {}),
    ("POST", "/api/queues/claim", b'{"queues":["q","r"],"limit":2}', JSON),
    ("POST", "/api/queues/claim", b'{"queues":[]}', JSON),
    ("GET", "/api/queues/claim", None, {}),
    ("DELETE", "/api/jobs", None, {}),
    ("OPTIONS", "/api/jobs", None, {}),
    ("POST", "/api/jobs/{job}", None, {}),
]


def _play(api: Api) -> list[tuple[Step, int, dict[str, str], bytes]]:
    job_id, seen = "", []
    for step in CORPUS:
        method, path, body, headers = step
        path = path.replace("{job}", job_id).replace("{JOB}", job_id.upper())
        answer: Any = api.client.open(path, method=method, data=body, headers={**api.headers, **headers})
        if not job_id:
            job_id = answer.json["jobId"]
        shown = {name: value for name, value in answer.headers.items() if name not in VOLATILE}
        if headers.get("X-Request-Id") != "mine-1":
            shown["X-Request-Id"] = "*"
        text = re.sub(rb'"requestId":"(?!mine-1)[^"]+"', b'"requestId":"*"', answer.data)
        text = TOKEN.sub(b'"leaseToken":"*"', TIME.sub(b"TIME", UUID.sub(b"UUID", text)))
        seen.append((step, answer.status_code, dict(sorted(shown.items())), text))
    return seen


def test_both_lanes_answer_alike(world: World) -> None:
    hot, plain = _play(world.application(world.app)), _play(world.application(world.plain))
    for through_lane, through_flask in zip(hot, plain, strict=True):
        assert through_lane == through_flask
    statuses = {status for _, status, _, _ in hot}
    assert statuses >= {200, 201, 400, 401, 403, 404, 405, 409, 413, 415, 422}


def test_the_hot_lane_is_really_used(world: World) -> None:
    api = world.application()
    calls: list[str] = []
    inner = world.app.wsgi_app

    def flask(environ: dict[str, Any], start_response: Any) -> Any:
        calls.append(environ["PATH_INFO"])
        return world.plain.wsgi_app(environ, start_response)

    lane: Any = inner
    fallback, lane._fallback = lane._fallback, flask
    try:
        job_id = api.submit("q")
        api.job(job_id)
        api.put(f"/api/jobs/{job_id}", {"status": "started"})
        api.post("/api/queues/q/claim")
        assert calls == []
        api.get("/api/jobs")
        assert calls == ["/api/jobs"]
    finally:
        lane._fallback = fallback


@pytest.mark.parametrize("lane", ["app", "plain"])
def test_every_answer_is_counted_and_carries_the_same_headers(world: World, lane: str) -> None:
    api = world.application(getattr(world, lane))
    answer = api.post("/api/jobs", {"queue": "q", "data": 1})
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-RateLimit-Limit"] == "60000"
    assert answer.headers["X-RateLimit-Remaining"] == "59999"
    assert int(answer.headers["X-RateLimit-Reset"]) > 1_700_000_000
    assert "Retry-After" not in answer.headers
