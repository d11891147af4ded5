"""What owners do with a job: cancel, retry, promote, webhooks."""

from collections.abc import Callable
from typing import Any

from flask import Response

from api.answers import ok
from api.context import application_id, respond, store
from api.guards import requires
from api.resources.jobs import blp
from api.schemas import jobs as schemas
from api.views import Resource, body, body_doc, no_fields, no_query
from mech_queue.model.application import Scope
from mech_queue.model.job import State
from mech_queue.model.problems import Problems
from mech_queue.model.submission import parse_webhooks
from mech_queue.services import jobs


def _act(action: Callable[..., State], word: str, job_id: str) -> Response:
    no_fields()
    state = action(store(), application_id(), job_id)
    return respond(ok(message=f"Job {job_id} {word}", status=state.value))


@blp.route("/api/jobs/<job_id>/cancel")
class Cancel(Resource):
    """End a job."""

    @requires(Scope.SUBMIT)
    @blp.response(200, schemas.StateAnswerSchema())
    def post(self, job_id: str) -> Response:
        """End the job at once, in any unfinished state"""
        return _act(jobs.cancel, "cancelled", job_id)


@blp.route("/api/jobs/<job_id>/retry")
class Retry(Resource):
    """Run an ended job again."""

    @requires(Scope.SUBMIT)
    @blp.response(200, schemas.StateAnswerSchema())
    def post(self, job_id: str) -> Response:
        """Let an ended job wait again, with fresh attempts"""
        return _act(jobs.retry, "waits again", job_id)


@blp.route("/api/jobs/<job_id>/promote")
class Promote(Resource):
    """Do not wait for its time."""

    @requires(Scope.SUBMIT)
    @blp.response(200, schemas.StateAnswerSchema())
    def post(self, job_id: str) -> Response:
        """Let a delayed job wait for a worker now"""
        return _act(jobs.promote, "promoted", job_id)


@blp.route("/api/jobs/<job_id>/webhook")
class Webhook(Resource):
    """Who is told of this job."""

    @requires(Scope.WEBHOOKS)
    @blp.doc(**body_doc(schemas.WebhooksSchema(), {"webhooks": {"completed": "https://example.com/hook"}}))
    @blp.response(200, schemas.WebhooksAnswerSchema())
    def post(self, job_id: str) -> Response:
        """Register or change webhooks of an unfinished job; null removes one"""
        no_query()
        problems = Problems()
        given = problems.object("", body().value, ("webhooks",))
        patch: dict[str, Any] = {}
        if given.get("webhooks") is None:
            problems.add("webhooks", "is required: an object of event names and URLs")
        else:
            patch = parse_webhooks(given["webhooks"], problems, removable=True)
        problems.raise_any()
        webhooks = jobs.set_webhooks(store(), application_id(), job_id, patch)
        return respond(ok(message=f"Webhooks registered for job {job_id}", webhooks=webhooks))
