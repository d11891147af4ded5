"""Queues: list, settings, numbers, pause, purge."""

from flask import Response
from flask_smorest import Blueprint

from api.answers import ok
from api.auth import demand_queue
from api.context import application_id, caller, respond, store
from api.guards import requires
from api.hot import queues as hot
from api.paging import page_of
from api.queue_settings import parse_patch, to_json
from api.resources.examples import CLAIM
from api.schemas import queues as schemas
from api.views import PAGING, Resource, body, body_doc, call, no_fields, no_query, query
from mech_queue.model.application import Scope
from mech_queue.model.problems import invalid
from mech_queue.model.queue import QueueRecord
from mech_queue.model.submission import check_queue
from mech_queue.services import queues

blp = Blueprint("queues", __name__, description="Settings and numbers of queues; claiming work.")


def _answer(record: QueueRecord) -> Response:
    return respond(ok(queue=to_json(record)))


@blp.route("/api/queues")
class Queues(Resource):
    """The queues of the caller's application."""

    @requires(Scope.READ)
    @blp.doc(**PAGING)
    @blp.response(200, schemas.QueuesAnswerSchema())
    def get(self) -> Response:
        """List queues, by name"""
        page, cursor = page_of(query(), queues.names(store(), application_id()), str)
        found = queues.get_many(store(), application_id(), page)
        return respond(ok(queues=[to_json(record) for record in found], count=len(found), nextCursor=cursor))


@blp.route("/api/queues/<queue>")
class Queue(Resource):
    """One queue."""

    @requires(Scope.READ)
    @blp.response(200, schemas.QueueAnswerSchema())
    def get(self, queue: str) -> Response:
        """Get a queue: settings and counts"""
        no_query()
        return _answer(queues.get(store(), application_id(), queue))

    @requires(Scope.ADMIN)
    @blp.doc(
        **body_doc(
            schemas.QueueSettingsSchema(), {"concurrency": 10, "rateLimit": {"max": 100, "perMs": 1000}}, required=False
        )
    )
    @blp.response(200, schemas.QueueAnswerSchema())
    def patch(self, queue: str) -> Response:
        """Change settings of a queue (creates it)"""
        no_query()
        sentence = check_queue(queue)
        if sentence:
            raise invalid("queue", sentence)
        demand_queue(caller(), queue)
        patch = parse_patch(body().value)
        return _answer(queues.change(store(), application_id(), queue, patch))

    @requires(Scope.ADMIN)
    @blp.response(200, schemas.PurgedSchema())
    def delete(self, queue: str) -> Response:
        """Forget an empty queue"""
        no_query()
        queues.delete(store(), application_id(), queue)
        return respond(ok(message=f"Queue {queue} deleted"))


@blp.route("/api/queues/<queue>/stats")
class Stats(Resource):
    """Numbers of a queue."""

    @requires(Scope.READ)
    @blp.response(200, schemas.StatsAnswerSchema())
    def get(self, queue: str) -> Response:
        """Flat numbers for an autoscaler"""
        no_query()
        found = queues.stats(store(), application_id(), queue)
        return respond(
            ok(
                queue=queue,
                **found.counts,
                oldestWaitingSeconds=(found.oldest_waiting_ms or 0) / 1000,
                workers=found.workers,
                submittedTotal=found.submitted_total,
                completedTotal=found.completed_total,
                failedTotal=found.failed_total,
                **{f"{name}PerMinute": number for name, number in found.last_minute.items()},
            )
        )


@blp.route("/api/queues/<queue>/pause")
class Pause(Resource):
    """Start nothing more."""

    @requires(Scope.ADMIN)
    @blp.response(200, schemas.QueueAnswerSchema())
    def post(self, queue: str) -> Response:
        """Start nothing more; what runs goes on"""
        no_fields()
        queues.get(store(), application_id(), queue)
        return _answer(queues.pause(store(), application_id(), queue))


@blp.route("/api/queues/<queue>/resume")
class Resume(Resource):
    """Go on."""

    @requires(Scope.ADMIN)
    @blp.response(200, schemas.QueueAnswerSchema())
    def post(self, queue: str) -> Response:
        """Undo pause and drain"""
        no_fields()
        queues.get(store(), application_id(), queue)
        return _answer(queues.resume(store(), application_id(), queue))


@blp.route("/api/queues/<queue>/drain")
class Drain(Resource):
    """Accept nothing more."""

    @requires(Scope.ADMIN)
    @blp.response(200, schemas.QueueAnswerSchema())
    def post(self, queue: str) -> Response:
        """Refuse new jobs, finish the rest"""
        no_fields()
        queues.get(store(), application_id(), queue)
        return _answer(queues.drain(store(), application_id(), queue))


@blp.route("/api/queues/<queue>/purge")
class Purge(Resource):
    """Drop what waits."""

    @requires(Scope.ADMIN)
    @blp.response(202, schemas.PurgedSchema())
    def post(self, queue: str) -> Response:
        """Drop what waits (also delayed jobs), in the background"""
        no_fields()
        count = queues.purge(store(), application_id(), queue)
        return respond(ok(202, message=f"Queue {queue} is being purged", count=count))


@blp.route("/api/queues/<queue>/claim")
class Claim(Resource):
    """Take work from one queue."""

    @requires(Scope.WORK)
    @blp.doc(**body_doc(schemas.ClaimSchema(), CLAIM, required=False))
    @blp.response(200, schemas.ClaimAnswerSchema())
    def post(self, queue: str) -> Response:
        """Claim the next jobs; waits (long poll) when there are none"""
        return respond(hot.claim(call(queue)))


@blp.route("/api/queues/claim")
class ManyClaim(Resource):
    """Take work from several queues."""

    @requires(Scope.WORK)
    @blp.doc(**body_doc(schemas.ManyClaimSchema(), {"queues": ["urgent", "email"], **CLAIM}))
    @blp.response(200, schemas.ClaimAnswerSchema())
    def post(self) -> Response:
        """Claim from several queues, in order of preference"""
        return respond(hot.claim_many(call()))
