"""The OpenAPI document and Swagger UI."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from api.document import render
from api.guards import SCOPE
from api.resources import examples
from tests.api.conftest import Api, World

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.anonymous().get("/openapi.json").json
    return found


def test_the_committed_document_is_fresh() -> None:
    committed = (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8")
    assert committed == render(), "run: python -m api.document > docs/openapi.json"


def test_it_is_openapi_3_1_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        place: Any = document
        for part in reference.split("/"):
            place = place[part]


def test_every_route_is_documented_with_its_scope(document: dict[str, Any], world: World) -> None:
    seen = set()
    for rule in world.app.url_map.iter_rules():
        if not rule.rule.startswith(("/api", "/health")):
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            operation = document["paths"][path][method.lower()]
            assert operation["summary"], (method, path)
            assert operation["operationId"] not in seen
            seen.add(operation["operationId"])
            view = world.app.view_functions[rule.endpoint]
            function = getattr(getattr(view, "view_class", None), method.lower(), view)
            assert hasattr(function, SCOPE) is path.startswith("/api"), (method, path)


def test_the_examples_fit_their_schemas_and_work(document: dict[str, Any], api: Api) -> None:
    for path, name, example in (
        ("/api/jobs", "Submission", examples.SUBMISSION),
        ("/api/jobs/batch", "Batch", examples.BATCH),
        ("/api/queues/email/claim", "Claim", {**examples.CLAIM, "wait": 0}),
    ):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(example)
        assert api.post(path, example).status_code in (200, 201), path


def test_answers_fit_the_document(document: dict[str, Any], api: Api) -> None:
    job_id = api.submit(metadata={"a": 1}, webhooks={"failed": "https://a.example/"}, options={"attempts": 2})
    api.put(f"/api/jobs/{job_id}", {"status": "failed", "error": "x"})
    other = api.submit()
    api.submit()
    for path, name, answer in (
        ("/api/jobs/{job_id}", "get", api.get(f"/api/jobs/{job_id}")),
        ("/api/jobs", "get", api.get("/api/jobs")),
        ("/api/jobs/{job_id}", "put", api.put(f"/api/jobs/{other}", {"status": "progress", "progress": 5})),
        ("/api/queues/{queue}/claim", "post", api.post("/api/queues/email/claim", {"limit": 5})),
        ("/api/queues", "get", api.get("/api/queues")),
        ("/api/queues/{queue}/stats", "get", api.get("/api/queues/email/stats")),
        ("/api/workers", "get", api.get("/api/workers")),
        ("/api/jobs/{job_id}/explain", "get", api.get(f"/api/jobs/{job_id}/explain")),
        ("/api/application", "get", api.get("/api/application")),
        ("/health", "get", api.get("/health")),
    ):
        content = document["paths"][path][name]["responses"]["200"]["content"]["application/json"]["schema"]
        schema = {**content, "components": document["components"]}
        assert answer.status_code == 200, answer.text
        jsonschema.Draft202012Validator(schema).validate(answer.json)


def test_refusals_fit_the_document(document: dict[str, Any], api: Api) -> None:
    schema = {"$ref": "#/components/schemas/Error", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(api.post("/api/jobs", {}).json)


def test_swagger_ui_comes_from_our_own_files_under_a_strict_policy(anonymous: Api) -> None:
    page = anonymous.get("/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.findall(r"https?://", page.text)
    assert "<script>" not in page.text
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        answer = anonymous.get(path)
        assert answer.status_code == 200, path
        again = anonymous.get(path, If_None_Match=answer.headers["ETag"])
        assert (again.status_code, again.data) == (304, b""), path
    assert anonymous.get("/docs/../app.py").status_code == 404
    assert anonymous.get("/docs/LICENSE").status_code == 404


def test_the_vendored_bundle_is_the_one_that_was_reviewed() -> None:
    folder = ROOT / "api" / "static" / "swagger-ui"
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("swagger-ui*.*s*"))
    }
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert found == listed
    assert (folder / "LICENSE").read_text().lstrip().startswith("Apache License")
