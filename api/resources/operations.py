"""Bulk actions on jobs, and how far they are."""

from typing import Any

from flask import Response
from flask_smorest import Blueprint

from api.answers import ok
from api.context import application_id, respond, store
from api.guards import requires
from api.queries import job_query
from api.schemas import operations as schemas
from api.views import Resource, body, body_doc, no_query
from mech_queue.model.application import Scope
from mech_queue.model.checks import Reader
from mech_queue.model.errors import Refusal
from mech_queue.model.problems import Problems
from mech_queue.model.query import JobQuery
from mech_queue.model.times import iso, iso_or_none
from mech_queue.services import operations

blp = Blueprint("operations", __name__, description="One action on many jobs.")

EXAMPLE = {"action": "retry", "filter": {"queue": "email", "status": "failed"}, "dryRun": True}


def _query(value: Any, problems: Problems) -> JobQuery:
    """The filter; values as in a query string, numbers and booleans as JSON writes them."""
    texts: dict[str, str] = {}
    if not isinstance(value, dict):
        problems.add("filter", "is required: an object, {} for all jobs")
        return JobQuery()
    for name, one in value.items():
        if isinstance(one, bool):
            texts[name] = "true" if one else "false"
        elif isinstance(one, str | int | float):
            texts[name] = str(one)
        else:
            problems.add(f"filter.{name}", "must be a string, a number, true or false")
    try:
        return job_query(texts, paging=False)
    except Refusal as refusal:
        for name, sentences in refusal.details.items():
            problems.add(f"filter.{name}", sentences[0])
        return JobQuery()


@blp.route("/api/jobs/actions")
class Actions(Resource):
    """One action on every job of a filter."""

    @requires(Scope.SUBMIT)
    @blp.doc(**body_doc(schemas.ActionsSchema(), EXAMPLE))
    @blp.response(202, schemas.ActionsAnswerSchema())
    @blp.alt_response(200, schema=schemas.ActionsAnswerSchema(), description="Dry run: the count")
    def post(self) -> Response:
        """Retry, cancel, delete or promote all jobs that a filter finds"""
        no_query()
        problems = Problems()
        reader = Reader(body().value, problems)
        reader.only(("action", "filter", "dryRun"))
        action = reader.choice("action", operations.ACTIONS)
        if reader.value.get("action") is None:
            problems.add("action", f"is required: one of {', '.join(operations.ACTIONS)}")
        dry_run = reader.boolean("dryRun")
        query = _query(reader.value.get("filter"), problems)
        problems.raise_any()
        if dry_run or action is None:
            return respond(ok(count=operations.count(store(), application_id(), query), dryRun=True))
        return respond(ok(202, operationId=operations.create(store(), application_id(), action, query)))


@blp.route("/api/operations/<operation_id>")
class Operation(Resource):
    """A bulk operation."""

    @requires(Scope.READ)
    @blp.response(200, schemas.OperationAnswerSchema())
    def get(self, operation_id: str) -> Response:
        """How far a bulk operation is"""
        no_query()
        found = operations.get(store(), application_id(), operation_id)
        shown = {
            "id": found.id,
            "action": found.action,
            "status": found.state,
            "done": found.done,
            "failed": found.failed,
            "createdAt": iso(found.created_ms),
            "endedAt": iso_or_none(found.ended_ms),
        }
        return respond(ok(operation=shown))
