"""What workers say beside PUT: many updates at once, heartbeats."""

from flask import Response

from api import batches, render
from api.answers import Answer
from api.context import application_id, respond, store
from api.guards import requires
from api.limits import reports_work
from api.reports import lease_ms
from api.resources.jobs import blp
from api.schemas import jobs as schemas
from api.views import Resource, body, body_doc, call, no_query
from mech_queue.model.application import Scope
from mech_queue.model.checks import Reader
from mech_queue.model.problems import Problems
from mech_queue.services import jobs

EXAMPLE = {"updates": [{"jobId": "0192f0c1-7b7e-7000-8000-000000000001", "status": "completed", "result": 42}]}


@blp.route("/api/jobs/updates")
class Updates(Resource):
    """Many reports at once."""

    @reports_work
    @requires(Scope.WORK)
    @blp.doc(**body_doc(schemas.UpdatesSchema(), EXAMPLE))
    @blp.response(200, schemas.BatchResultSchema())
    def post(self) -> Response:
        """Report up to 1,000 jobs in one call"""
        return respond(batches.report(call()))


@blp.route("/api/jobs/<job_id>/heartbeat")
class Heartbeat(Resource):
    """The lease of a running job."""

    @reports_work
    @requires(Scope.WORK)
    @blp.doc(**body_doc(schemas.HeartbeatSchema(), {"leaseToken": "…"}, required=False))
    @blp.response(200, schemas.HeartbeatAnswerSchema())
    def post(self, job_id: str) -> Response:
        """Renew the lease; the answer says whether the job was cancelled"""
        no_query()
        problems = Problems()
        reader = Reader(body().value, problems)
        reader.only(("leaseToken", "leaseSeconds"))
        token, length_ms = reader.key("leaseToken"), lease_ms(reader)
        problems.raise_any()
        beat = jobs.heartbeat(store(), application_id(), job_id, token, lease_ms=length_ms)
        text = b'{"success":true,"cancelled":%s,"leaseExpiresAt":%s}' % (
            b"true" if beat.cancelled else b"false",
            render.time(beat.lease_expires_ms),
        )
        return respond(Answer(200, text))
