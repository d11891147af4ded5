"""GET /api/workers: who was seen lately."""

from flask import Response
from flask_smorest import Blueprint

from api.answers import ok
from api.context import application_id, respond, store
from api.guards import requires
from api.paging import page_of
from api.schemas.queues import WorkersAnswerSchema
from api.views import PAGING, Resource, query
from mech_queue.model.application import Scope
from mech_queue.model.times import iso
from mech_queue.services import workers

blp = Blueprint("workers", __name__, description="Workers that asked for work lately.")


@blp.route("/api/workers")
class Workers(Resource):
    """The workers of the caller's application."""

    @requires(Scope.READ)
    @blp.doc(**PAGING)
    @blp.response(200, WorkersAnswerSchema())
    def get(self) -> Response:
        """List workers that asked or waited for work within the last five minutes, or hold jobs"""
        seen = workers.list_(store(), application_id())
        page, cursor = page_of(query(), seen, lambda worker: worker.id)
        listed = [
            {
                "id": worker.id,
                "kind": worker.kind,
                "queues": sorted(worker.queues),
                "jobs": worker.jobs,
                "lastSeen": iso(worker.last_seen_ms),
            }
            for worker in page
        ]
        return respond(ok(workers=listed, count=len(listed), nextCursor=cursor))
