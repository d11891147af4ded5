"""Shapes of jobs. Bodies of submits and reports are read by ``mech_queue.model`` (exact texts), described here."""

from typing import Any

import marshmallow as ma

from api.reports import LEASE_S
from api.schemas.base import Schema
from mech_queue.model.job import State
from mech_queue.model.submission import MAX_ATTEMPTS, MAX_STALLS, PRIORITY_MAX, PRIORITY_MIN, QUEUE_NAME

f = ma.fields
OneOf, Range, Length = ma.validate.OneOf, ma.validate.Range, ma.validate.Length

STATUSES = [state.value for state in State]


def about(text: str) -> dict[str, str]:
    """A description for the documentation."""
    return {"description": text}


QUEUE_FIELD: dict[str, Any] = {
    "required": True,
    "validate": ma.validate.Regexp(f"^{QUEUE_NAME.pattern}$"),
    "metadata": about("Created on first use."),
}


_MS = {"type": ["integer", "null"], "minimum": 0}
_BACKOFF = {
    "type": {"enum": ["exponential", "fixed", None], "default": "exponential"},
    "delay": {**_MS, "description": "First pause in ms."},
    "maxDelay": {**_MS, "description": "Longest pause in ms."},
    "jitter": {"type": ["number", "null"], "minimum": 0, "maximum": 1, "description": "Share that is random."},
}


def backoff_field(description: str) -> f.Raw:
    """The pause before a retry: an object, or a number of ms."""
    whole = {"type": "object", "properties": _BACKOFF, "additionalProperties": False}
    return f.Raw(allow_none=True, metadata={**about(description), "anyOf": [whole, _MS]})


class OptionsSchema(Schema):
    """How a job runs; durations in ms unless the name says Seconds."""

    priority = f.Integer(validate=Range(PRIORITY_MIN, PRIORITY_MAX), metadata=about("Higher first; default 0."))
    delay = f.Integer(validate=Range(0), metadata=about("Not before this many ms from now."))
    run_at = f.DateTime(metadata=about("Not before this time. Not together with delay."))
    attempts = f.Integer(validate=Range(1, MAX_ATTEMPTS), metadata=about("Total tries; default DEFAULT_JOB_ATTEMPTS."))
    backoff = backoff_field("Pause before a retry: an object, or a number of ms.")
    timeout = f.Integer(validate=Range(1), metadata=about("Longest run of one attempt in ms."))
    expires_in = f.Integer(validate=Range(1), metadata=about("Fail it (EXPIRED) if nobody started it within these ms."))
    max_stalls = f.Integer(validate=Range(0, MAX_STALLS), metadata=about("Leases it may lose; default 3."))
    retention_seconds = f.Integer(validate=Range(0), metadata=about("How long it is kept after it ended."))
    concurrency_key = f.String(
        validate=Length(1, 255), metadata=about("Jobs of one key share a limit, keys take turns.")
    )
    dedupe_key = f.String(validate=Length(1, 255), metadata=about("At most one unfinished job of this key."))
    dedupe_ttl = f.Integer(validate=Range(1), metadata=about("… or one within these ms."))
    debounce = f.String(validate=OneOf(["replace", "extend"]))
    depends_on = f.List(f.String(), metadata=about("Ids of jobs that must complete first."))
    on_parent_failure = f.String(validate=OneOf(["fail", "run"]))


class SubmissionSchema(Schema):
    """A job to submit."""

    queue = f.String(**QUEUE_FIELD)
    data = f.Raw(required=True, allow_none=True, metadata=about("Any JSON; comes back exactly as sent."))
    metadata = f.Dict(
        keys=f.String(), metadata=about("Scalars (also one level down) can be searched; at most 50 keys.")
    )
    webhooks = f.Dict(keys=f.String(), values=f.String(), metadata=about("Event (or *) -> URL."))
    task = f.String(
        validate=Length(1, 255), metadata=about("Name of the native Celery task; default: the queue's name.")
    )
    options = f.Nested(OptionsSchema())


class SubmittedSchema(Schema):
    """The job is accepted."""

    success = f.Boolean(required=True)
    job_id = f.String(required=True)
    message = f.String(required=True)
    deduplicated = f.Boolean(metadata=about("True: an unfinished job of the same dedupeKey was there already."))


class BatchItemSchema(SubmissionSchema):
    """A job of a batch."""

    ref = f.String(metadata=about("A name by which other items may depend on this one (#name)."))


class BatchSchema(Schema):
    """Up to 1,000 jobs."""

    jobs = f.List(f.Nested(BatchItemSchema()), required=True, validate=Length(0, 1000))


class ItemResultSchema(Schema):
    """What became of one item: the id, or why not."""

    success = f.Boolean(required=True)
    job_id = f.String()
    deduplicated = f.Boolean(metadata=about("Another job with this dedupeKey was there already."))
    error = f.String()
    code = f.String()
    details = f.Dict()


class BatchResultSchema(Schema):
    """Results in the order of the items."""

    success = f.Boolean(required=True)
    accepted = f.Integer(required=True)
    rejected = f.Integer(required=True)
    results = f.List(f.Nested(ItemResultSchema()), required=True)


class TimestampsSchema(Schema):
    """ISO-8601, UTC; null where it did not happen."""

    submitted = f.DateTime(required=True)
    run_at = f.DateTime(allow_none=True)
    started = f.DateTime(allow_none=True)
    heartbeat = f.DateTime(allow_none=True)
    completed = f.DateTime(allow_none=True)
    failed = f.DateTime(allow_none=True)
    cancelled = f.DateTime(allow_none=True)


class AttemptSchema(Schema):
    """One attempt, or one change between attempts."""

    kind = f.String()
    at = f.DateTime()
    attempt = f.Integer()
    outcome = f.String(allow_none=True)
    started = f.DateTime(allow_none=True)
    ended = f.DateTime(allow_none=True)
    worker_id = f.String(allow_none=True)
    error = f.Raw(allow_none=True)


class ListedJobSchema(Schema):
    """A job as lists show it."""

    id = f.String(required=True)
    queue = f.String(required=True)
    task = f.String(required=True)
    status = f.String(required=True, validate=OneOf(STATUSES))
    data = f.Raw(allow_none=True)
    metadata = f.Dict()
    result = f.Raw(allow_none=True)
    error = f.Raw(allow_none=True)
    error_code = f.String(allow_none=True, metadata=about("TIMEOUT, EXPIRED, STALLED or PARENT_FAILED."))
    progress = f.Raw(allow_none=True)
    priority = f.Integer()
    attempt = f.Integer(metadata=about("Counts starts."))
    max_attempts = f.Integer()
    stalls = f.Integer(metadata=about("Leases it lost."))
    worker_id = f.String(allow_none=True)
    webhooks = f.Dict(keys=f.String(), values=f.String())
    concurrency_key = f.String(allow_none=True)
    depends_on = f.List(f.String())
    lease_expires_at = f.DateTime(allow_none=True)
    timestamps = f.Nested(TimestampsSchema())


class JobSchema(ListedJobSchema):
    """A job."""

    parents = f.Dict(metadata=about("Id of a job this one depends on -> its result."))
    history = f.List(f.Nested(AttemptSchema()))


class JobAnswerSchema(Schema):
    """One job."""

    success = f.Boolean(required=True)
    job = f.Nested(JobSchema(), required=True)


class JobsAnswerSchema(Schema):
    """A page of jobs."""

    success = f.Boolean(required=True)
    jobs = f.List(f.Nested(ListedJobSchema()), required=True)
    count = f.Integer(required=True, metadata=about("Jobs in this answer."))
    next_cursor = f.String(allow_none=True, metadata=about("Pass as cursor for the next page; null: the end."))


class ReportSchema(Schema):
    """What a worker says of its job."""

    status = f.String(required=True, validate=OneOf(["started", "progress", "completed", "failed"]))
    progress = f.Raw(metadata=about("Usually a percentage; any JSON."))
    result = f.Raw(allow_none=True, metadata=about("Any JSON; kept exactly as sent."))
    error = f.Raw(metadata=about("A message, or any JSON."))
    metadata = f.Dict(metadata=about("Merged into the job's; null removes a key."))
    lease_token = f.String(metadata=about("From started or claim; once used it is required."))
    lease_seconds = f.Integer(validate=Range(*LEASE_S))
    worker_id = f.String(validate=Length(1, 255))
    retry = f.Boolean(metadata=about("false: a permanent failure."))


class ReportedSchema(Schema):
    """The report is written down."""

    success = f.Boolean(required=True)
    message = f.String(required=True)
    status = f.String(required=True, validate=OneOf(STATUSES))
    attempt = f.Integer()
    ignored = f.Boolean(metadata=about("True: understood, and changed nothing on purpose."))
    lease_token = f.String(metadata=about("When this report took the job."))
    lease_expires_at = f.DateTime()


class UpdateSchema(ReportSchema):
    """A report of one of several jobs."""

    job_id = f.String(required=True)


class UpdatesSchema(Schema):
    """Up to 1,000 reports."""

    updates = f.List(f.Nested(UpdateSchema()), required=True, validate=Length(0, 1000))


class ChangeSchema(Schema):
    """What may change while a job waits; at least one."""

    priority = f.Integer(validate=Range(PRIORITY_MIN, PRIORITY_MAX))
    run_at = f.DateTime()
    metadata = f.Dict(metadata=about("Merged into the job's; null removes a key."))


class WebhooksSchema(Schema):
    """Job webhooks to add, change or (null) remove."""

    webhooks = f.Dict(keys=f.String(), values=f.String(allow_none=True), required=True)


class WebhooksAnswerSchema(Schema):
    """All webhooks the job has now."""

    success = f.Boolean(required=True)
    message = f.String(required=True)
    webhooks = f.Dict(keys=f.String(), values=f.String(), required=True)


class HeartbeatSchema(Schema):
    """Which lease to renew, and for how long."""

    lease_token = f.String()
    lease_seconds = f.Integer(validate=Range(*LEASE_S))


class HeartbeatAnswerSchema(Schema):
    """Whether to go on."""

    success = f.Boolean(required=True)
    cancelled = f.Boolean(required=True, metadata=about("True: stop working, the job has ended."))
    lease_expires_at = f.DateTime(allow_none=True)


class StateAnswerSchema(Schema):
    """What the job is now."""

    success = f.Boolean(required=True)
    message = f.String(required=True)
    status = f.String(validate=OneOf(STATUSES))


class DoneSchema(Schema):
    """It is done."""

    success = f.Boolean(required=True)
    message = f.String(required=True)
