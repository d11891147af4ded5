"""The API keeps to its own document, whatever is sent: schemathesis with all its checks, and no 5xx.

``make fuzz`` is the long form: ``FUZZ_CASES`` random cases, and each border of each schema.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from api.app import runtime_of
from tests.api.conftest import MASTER_KEY, World

CASES = int(os.environ.get("FUZZ_CASES", "140"))
LONG = CASES > 1000

CONFIG = {
    "phases": {"coverage": {"enabled": LONG}},  # each border of each schema: some 4,500 cases more
    "checks": {
        # what fits the document may contradict itself (a delay beside runAt), or name a cursor of nobody: 422
        "positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "404", "409", "422"]},
    },
    "operations": [
        # one bad item does not spoil the others: the answer is 200, and says so per item
        {"include-path": path, "checks": {"negative_data_rejection": {"enabled": False}}}
        for path in ("/api/jobs/batch", "/api/jobs/updates")
    ]
    + [
        # also the id of a job or the name of a queue may be written there, so Allow names the methods of those
        {"include-path": path, "checks": {"allow_header_conformance": {"enabled": False}}}
        for path in ("/api/jobs/batch", "/api/jobs/updates", "/api/jobs/actions", "/api/queues/claim")
    ],
}
WORLDS: list[World] = []
"""The last one answers; the document is read before there is any."""


def answering(environ: Any, start_response: Any) -> Any:
    """The API, as WSGI."""
    return WORLDS[-1].app(environ, start_response)


DOCUMENT = schemathesis.openapi.from_path(
    Path(__file__).parents[2] / "docs" / "openapi.json", config=schemathesis.Config.from_dict(CONFIG)
)
DOCUMENT.app = answering
EXAMPLES = max(1, CASES // sum(1 for _ in DOCUMENT.get_all_operations()))


@pytest.fixture(scope="module")
def keys(make_world: Callable[..., World]) -> Iterator[Callable[[str], dict[str, str]]]:
    """What opens a path, in a world without rate limit where nobody else may wait: no poll, no stream takes time."""
    world = make_world(rate_limit_max_requests=10**9, max_waiters=1)
    assert runtime_of(world.app).waiters.enter()
    WORLDS.append(world)
    own, master = world.application(), {"x-api-key": MASTER_KEY}
    yield lambda path: master if path.startswith("/api/applications") else own.headers
    assert own.get("/api/jobs").status_code == 200, "the key was revoked on the way: what came then was only 401"


@DOCUMENT.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented(case: Any, keys: Callable[[str], dict[str, str]]) -> None:
    case.call_and_validate(headers=keys(case.operation.path))
