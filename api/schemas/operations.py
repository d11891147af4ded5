"""Shapes of bulk actions, explanations and logs."""

import marshmallow as ma

from api.schemas.base import Schema
from api.schemas.jobs import STATUSES, about

f = ma.fields
OneOf = ma.validate.OneOf


class ActionsSchema(Schema):
    """One action on every job that the filter finds."""

    action = f.String(required=True, validate=OneOf(["retry", "cancel", "delete", "promote"]))
    filter = f.Dict(required=True, metadata=about("Names and values as in the query of GET /api/jobs."))
    dry_run = f.Boolean(allow_none=True, load_default=False, metadata=about("Only count."))


class ActionsAnswerSchema(Schema):
    """The operation runs in the background; of a dry run: the count."""

    success = f.Boolean(required=True)
    operation_id = f.String()
    count = f.Integer()
    dry_run = f.Boolean()


class OperationSchema(Schema):
    """A bulk operation."""

    id = f.String(required=True)
    action = f.String(required=True)
    status = f.String(required=True)
    done = f.Integer(required=True)
    failed = f.Integer(required=True, metadata=about("Jobs whose state did not fit the action."))
    created_at = f.DateTime()
    ended_at = f.DateTime(allow_none=True)


class OperationAnswerSchema(Schema):
    """Its progress."""

    success = f.Boolean(required=True)
    operation = f.Nested(OperationSchema(), required=True)


class ReasonSchema(Schema):
    """One thing that keeps the job from running."""

    code = f.String(required=True)
    message = f.String(required=True)
    details = f.Dict()


class ExplanationSchema(Schema):
    """All of them at once."""

    success = f.Boolean(required=True)
    job_id = f.String(required=True)
    status = f.String(required=True, validate=OneOf(STATUSES))
    reasons = f.List(f.Nested(ReasonSchema()), required=True)


class LinesSchema(Schema):
    """Lines to append."""

    lines = f.List(f.String(), required=True, validate=ma.validate.Length(1, 100))


class LinesAnswerSchema(Schema):
    """How many lines are kept now."""

    success = f.Boolean(required=True)
    count = f.Integer(required=True)


class LogLineSchema(Schema):
    """One line."""

    at = f.DateTime(required=True)
    line = f.String(required=True)


class LogsAnswerSchema(Schema):
    """Lines, oldest first."""

    success = f.Boolean(required=True)
    logs = f.List(f.Nested(LogLineSchema()), required=True)
    count = f.Integer(required=True)
    next_cursor = f.String(allow_none=True)
