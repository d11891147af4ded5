"""The lane in front of Flask: the hot routes and those that wait, answered without it at a third of the price.

Everything stays on: key, scope, limits, request id, metrics, the envelope. All other requests, and
all other methods of these addresses, go on to Flask.
"""

import logging
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from api import answers, auth, bodies, errors, limits
from api.answers import Answer
from api.call import Call
from api.hot import jobs, queues
from api.runtime import Runtime
from config import logging as log_config
from mech_queue.model.application import Scope
from mech_queue.model.errors import Refusal

log = logging.getLogger(__name__)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Handler = Callable[[Call], Answer]

STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Route(NamedTuple):
    """A hot route. ``counted``: the rate limit counts it (reports of work are never refused)."""

    rule: str
    scope: Scope
    counted: bool
    handler: Handler


SUBMIT = Route("/api/jobs", Scope.SUBMIT, True, jobs.submit)
GET = Route("/api/jobs/<job_id>", Scope.READ, True, jobs.get)
REPORT = Route("/api/jobs/<job_id>", Scope.WORK, False, jobs.report)
CLAIM = Route("/api/queues/<queue>/claim", Scope.WORK, True, queues.claim)
CLAIM_MANY = Route("/api/queues/claim", Scope.WORK, True, queues.claim_many)

_JOB = "/api/jobs/"
_JOB_LENGTH = len(_JOB) + 36
_QUEUE = "/api/queues/"


def find(method: str, path: str) -> tuple[Route, str] | None:
    """The hot route of a request and the variable part of its path."""
    if method == "POST":
        if path == "/api/jobs":
            return SUBMIT, ""
        if path == CLAIM_MANY.rule:
            return CLAIM_MANY, ""
        if path.startswith(_QUEUE) and path.endswith("/claim"):
            queue = path[len(_QUEUE) : -len("/claim")]
            return (CLAIM, queue) if queue and "/" not in queue else None
    elif method in ("GET", "PUT") and len(path) == _JOB_LENGTH and path.startswith(_JOB):
        job_id = path[len(_JOB) :]
        if job_id[8] == "-" and "/" not in job_id:
            return (GET if method == "GET" else REPORT), job_id
    return None


class HotLane:
    """The WSGI lane; ``fallback`` is Flask's own ``wsgi_app``."""

    def __init__(self, runtime: Runtime, fallback: WsgiApp) -> None:
        self._runtime = runtime
        self._fallback = fallback

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a hot route, or pass the request on."""
        found = find(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if found is None:
            return self._fallback(environ, start_response)
        status, headers, body = self.answer(*found, environ)
        start_response(STATUS_LINES[status], headers)
        return [body]

    def answer(self, route: Route, target: str, environ: dict[str, Any]) -> tuple[int, answers.Headers, bytes]:
        """Status, headers and body of a hot request, see ``find``."""
        began = time.perf_counter()
        request_id = answers.request_id_of(environ)
        log_config.bind_request(request_id)
        try:
            answer, headers = self._answer(route, target, environ, request_id)
        finally:
            log_config.unbind_request()
        headers += [("X-Request-Id", request_id), *answers.SAFE]
        if self._runtime.settings.cors_origins:
            headers += answers.cors_headers(self._runtime.settings.cors_origins, environ)
        headers.append(("Content-Length", str(len(answer.body))))
        method = environ["REQUEST_METHOD"]
        self._runtime.metrics.observe(method, route.rule, answer.status, time.perf_counter() - began)
        return answer.status, headers, answer.body

    def _answer(
        self, route: Route, target: str, environ: dict[str, Any], request_id: str
    ) -> tuple[Answer, answers.Headers]:
        headers: answers.Headers = [answers.JSON_TYPE]
        runtime = self._runtime
        try:
            caller = auth.authenticate(runtime, environ)
            if route.counted or caller is None:
                address = limits.address_of(environ, runtime.settings.trusted_proxy_hops)
                standing = limits.count(runtime, caller, address)
                headers += limits.headers_of(standing)
                if not standing.allowed:
                    raise limits.refusal_of(standing)
            caller = auth.demand(caller, route.scope)
            body = bodies.read_body(environ, runtime.settings.max_body_bytes)
            answer = route.handler(Call(runtime, caller, environ, body, target))
        except Refusal as refusal:
            answer = answers.refused(refusal, request_id)
        except Exception:
            log.exception("request failed")
            answer = answers.refused(errors.ACCIDENT, request_id)
        return answer, headers + answer.headers
