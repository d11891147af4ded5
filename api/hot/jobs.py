"""Submit, get and report: the three hot routes of jobs, free of any framework."""

import hashlib
import time

from api import render
from api.answers import Answer, Headers
from api.auth import demand_queue
from api.bodies import parse_body
from api.call import Call
from api.reports import Update, parse_update
from mech_queue.model.checks import check_key
from mech_queue.model.job import JobRecord, Reported, Started
from mech_queue.model.problems import invalid
from mech_queue.model.submission import parse_submission
from mech_queue.model.times import iso
from mech_queue.services import jobs

MAX_WAIT_S = 30.0


def submit(call: Call) -> Answer:
    """POST /api/jobs"""
    call.no_query()
    parsed = parse_body(call.environ, call.body)
    value, members = (parsed.value, parsed.members) if parsed else ({}, {})
    spec = parse_submission(value, members)
    demand_queue(call.caller, spec.queue)
    done = jobs.submit(call.store, call.application_id, spec, idempotency=_idempotency(call))
    headers: Headers = [("Location", f"/api/jobs/{done.job_id}")]
    if done.replayed:
        headers.append(("Idempotency-Replayed", "true"))
    body = b'{"success":true,"jobId":"%s","message":"Job submitted to %s queue"%s}' % (
        done.job_id.encode(),
        spec.queue.encode(),
        b',"deduplicated":true' if done.deduplicated else b"",
    )
    return Answer(200 if done.deduplicated else 201, body, headers)


def _idempotency(call: Call) -> tuple[str, str] | None:
    """The key with the hash of the body."""
    given = call.environ.get("HTTP_IDEMPOTENCY_KEY")
    if given is None:
        return None
    sentence = check_key(given)
    if sentence:
        raise invalid("Idempotency-Key", sentence)
    return given, hashlib.sha256(call.body).hexdigest()


def get(call: Call) -> Answer:
    """GET /api/jobs/{id}, with ?wait=<seconds> answering as soon as the job ends."""
    wait_s = wait_of(call.query()) if call.environ.get("QUERY_STRING") else 0.0
    record = jobs.get(call.store, call.application_id, call.target)
    headers: Headers = []
    if wait_s and not record.state.ended:
        record, headers = _wait_for_end(call, record, wait_s)
    if record.depends_on:
        record = jobs.with_parents(call.store, call.application_id, record)
    return Answer(200, b'{"success":true,"job":%s}' % render.job(record), headers)


def _wait_for_end(call: Call, record: JobRecord, wait_s: float) -> tuple[JobRecord, Headers]:
    """Watch first, then look, then wait: no end can slip through between. Raises NOT_FOUND when it is removed."""
    waiters = call.runtime.waiters
    if waiters.full():
        return record, [("Retry-After", "1")]
    until = time.monotonic() + wait_s
    with waiters.end(call.application_id, record.id) as watch:
        while True:
            late = time.monotonic() >= until
            record = jobs.get(call.store, call.application_id, record.id)
            if late or record.state.ended or call.runtime.stopping.is_set():
                return record, []
            watch.wait(until - time.monotonic())


def wait_of(query: dict[str, str]) -> float:
    """The only query name of GET: ``wait``, 0 to 30 seconds."""
    for name in query:
        if name != "wait":
            raise invalid(name, "is not a known name here; known is: wait")
    text = query.get("wait", "0")
    whole, _, fraction = text.partition(".")
    good = len(text) <= 10 and whole.isdecimal() and whole.isascii() and fraction.isascii()
    if not good or not (fraction.isdecimal() or text == whole) or float(text) > MAX_WAIT_S:
        raise invalid("wait", f"must be a number of seconds from 0 to {MAX_WAIT_S:.0f}")
    return float(text)


def report(call: Call) -> Answer:
    """PUT /api/jobs/{id}: started, progress, completed, failed."""
    call.no_query()
    parsed = call.object()
    update = parse_update(call.target, parsed.value, parsed.members)
    if update.started:
        return Answer(200, started(start(call, update)))
    return Answer(200, reported(jobs.report(call.store, call.application_id, update.report)))


def start(call: Call, update: Update) -> Started:
    """Take the job of a ``started``; what else that says is kept under the new lease. Raises Refusal."""
    told = update.report
    begun = jobs.start(
        call.store,
        call.application_id,
        told.job_id,
        lease_token=told.lease_token,
        lease_ms=told.lease_ms,
        worker_id=told.worker_id,
    )
    if update.has_more:
        told.lease_token = None if told.lease_token is None else begun.lease_token
        jobs.report(call.store, call.application_id, told)
    return begun


def started(begun: Started) -> bytes:
    """The answer to ``started``."""
    return (
        b'{"success":true,"message":"Job %s updated","status":"active","attempt":%d,"leaseToken":%s,'
        b'"leaseExpiresAt":"%s"}'
        % (
            begun.job_id.encode(),
            begun.attempt,
            render.encode(begun.lease_token),
            iso(begun.lease_expires_ms).encode(),
        )
    )


def reported(done: Reported) -> bytes:
    """The answer to a report. A lease token is shown when the report itself took the job."""
    lease = b""
    if done.lease_token is not None and done.lease_expires_ms is not None:
        lease = b',"leaseToken":%s,"leaseExpiresAt":%s' % (
            render.encode(done.lease_token),
            render.time(done.lease_expires_ms),
        )
    return b'{"success":true,"message":"Job %s updated","status":"%s","attempt":%d%s%s}' % (
        done.job_id.encode(),
        done.state.value.encode(),
        done.attempt,
        b',"ignored":true' if done.ignored else b"",
        lease,
    )
