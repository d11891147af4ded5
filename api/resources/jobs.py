"""Jobs: submit, batch, list, get, change, delete."""

from flask import Response
from flask_smorest import Blueprint

from api import batches, render
from api.answers import Answer, ok
from api.context import application_id, respond, store
from api.guards import requires
from api.hot import jobs as hot
from api.limits import reports_work
from api.queries import job_query
from api.resources.examples import BATCH, SUBMISSION
from api.schemas import jobs as schemas
from api.views import Resource, body, body_doc, call, no_query, query, query_doc
from mech_queue.model import metadata
from mech_queue.model.application import Scope
from mech_queue.model.checks import Reader
from mech_queue.model.problems import Problems
from mech_queue.model.submission import PRIORITY_MAX, PRIORITY_MIN
from mech_queue.services import jobs

blp = Blueprint("jobs", __name__, description="Submit jobs, find them, change them.")

LIST_QUERY = query_doc(
    ("queue", "Only this queue."),
    ("status", "Comma list of waiting, delayed, active, completed, failed, cancelled."),
    ("metadata.<key>", "metadata.k=3 finds the number 3 and the string 3; quotes find the string only."),
    ("task", "Only jobs of this native task."),
    ("submittedAfter", "ISO-8601, inclusive."),
    ("submittedBefore", "ISO-8601, exclusive."),
    ("order", "asc or desc by submission; default desc. One queue and status=waiting: as workers get them."),
    ("limit", "1 to 1,000; default 100. Applies after all filters."),
    ("cursor", "nextCursor of the page before."),
)


@blp.route("/api/jobs")
class Jobs(Resource):
    """The jobs of the caller's application."""

    @requires(Scope.SUBMIT)
    @blp.doc(
        **body_doc(schemas.SubmissionSchema(), SUBMISSION),
        parameters=[{"in": "header", "name": "Idempotency-Key", "schema": {"type": "string", "maxLength": 255}}],
    )
    @blp.response(201, schemas.SubmittedSchema())
    @blp.alt_response(200, schema=schemas.SubmittedSchema(), description="Deduplicated: the first job's id")
    def post(self) -> Response:
        """Submit a job"""
        return respond(hot.submit(call()))

    @requires(Scope.READ)
    @blp.doc(**LIST_QUERY)
    @blp.response(200, schemas.JobsAnswerSchema())
    def get(self) -> Response:
        """List jobs by queue, status, metadata, time"""
        page = jobs.search(store(), application_id(), job_query(query()))
        return respond(Answer(200, render.jobs(page.jobs, page.next_cursor)))


@blp.route("/api/jobs/batch")
class Batch(Resource):
    """Many jobs at once."""

    @requires(Scope.SUBMIT)
    @blp.doc(**body_doc(schemas.BatchSchema(), BATCH))
    @blp.response(200, schemas.BatchResultSchema())
    def post(self) -> Response:
        """Submit up to 1,000 jobs; one bad item does not spoil the rest"""
        return respond(batches.submit(call()))


@blp.route("/api/jobs/<job_id>")
class Job(Resource):
    """One job."""

    @requires(Scope.READ)
    @blp.doc(**query_doc(("wait", "Answer as soon as the job ends, at the latest after 0 to 30 seconds.")))
    @blp.response(200, schemas.JobAnswerSchema())
    def get(self, job_id: str) -> Response:
        """Get a job"""
        return respond(hot.get(call(job_id)))

    @requires(Scope.SUBMIT)
    @blp.doc(**body_doc(schemas.ChangeSchema(), {"priority": 10}))
    @blp.response(200, schemas.JobAnswerSchema())
    def patch(self, job_id: str) -> Response:
        """Change priority, time or metadata of a job that waits"""
        no_query()
        parsed, problems = body(), Problems()
        reader = Reader(parsed.value, problems)
        reader.only(("priority", "runAt", "metadata"))
        priority = reader.integer("priority", PRIORITY_MIN, PRIORITY_MAX)
        run_at_ms = reader.time("runAt")
        patch = parsed.value.get("metadata")
        if patch is not None and (sentence := metadata.problem_of(patch)):
            problems.add("metadata", sentence)
        if not problems and priority is None and run_at_ms is None and patch is None:
            problems.add("", "must have at least one of: priority, runAt, metadata")
        problems.raise_any()
        record = jobs.change(store(), application_id(), job_id, priority=priority, run_at_ms=run_at_ms, metadata=patch)
        return respond(Answer(200, b'{"success":true,"job":%s}' % render.job(record)))

    @reports_work
    @requires(Scope.WORK)
    @blp.doc(**body_doc(schemas.ReportSchema(), {"status": "progress", "progress": 50}))
    @blp.response(200, schemas.ReportedSchema())
    def put(self, job_id: str) -> Response:
        """Report work: started, progress, completed, failed"""
        return respond(hot.report(call(job_id)))

    @requires(Scope.SUBMIT)
    @blp.response(200, schemas.DoneSchema())
    def delete(self, job_id: str) -> Response:
        """Delete a job that waits or has ended (active: 409)"""
        no_query()
        jobs.delete(store(), application_id(), job_id)
        return respond(ok(message=f"Job {job_id} deleted"))
