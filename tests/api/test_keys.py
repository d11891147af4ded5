"""Who may do what: keys, scopes, the master key, errors in one envelope."""

from typing import Any

import pytest

from mech_queue.model.application import Scope
from tests.api.conftest import MASTER_KEY, Api, World

UNKNOWN = "0192f0c1-7b7e-7000-8000-000000000001"

NEEDS: dict[tuple[str, str], Scope] = {
    ("POST", "/api/jobs"): Scope.SUBMIT,
    ("POST", "/api/jobs/batch"): Scope.SUBMIT,
    ("POST", "/api/jobs/actions"): Scope.SUBMIT,
    ("PATCH", f"/api/jobs/{UNKNOWN}"): Scope.SUBMIT,
    ("DELETE", f"/api/jobs/{UNKNOWN}"): Scope.SUBMIT,
    ("POST", f"/api/jobs/{UNKNOWN}/cancel"): Scope.SUBMIT,
    ("POST", f"/api/jobs/{UNKNOWN}/retry"): Scope.SUBMIT,
    ("POST", f"/api/jobs/{UNKNOWN}/promote"): Scope.SUBMIT,
    ("PUT", f"/api/jobs/{UNKNOWN}"): Scope.WORK,
    ("POST", "/api/jobs/updates"): Scope.WORK,
    ("POST", f"/api/jobs/{UNKNOWN}/heartbeat"): Scope.WORK,
    ("POST", f"/api/jobs/{UNKNOWN}/logs"): Scope.WORK,
    ("POST", "/api/queues/q/claim"): Scope.WORK,
    ("POST", "/api/queues/claim"): Scope.WORK,
    ("GET", "/api/jobs"): Scope.READ,
    ("GET", f"/api/jobs/{UNKNOWN}"): Scope.READ,
    ("GET", f"/api/jobs/{UNKNOWN}/logs"): Scope.READ,
    ("GET", f"/api/jobs/{UNKNOWN}/explain"): Scope.READ,
    ("GET", "/api/queues"): Scope.READ,
    ("GET", "/api/queues/q"): Scope.READ,
    ("GET", "/api/queues/q/stats"): Scope.READ,
    ("GET", "/api/workers"): Scope.READ,
    ("GET", "/api/operations/x"): Scope.READ,
    ("POST", f"/api/jobs/{UNKNOWN}/webhook"): Scope.WEBHOOKS,
    ("PATCH", "/api/queues/q"): Scope.ADMIN,
    ("DELETE", "/api/queues/q"): Scope.ADMIN,
    ("POST", "/api/queues/q/pause"): Scope.ADMIN,
    ("POST", "/api/queues/q/resume"): Scope.ADMIN,
    ("POST", "/api/queues/q/drain"): Scope.ADMIN,
    ("POST", "/api/queues/q/purge"): Scope.ADMIN,
}


@pytest.fixture(scope="module")
def by_scope(world: World) -> dict[Scope, Api]:
    """A key with exactly one scope, for each."""
    return {scope: world.application(scopes=frozenset({scope})) for scope in Scope}


@pytest.mark.parametrize(("method", "path"), NEEDS, ids=lambda value: str(value))
def test_a_route_opens_for_its_scope_only(method: str, path: str, by_scope: dict[Scope, Api], anonymous: Api) -> None:
    needed = NEEDS[method, path]
    for scope, api in by_scope.items():
        answer = api.send(method, path)
        if scope is needed:
            assert answer.status_code not in (401, 403), answer.text
        else:
            assert (answer.status_code, answer.json["code"]) == (403, "FORBIDDEN"), scope
            assert answer.json["details"] == {"required": needed.value}
    answer = anonymous.send(method, path)
    assert (answer.status_code, answer.json["code"]) == (401, "UNAUTHENTICATED")


def test_a_bearer_key_is_as_good_as_x_api_key(world: World, api: Api) -> None:
    client = Api(world.app.test_client(), {"Authorization": f"Bearer {api.headers['x-api-key']}"})
    assert client.get("/api/jobs").status_code == 200
    client.headers = {"Authorization": f"Basic {api.headers['x-api-key']}"}
    assert client.get("/api/jobs").status_code == 401


@pytest.mark.parametrize("key", ["", "sk_", "sk_" + "x" * 43, "é", MASTER_KEY[:-1], MASTER_KEY + "x", "x" * 10_000])
def test_a_wrong_key_is_401(world: World, key: str) -> None:
    answer = Api(world.app.test_client(), {"x-api-key": key}).get("/api/jobs")
    assert (answer.status_code, answer.json["code"]) == (401, "UNAUTHENTICATED")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert key == "" or key not in answer.text or key == "sk_"


def test_the_master_key_acts_for_an_application(world: World, api: Api) -> None:
    job_id = api.submit()
    acting = world.master(**{"X-Application-Id": api.application_id})
    assert acting.job(job_id)["id"] == job_id
    assert world.master().get(f"/api/jobs/{job_id}").status_code == 404
    unknown = world.master(**{"X-Application-Id": "app-000000000000"})
    assert (unknown.get("/api/jobs").status_code, unknown.get("/api/jobs").json["code"]) == (404, "NOT_FOUND")


def test_the_master_key_works_on_the_built_in_application(world: World) -> None:
    master = world.master()
    job_id = master.submit("masters-own")
    assert master.get("/api/application").json["application"]["id"] == "master"
    assert master.job(job_id)["status"] == "waiting"


def test_another_key_may_not_name_an_application(api: Api, other: Api) -> None:
    for wanted in (other.application_id, api.application_id):
        answer = api.get("/api/jobs", X_Application_Id=wanted)
        assert (answer.status_code, answer.json["code"]) == (403, "FORBIDDEN")


def test_the_own_application_shows_settings_usage_and_key(world: World) -> None:
    api = world.application(max_concurrent_jobs=7)
    api.submit()
    shown: dict[str, Any] = api.get("/api/application").json["application"]
    assert shown["id"] == api.application_id
    assert (shown["settings"]["maxConcurrentJobs"], shown["usage"]["waiting"]) == (7, 1)
    assert shown["key"]["id"] == api.key_id
    assert api.headers["x-api-key"] not in str(shown)


def test_errors_have_one_shape_wherever_they_come_from(api: Api) -> None:
    for method, path, status, code in (
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", "/api/nowhere", 404, "NOT_FOUND"),
        ("PATCH", "/api/jobs", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/health", 405, "METHOD_NOT_ALLOWED"),
    ):
        answer = api.send(method, path)
        assert (answer.status_code, answer.json["code"]) == (status, code), path
        assert set(answer.json) == {"success", "error", "code", "details", "requestId"}
        assert answer.json["requestId"] == answer.headers["X-Request-Id"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "GET" in api.send("PATCH", "/api/jobs").headers["Allow"]


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_3", True), ("x" * 128, True), ("x" * 129, False), ("a b", False)]
)
def test_a_sane_request_id_is_kept(api: Api, given: str, kept: bool) -> None:
    for path in ("/api/jobs", f"/api/jobs/{UNKNOWN}", "/health/live"):
        answer = api.get(path, X_Request_Id=given)
        assert (answer.headers["X-Request-Id"] == given) is kept


def test_odd_paths_are_never_an_accident(api: Api) -> None:
    for path in (
        "/api/jobs/%ff%fe",
        "/api/jobs/" + "a" * 36,
        "/api/jobs/01234567-" + "%" * 10,
        "/api/jobs/%2e%2e/x",
        "/api/queues/" + "q" * 5000,
        "/api//jobs",
        "/%00",
        "/api/queues/%00/claim",
    ):
        for method in ("GET", "PUT", "POST", "DELETE"):
            answer = api.send(method, path)
            assert 400 <= answer.status_code < 500, (method, path, answer.text)
            assert answer.json["success"] is False


def test_no_cors_unless_configured(api: Api, make_world: Any) -> None:
    answer = api.get("/api/jobs", Origin="https://app.example")
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
    world = make_world(cors_origins=("https://app.example",))
    own = world.application()
    for path in ("/api/jobs", f"/api/jobs/{UNKNOWN}"):
        allowed = own.get(path, Origin="https://app.example")
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "Access-Control-Allow-Origin" not in own.get(path, Origin="https://evil.example").headers
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
    preflight = world.app.test_client().options(f"/api/jobs/{UNKNOWN}", headers=asked)
    assert preflight.status_code == 204
    assert "PUT" in preflight.headers["Access-Control-Allow-Methods"]
    assert "X-Api-Key" in preflight.headers["Access-Control-Allow-Headers"]
