"""Schedules: submit a job again and again, or once at a given time."""

from typing import Any

import msgspec
from flask import Response
from flask_smorest import Blueprint

from api.answers import ok
from api.auth import demand_queue
from api.context import application_id, caller, respond, store
from api.guards import requires
from api.queries import limit_of
from api.schemas import schedules as schemas
from api.schemas.jobs import DoneSchema, SubmittedSchema
from api.views import PAGING, Resource, body, body_doc, no_fields, no_query, query, query_doc
from mech_queue.model.application import Scope
from mech_queue.model.checks import Reader
from mech_queue.model.ids import job_id_bytes
from mech_queue.model.problems import Problems
from mech_queue.model.schedule import Schedule, ScheduleRun, ScheduleSpec, parse_schedule
from mech_queue.model.times import iso, iso_or_none
from mech_queue.services import schedules

blp = Blueprint("schedules", __name__, description="Submit jobs by cron, at intervals, or once at a time.")

RUNS_QUERY = query_doc(("limit", "1 to 1,000; default 100, which is all."))
EXAMPLE = {
    "name": "Nightly report",
    "cron": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "overlap": "skip",
    "job": {"queue": "report", "data": {"kind": "daily"}, "options": {"attempts": 3}},
}
READ_ONLY = frozenset("id nextRunAt lastRunAt lastJobId lastOutcome runCount skippedCount createdAt updatedAt".split())
"""What GET shows beside the fields one may send; PUT lets them pass, so that what GET gave can be sent back."""


@blp.route("/api/schedules")
class Schedules(Resource):
    """The schedules of the caller's application."""

    @requires(Scope.SUBMIT)
    @blp.doc(**body_doc(schemas.ScheduleBodySchema(), EXAMPLE))
    @blp.response(201, schemas.ScheduleAnswerSchema())
    def post(self) -> Response:
        """Create a schedule"""
        no_query()
        made = schedules.create(store(), application_id(), _spec())
        response = respond(ok(201, schedule=_shown(made)))
        response.headers["Location"] = f"/api/schedules/{made.id}"
        return response

    @requires(Scope.SUBMIT)
    @blp.doc(**PAGING)
    @blp.response(200, schemas.SchedulesAnswerSchema())
    def get(self) -> Response:
        """List schedules, oldest first"""
        given, problems = query(), Problems()
        Reader(dict(given), problems).only(("limit", "cursor"))
        cursor, limit = given.get("cursor"), limit_of(given, problems)
        if cursor is not None and job_id_bytes(cursor) is None:
            problems.add("cursor", "is not a cursor of this service")
        problems.raise_any()
        page, following = schedules.list_(store(), application_id(), limit=limit, cursor=cursor)
        return respond(ok(schedules=[_shown(one) for one in page], count=len(page), nextCursor=following))


@blp.route("/api/schedules/<schedule_id>")
class OneSchedule(Resource):
    """One schedule."""

    @requires(Scope.SUBMIT)
    @blp.response(200, schemas.ScheduleAnswerSchema())
    def get(self, schedule_id: str) -> Response:
        """Get a schedule, with its next time"""
        no_query()
        return _answer(schedules.get(store(), application_id(), schedule_id))

    @requires(Scope.SUBMIT)
    @blp.doc(**body_doc(schemas.SchedulePatchSchema(), {"cron": "0 3 * * *"}, required=False))
    @blp.response(200, schemas.ScheduleAnswerSchema())
    def put(self, schedule_id: str) -> Response:
        """Change the fields sent (as PATCH does)"""
        return _change(schedule_id, READ_ONLY)

    @requires(Scope.SUBMIT)
    @blp.doc(**body_doc(schemas.SchedulePatchSchema(), {"limit": 10}, required=False))
    @blp.response(200, schemas.ScheduleAnswerSchema())
    def patch(self, schedule_id: str) -> Response:
        """Change the fields sent; changed times hold from now on"""
        return _change(schedule_id, frozenset())

    @requires(Scope.SUBMIT)
    @blp.response(200, DoneSchema())
    def delete(self, schedule_id: str) -> Response:
        """Delete a schedule; the jobs it made stay"""
        no_query()
        schedules.delete(store(), application_id(), schedule_id)
        return respond(ok(message=f"Schedule {schedule_id} deleted"))


@blp.route("/api/schedules/<schedule_id>/toggle")
class Toggle(Resource):
    """Whether it runs."""

    @requires(Scope.SUBMIT)
    @blp.doc(**body_doc(schemas.ToggleSchema(), {"active": False}, required=False))
    @blp.response(200, schemas.ScheduleAnswerSchema())
    def patch(self, schedule_id: str) -> Response:
        """Switch it on or off; what it misses meanwhile is not caught up"""
        no_query()
        problems = Problems()
        reader = Reader(body().value, problems)
        reader.only(("active",))
        active = reader.boolean("active")
        problems.raise_any()
        return _answer(schedules.toggle(store(), application_id(), schedule_id, active))


@blp.route("/api/schedules/<schedule_id>/execute")
class Execute(Resource):
    """A run by hand."""

    @requires(Scope.SUBMIT)
    @blp.response(201, SubmittedSchema())
    def post(self, schedule_id: str) -> Response:
        """Submit its job now, whatever its times, overlap and limit say"""
        no_fields()
        queue = schedules.get(store(), application_id(), schedule_id).spec.queue
        demand_queue(caller(), queue)
        job_id = schedules.execute(store(), application_id(), schedule_id)
        response = respond(ok(201, jobId=job_id, message=f"Job submitted to {queue} queue"))
        response.headers["Location"] = f"/api/jobs/{job_id}"
        return response


@blp.route("/api/schedules/<schedule_id>/runs")
class Runs(Resource):
    """Its past."""

    @requires(Scope.SUBMIT)
    @blp.doc(**RUNS_QUERY)
    @blp.response(200, schemas.RunsAnswerSchema())
    def get(self, schedule_id: str) -> Response:
        """List its last runs, newest first"""
        given, problems = query(), Problems()
        Reader(dict(given), problems).only(("limit",))
        limit = limit_of(given, problems)
        problems.raise_any()
        found = schedules.runs(store(), application_id(), schedule_id, limit)
        return respond(ok(runs=[_shown_run(one) for one in found], count=len(found), nextCursor=None))


def _spec(before: ScheduleSpec | None = None, ignored: frozenset[str] = frozenset()) -> ScheduleSpec:
    given = body()
    value = {name: member for name, member in given.value.items() if name not in ignored}
    spec = parse_schedule(value, given.members, before)
    if spec.submission is not None:
        demand_queue(caller(), spec.queue)
    return spec


def _change(schedule_id: str, ignored: frozenset[str]) -> Response:
    no_query()
    return _answer(schedules.change(store(), application_id(), schedule_id, lambda before: _spec(before, ignored)))


def _answer(one: Schedule) -> Response:
    return respond(ok(schedule=_shown(one)))


def _shown(one: Schedule) -> dict[str, Any]:
    spec, timing = one.spec, one.spec.timing
    return {
        "id": one.id,
        "name": spec.name,
        "cron": timing.cron,
        "every": timing.every_ms,
        "at": iso_or_none(timing.at_ms),
        "timezone": timing.timezone,
        "startDate": iso_or_none(timing.start_ms),
        "endDate": iso_or_none(timing.end_ms),
        "limit": spec.limit,
        "overlap": spec.overlap,
        "catchUp": spec.catch_up,
        "active": spec.active,
        "job": msgspec.Raw(spec.job),
        "nextRunAt": iso_or_none(one.due_ms),
        "lastRunAt": iso_or_none(one.last_due_ms),
        "lastJobId": one.last_job_id,
        "lastOutcome": one.last_outcome,
        "runCount": one.runs,
        "skippedCount": one.skipped,
        "createdAt": iso(one.created_ms),
        "updatedAt": iso(one.updated_ms),
    }


def _shown_run(run: ScheduleRun) -> dict[str, Any]:
    return {
        "dueAt": iso(run.due_ms),
        "at": iso(run.at_ms),
        "outcome": run.outcome,
        "jobId": run.job_id,
        "jobStatus": run.job_status,
        "reason": run.reason,
        "manual": run.by_hand,
    }
