"""Jobs as JSON: texts are joined, nothing that a caller sent is decoded and encoded again."""

import msgspec

from mech_queue.model.job import Attempt, ClaimedJob, JobRecord, State
from mech_queue.model.times import iso, iso_or_none

encode = msgspec.json.encode
Raw = msgspec.Raw
NULL = b"null"


def text(value: str | None) -> bytes:
    """A string or null."""
    return NULL if value is None else encode(value)


def time(ms: int | None) -> bytes:
    """A time or null."""
    return NULL if ms is None else b'"%s"' % iso(ms).encode()


class Timestamps(msgspec.Struct, rename="camel"):
    """When what happened to a job, as ISO-8601 texts."""

    submitted: str
    run_at: str | None
    started: str | None
    heartbeat: str | None
    completed: str | None
    failed: str | None
    cancelled: str | None


class Job(msgspec.Struct, rename="camel"):
    """The job object of lists; the order of its members is that of the answer."""

    id: str
    queue: str
    task: str
    status: str
    data: msgspec.Raw
    metadata: msgspec.Raw
    result: msgspec.Raw | None
    error: msgspec.Raw | None
    error_code: str | None
    progress: msgspec.Raw | None
    priority: int
    attempt: int
    max_attempts: int
    stalls: int
    worker_id: str | None
    webhooks: dict[str, str]
    concurrency_key: str | None
    depends_on: tuple[str, ...]
    lease_expires_at: str | None
    timestamps: Timestamps


def job_object(record: JobRecord) -> Job:
    """The job object of ``record``; what the caller sent stays the text it was."""
    state, ended = record.state, iso_or_none(record.ended_ms)
    return Job(
        record.id,
        record.queue,
        record.task,
        state.value,
        Raw(record.data),
        Raw(record.metadata),
        _raw(record.result),
        _raw(record.error),
        record.error_code,
        _raw(record.progress),
        record.priority,
        record.attempt,
        record.max_attempts,
        record.stalls,
        record.worker_id,
        record.webhooks,
        record.concurrency_key,
        record.depends_on,
        iso_or_none(record.lease_expires_ms),
        Timestamps(
            iso(record.submitted_ms),
            iso_or_none(record.run_at_ms),
            iso_or_none(record.started_ms),
            iso_or_none(record.heartbeat_ms),
            ended if state is State.COMPLETED else None,
            ended if state is State.FAILED else None,
            ended if state is State.CANCELLED else None,
        ),
    )


def job(record: JobRecord) -> bytes:
    """The job object of ``GET /api/jobs/{id}``: with its history, and the results of its parents."""
    parents = b"" if record.parents is None else b',"parents":%s' % record.parents
    history = b",".join(map(_attempt, record.history))
    return b'%s%s,"history":[%s]}' % (encode(job_object(record))[:-1], parents, history)


def _raw(value: bytes | None) -> msgspec.Raw | None:
    return None if value is None else Raw(value)


def jobs(records: list[JobRecord], next_cursor: str | None) -> bytes:
    """The answer of a list."""
    return b'{"success":true,"jobs":[%s],"count":%d,"nextCursor":%s}' % (
        encode([job_object(record) for record in records])[1:-1],
        len(records),
        text(next_cursor),
    )


def claimed(found: ClaimedJob) -> bytes:
    """A job as the worker gets it that claimed it."""
    return b"".join(
        (
            b'{"id":"%s","queue":"%s","task":%s,"status":"active","data":'
            % (found.id.encode(), found.queue.encode(), encode(found.task)),
            found.data,
            b',"metadata":',
            found.metadata,
            b',"priority":%d,"attempt":%d,"maxAttempts":%d,"failures":%d,"stalls":%d'
            % (found.priority, found.attempt, found.max_attempts, found.failures, found.stalls),
            b',"leaseToken":%s,"leaseExpiresAt":%s' % (encode(found.lease_token), time(found.lease_expires_ms)),
            b',"timeout":%s,"parents":' % (NULL if found.timeout_ms is None else b"%d" % found.timeout_ms),
            found.parents or NULL,
            b',"timestamps":{"submitted":%s}}' % time(found.submitted_ms),
        )
    )


def _attempt(line: Attempt) -> bytes:
    return b'{"kind":%s,"at":%s,"attempt":%d,"outcome":%s,"started":%s,"ended":%s,"workerId":%s,"error":%s}' % (
        encode(line.kind),
        time(line.at_ms),
        line.attempt,
        text(line.outcome),
        time(line.started_ms),
        time(line.ended_ms),
        text(line.worker_id),
        line.error or NULL,
    )
