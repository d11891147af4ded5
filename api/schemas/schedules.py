"""Shapes of schedules. Bodies are read by ``mech_queue.model.schedule``, described here."""

import marshmallow as ma

from api.schemas.base import Schema
from api.schemas.jobs import SubmissionSchema, about
from mech_queue.model.checks import MAX_DURATION_MS
from mech_queue.model.schedule import MAX_CRON, MAX_LIMIT, MIN_EVERY_MS

f = ma.fields
OneOf, Range, Length = ma.validate.OneOf, ma.validate.Range, ma.validate.Length
OUTCOMES = ["submitted", "deduplicated", "skipped", "refused", "missed"]


class SchedulePatchSchema(Schema):
    """Only the fields sent change; null takes one back to its default."""

    name = f.String(validate=Length(1, 255))
    cron = f.String(
        allow_none=True,
        validate=Length(1, MAX_CRON),
        metadata=about(
            "Five fields (minute, hour, day of month, month, day of week) or @hourly @daily @weekly @monthly @yearly. "
            "When clocks change: a time in the gap runs at the first minute after it, a doubled time runs once, the "
            "first time; with * in minute or hour every such minute on the wall counts. One of cron, every, at."
        ),
    )
    every = f.Integer(
        allow_none=True,
        validate=Range(MIN_EVERY_MS, MAX_DURATION_MS),
        metadata=about("ms; counted from startDate (which runs), else from the creation (which does not)."),
    )
    at = f.DateTime(allow_none=True, metadata=about("Once, then."))
    timezone = f.String(allow_none=True, metadata=about("IANA name for cron; default UTC."))
    start_date = f.DateTime(allow_none=True, metadata=about("Nothing runs before."))
    end_date = f.DateTime(allow_none=True, metadata=about("Nothing runs after."))
    limit = f.Integer(allow_none=True, validate=Range(1, MAX_LIMIT), metadata=about("Runs in all."))
    overlap = f.String(
        allow_none=True,
        validate=OneOf(["skip", "allow"]),
        metadata=about("skip: no new job while the one before is unfinished. Default allow."),
    )
    catch_up = f.String(
        allow_none=True,
        validate=OneOf(["none", "one", "all"]),
        metadata=about(
            "What becomes of times at which no scheduler ran: none: dropped (beyond one minute); one: one job for all "
            "of them; all: a job each. Default one."
        ),
    )
    active = f.Boolean()
    job = f.Nested(SubmissionSchema(), metadata=about("As POST /api/jobs, without runAt and dependsOn."))


class ScheduleBodySchema(SchedulePatchSchema):
    """A new schedule: name, job, and one of cron, every, at."""

    name = f.String(required=True, validate=Length(1, 255))
    job = f.Nested(SubmissionSchema(), required=True)


class ScheduleSchema(Schema):
    """A schedule."""

    id = f.String(required=True)
    name = f.String(required=True)
    cron = f.String(allow_none=True, required=True)
    every = f.Integer(allow_none=True, required=True, metadata=about("ms"))
    at = f.DateTime(allow_none=True, required=True)
    timezone = f.String(required=True)
    start_date = f.DateTime(allow_none=True, required=True)
    end_date = f.DateTime(allow_none=True, required=True)
    limit = f.Integer(allow_none=True, required=True)
    overlap = f.String(required=True)
    catch_up = f.String(required=True)
    active = f.Boolean(required=True)
    job = f.Nested(SubmissionSchema(), required=True)
    next_run_at = f.DateTime(allow_none=True, required=True, metadata=about("null: switched off, or over."))
    last_run_at = f.DateTime(allow_none=True, required=True, metadata=about("The time that the last run was for."))
    last_job_id = f.String(allow_none=True, required=True)
    last_outcome = f.String(allow_none=True, required=True, validate=OneOf(OUTCOMES))
    run_count = f.Integer(required=True, metadata=about("Jobs it made in due course; execute is not counted."))
    skipped_count = f.Integer(required=True)
    created_at = f.DateTime(required=True)
    updated_at = f.DateTime(required=True)


class ScheduleAnswerSchema(Schema):
    """One schedule."""

    success = f.Boolean(required=True)
    schedule = f.Nested(ScheduleSchema(), required=True)


class SchedulesAnswerSchema(Schema):
    """A page of schedules, oldest first."""

    success = f.Boolean(required=True)
    schedules = f.List(f.Nested(ScheduleSchema()), required=True)
    count = f.Integer(required=True)
    next_cursor = f.String(allow_none=True, required=True)


class ToggleSchema(Schema):
    """Which way; without it, the other way."""

    active = f.Boolean(allow_none=True)


class RunSchema(Schema):
    """One run."""

    due_at = f.DateTime(required=True, metadata=about("The time it was for."))
    at = f.DateTime(required=True, metadata=about("When the scheduler came to it."))
    outcome = f.String(required=True, validate=OneOf(OUTCOMES))
    job_id = f.String(allow_none=True, required=True)
    job_status = f.String(allow_none=True, required=True, metadata=about("null: no job, or removed already."))
    reason = f.String(allow_none=True, required=True)
    manual = f.Boolean(required=True, metadata=about("By execute."))


class RunsAnswerSchema(Schema):
    """The last runs, newest first; 100 are kept."""

    success = f.Boolean(required=True)
    runs = f.List(f.Nested(RunSchema()), required=True)
    count = f.Integer(required=True)
    next_cursor = f.String(allow_none=True, required=True, metadata=about("Always null: one page holds all."))
