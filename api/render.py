"""Jobs as JSON: texts are joined, nothing that a caller sent is decoded and encoded again."""

import msgspec

from mech_queue.model.job import Attempt, ClaimedJob, JobRecord, State
from mech_queue.model.times import iso

encode = msgspec.json.encode
NULL = b"null"


def text(value: str | None) -> bytes:
    """A string or null."""
    return NULL if value is None else encode(value)


def time(ms: int | None) -> bytes:
    """A time or null."""
    return NULL if ms is None else b'"%s"' % iso(ms).encode()


def job(record: JobRecord, *, history: bool = True) -> bytes:
    """The job object of ``GET /api/jobs/{id}``; lists leave ``history`` out."""
    state = record.state
    parts = [
        b'{"id":"%s","queue":"%s","task":%s,"status":"%s"'
        % (record.id.encode(), record.queue.encode(), encode(record.task), state.value.encode()),
        b',"data":',
        record.data,
        b',"metadata":',
        record.metadata,
        b',"result":',
        record.result or NULL,
        b',"error":',
        record.error or NULL,
        b',"errorCode":',
        text(record.error_code),
        b',"progress":',
        record.progress or NULL,
        b',"priority":%d,"attempt":%d,"maxAttempts":%d,"stalls":%d,"workerId":'
        % (record.priority, record.attempt, record.max_attempts, record.stalls),
        text(record.worker_id),
        b',"webhooks":',
        encode(record.webhooks),
        b',"concurrencyKey":',
        text(record.concurrency_key),
        b',"dependsOn":',
        encode(record.depends_on),
        b',"leaseExpiresAt":',
        time(record.lease_expires_ms),
        b',"timestamps":',
        _timestamps(record),
    ]
    if history:
        if record.parents is not None:
            parts += [b',"parents":', record.parents]
        parts += [b',"history":[', b",".join(map(_attempt, record.history)), b"]"]
    parts.append(b"}")
    return b"".join(parts)


def jobs(records: list[JobRecord], next_cursor: str | None) -> bytes:
    """The answer of a list."""
    return b'{"success":true,"jobs":[%s],"count":%d,"nextCursor":%s}' % (
        b",".join([job(record, history=False) for record in records]),
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


def _timestamps(record: JobRecord) -> bytes:
    ended = {record.state: record.ended_ms}
    return b'{"submitted":%s,"runAt":%s,"started":%s,"heartbeat":%s,"completed":%s,"failed":%s,"cancelled":%s}' % (
        time(record.submitted_ms),
        time(record.run_at_ms),
        time(record.started_ms),
        time(record.heartbeat_ms),
        time(ended.get(State.COMPLETED)),
        time(ended.get(State.FAILED)),
        time(ended.get(State.CANCELLED)),
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
