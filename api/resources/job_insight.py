"""Looking into a job: why it does not run, and its log."""

from flask import Response

from api.answers import ok
from api.context import application_id, respond, store
from api.guards import requires
from api.limits import reports_work
from api.queries import limit_of
from api.resources.jobs import blp
from api.schemas import operations as schemas
from api.views import PAGING, Resource, body, body_doc, no_query, query
from mech_queue.model.application import Scope
from mech_queue.model.checks import Reader
from mech_queue.model.problems import Problems
from mech_queue.model.times import iso
from mech_queue.services import explaining, jobs

MAX_LINES = 100
MAX_LINE = 4_096


@blp.route("/api/jobs/<job_id>/explain")
class Explain(Resource):
    """Why a job is not running."""

    @requires(Scope.READ)
    @blp.response(200, schemas.ExplanationSchema())
    def get(self, job_id: str) -> Response:
        """Why the job is not running, in words and codes"""
        no_query()
        found = explaining.explain(store(), application_id(), job_id)
        reasons = [
            {"code": reason.code, "message": reason.message, "details": reason.details} for reason in found.reasons
        ]
        return respond(ok(jobId=job_id, status=found.state.value, reasons=reasons))


@blp.route("/api/jobs/<job_id>/logs")
class Logs(Resource):
    """The log of a job: its newest 1,000 lines."""

    @reports_work
    @requires(Scope.WORK)
    @blp.doc(**body_doc(schemas.LinesSchema(), {"lines": ["half way"]}))
    @blp.response(200, schemas.LinesAnswerSchema())
    def post(self, job_id: str) -> Response:
        """Append lines to the job's log"""
        no_query()
        problems = Problems()
        lines = problems.texts("lines", problems.object("", body().value, ("lines",)).get("lines"), MAX_LINES)
        for position, line in enumerate(lines):
            if len(line) > MAX_LINE:
                problems.add(f"lines.{position}", f"must have at most {MAX_LINE} characters")
        if not lines and not problems:
            problems.add("lines", "must have at least one line")
        problems.raise_any()
        return respond(ok(count=jobs.log(store(), application_id(), job_id, lines)))

    @requires(Scope.READ)
    @blp.doc(**PAGING)
    @blp.response(200, schemas.LogsAnswerSchema())
    def get(self, job_id: str) -> Response:
        """Read the job's log, oldest line first"""
        given, problems = query(), Problems()
        Reader(dict(given), problems).only(("limit", "cursor"))
        limit = limit_of(given, problems)
        cursor = given.get("cursor", "0")
        if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 9):
            problems.add("cursor", "is not a cursor of this service")
        problems.raise_any()
        first, found = jobs.logs(store(), application_id(), job_id, int(cursor), limit + 1)
        lines = [{"at": iso(ms), "line": line} for ms, line in found[:limit]]
        more = str(first + limit) if len(found) > limit else None
        return respond(ok(logs=lines, count=len(lines), nextCursor=more))
