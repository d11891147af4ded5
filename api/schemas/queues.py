"""Shapes of queues and claims."""

import marshmallow as ma

from api.queue_settings import DAY_MS, MOST
from api.reports import LEASE_S
from api.schemas.base import Schema
from api.schemas.jobs import about, backoff_field
from mech_queue.model.submission import MAX_ATTEMPTS

f = ma.fields
Range, Length = ma.validate.Range, ma.validate.Length
LEASE = Range(*LEASE_S)


class RateLimitSchema(Schema):
    """At most ``max`` starts in any ``perMs``."""

    max = f.Integer(required=True, validate=Range(1, MOST))
    per_ms = f.Integer(required=True, validate=Range(1, DAY_MS))


class RetentionSchema(Schema):
    """How long, and how many, ended jobs are kept."""

    completed_seconds = f.Integer(allow_none=True, validate=Range(0, MOST))
    completed_count = f.Integer(allow_none=True, validate=Range(0, MOST))
    failed_seconds = f.Integer(allow_none=True, validate=Range(0, MOST))
    failed_count = f.Integer(allow_none=True, validate=Range(0, MOST))
    cancelled_seconds = f.Integer(allow_none=True, validate=Range(0, MOST))
    cancelled_count = f.Integer(allow_none=True, validate=Range(0, MOST))


class QueueSettingsSchema(Schema):
    """Settings of a queue; null takes one away."""

    concurrency = f.Integer(allow_none=True, validate=Range(1, MOST), metadata=about("Jobs that run at a time."))
    concurrency_per_key = f.Integer(allow_none=True, validate=Range(1, MOST), metadata=about("… per concurrencyKey."))
    rate_limit = f.Nested(RateLimitSchema(), allow_none=True)
    lease_seconds = f.Integer(allow_none=True, validate=LEASE, metadata=about("Of claim; default 60."))
    started_lease_seconds = f.Integer(
        allow_none=True, validate=LEASE, metadata=about("Of a tokenless started; default 1,800.")
    )
    attempts = f.Integer(allow_none=True, validate=Range(1, MAX_ATTEMPTS), metadata=about("For jobs that do not say."))
    backoff = backoff_field("For jobs that do not say.")
    retention = f.Nested(RetentionSchema(), allow_none=True)
    paused = f.Boolean(allow_none=True)


class QueueSchema(Schema):
    """A queue."""

    name = f.String(required=True)
    settings = f.Nested(QueueSettingsSchema(), required=True)
    paused = f.Boolean(required=True)
    draining = f.Boolean(required=True)
    counts = f.Dict(keys=f.String(), values=f.Integer(), required=True)


class QueueAnswerSchema(Schema):
    """One queue."""

    success = f.Boolean(required=True)
    queue = f.Nested(QueueSchema(), required=True)


class QueuesAnswerSchema(Schema):
    """A page of queues, by name."""

    success = f.Boolean(required=True)
    queues = f.List(f.Nested(QueueSchema()), required=True)
    count = f.Integer(required=True)
    next_cursor = f.String(allow_none=True)


class StatsAnswerSchema(Schema):
    """Flat numbers for an autoscaler."""

    success = f.Boolean(required=True)
    queue = f.String(required=True)
    waiting = f.Integer()
    delayed = f.Integer()
    active = f.Integer()
    completed = f.Integer()
    failed = f.Integer()
    cancelled = f.Integer()
    oldest_waiting_seconds = f.Float(metadata=about("0 when nothing waits."))
    workers = f.Integer(metadata=about("Workers that asked this queue within the last minute."))
    submitted_total = f.Integer()
    completed_total = f.Integer()
    failed_total = f.Integer()
    submitted_per_minute = f.Integer(metadata=about("Within the last 60 s, exact to 10 s; so are the next two."))
    completed_per_minute = f.Integer()
    failed_per_minute = f.Integer()


class PurgedSchema(Schema):
    """What waits is being dropped."""

    success = f.Boolean(required=True)
    message = f.String(required=True)
    count = f.Integer(metadata=about("Jobs that waited when it began."))


class ClaimSchema(Schema):
    """How many jobs, and how long to wait for the first."""

    limit = f.Integer(allow_none=True, validate=Range(1, 100), load_default=1)
    wait = f.Float(allow_none=True, validate=Range(0, 30), metadata=about("Seconds to wait when there is nothing."))
    lease_seconds = f.Integer(allow_none=True, validate=LEASE)
    worker_id = f.String(allow_none=True, validate=Length(1, 255))
    nonce = f.String(
        allow_none=True,
        validate=Length(1, 255),
        metadata=about("Repeat a claim whose answer was lost with the same."),
    )


class ManyClaimSchema(ClaimSchema):
    """The same over several queues."""

    queues = f.List(f.String(), required=True, metadata=about("In order of preference."))


class ClaimedTimesSchema(Schema):
    """When it was submitted."""

    submitted = f.DateTime(required=True)


class ClaimedJobSchema(Schema):
    """A job whose lease the caller now holds."""

    id = f.String(required=True)
    queue = f.String(required=True)
    task = f.String(required=True)
    status = f.String(required=True)
    data = f.Raw(allow_none=True)
    metadata = f.Dict()
    priority = f.Integer()
    attempt = f.Integer()
    max_attempts = f.Integer()
    failures = f.Integer()
    stalls = f.Integer()
    lease_token = f.String(required=True)
    lease_expires_at = f.DateTime(required=True)
    timeout = f.Integer(allow_none=True, metadata=about("ms"))
    parents = f.Dict(allow_none=True)
    timestamps = f.Nested(ClaimedTimesSchema())


class ClaimAnswerSchema(Schema):
    """The jobs, in order; none when there was nothing in time."""

    success = f.Boolean(required=True)
    jobs = f.List(f.Nested(ClaimedJobSchema()), required=True)
    count = f.Integer(required=True)


class WorkerSchema(Schema):
    """A worker that was seen lately, or holds jobs."""

    id = f.String(required=True)
    kind = f.String(required=True, validate=ma.validate.OneOf(["http", "native"]))
    queues = f.List(f.String(), required=True, metadata=about("Those it asked, and those whose jobs it holds."))
    jobs = f.Integer(required=True, metadata=about("Jobs it holds now."))
    last_seen = f.DateTime(required=True, metadata=about("When it asked for work or renewed a lease."))


class WorkersAnswerSchema(Schema):
    """A page of workers, by id."""

    success = f.Boolean(required=True)
    workers = f.List(f.Nested(WorkerSchema()), required=True)
    count = f.Integer(required=True)
    next_cursor = f.String(allow_none=True)
