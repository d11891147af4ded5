"""Many at once: batch submits and updates. Each item stands for itself, results keep the order."""

from typing import Any

from api import batch_refs, render
from api.answers import Answer, encode
from api.auth import demand_queue
from api.call import Call
from api.hot import jobs as hot
from api.reports import parse_update
from mech_queue.model import strict_json
from mech_queue.model.errors import Refusal
from mech_queue.model.job import JobSpec, Report, Reported, Started, Submitted
from mech_queue.model.problems import Problems, invalid
from mech_queue.model.submission import parse_submission
from mech_queue.services import jobs

MAX_ITEMS = 1_000

Items = list[tuple[Any, dict[str, bytes]]]


def submit(call: Call) -> Answer:
    """POST /api/jobs/batch"""
    call.no_query()
    items = _items(call, "jobs")
    linked = batch_refs.link([value for value, _ in items])
    specs = [_spec(call, value, members, linked) for value, members in items]
    if not linked.ids:
        return _answer([_submitted(one) for one in jobs.submit_many(call.store, call.application_id, specs)])
    ordered = linked.ordered(specs)
    done = jobs.submit_many(
        call.store,
        call.application_id,
        [specs[place] for place in ordered],
        ids=[linked.ids[place] for place in ordered],
    )
    by_place = dict(zip(ordered, done, strict=True))
    return _answer([_submitted(by_place[place]) for place in range(len(specs))])


def report(call: Call) -> Answer:
    """POST /api/jobs/updates"""
    call.no_query()
    results: list[bytes] = []
    reports: list[Report] = []

    def flush() -> None:
        if reports:
            done = jobs.report_many(call.store, call.application_id, reports)
            results.extend(_reported(one) for one in done)
            reports.clear()

    for value, members in _items(call, "updates"):
        try:
            update = parse_update(_job_id(value), value, members, extra=("jobId",))
        except Refusal as refusal:
            flush()
            results.append(_refused(refusal))
            continue
        if not update.started:
            reports.append(update.report)
            continue
        flush()
        try:
            results.append(_started(hot.start(call, update)))
        except Refusal as refusal:
            results.append(_refused(refusal))
    flush()
    return _answer(results)


def _items(call: Call, name: str) -> Items:
    """The items with the exact texts of their members. Raises INVALID when there is no such list."""
    parsed = call.object(example=f'{{"{name}": […]}}')
    problems = Problems()
    problems.object("", parsed.value, (name,))
    values = parsed.value.get(name)
    if not isinstance(values, list) or len(values) > MAX_ITEMS:
        problems.add(name, f"must be a list of at most {MAX_ITEMS} objects")
    problems.raise_any()
    texts = strict_json.raw_items(parsed.members[name])
    return [
        (value, strict_json.raw_members(text) if isinstance(value, dict) else {})
        for value, text in zip(values, texts, strict=True)
    ]


def _spec(call: Call, value: Any, members: dict[str, bytes], linked: batch_refs.Linked) -> JobSpec | Refusal:
    try:
        spec = parse_submission(value, members, refs=frozenset(linked.names))
        linked.check(value)
        demand_queue(call.caller, spec.queue)
        return spec
    except Refusal as refusal:
        return refusal


def _job_id(value: Any) -> str:
    if not isinstance(value, dict):
        raise invalid("", "must be an object with jobId and status")
    job_id = value.get("jobId")
    if not isinstance(job_id, str):
        raise invalid("jobId", "is required (a string)")
    return job_id


def _submitted(done: Submitted | Refusal) -> bytes:
    if isinstance(done, Refusal):
        return _refused(done)
    more = b',"deduplicated":true' if done.deduplicated else b""
    return b'{"success":true,"jobId":"%s"%s}' % (done.job_id.encode(), more)


def _started(begun: Started) -> bytes:
    return b'{"success":true,"jobId":"%s","status":"active","attempt":%d,"leaseToken":%s,"leaseExpiresAt":%s}' % (
        begun.job_id.encode(),
        begun.attempt,
        encode(begun.lease_token),
        render.time(begun.lease_expires_ms),
    )


def _reported(done: Reported | Refusal) -> bytes:
    if isinstance(done, Refusal):
        return _refused(done)
    return b'{"success":true,"jobId":"%s","status":"%s"%s}' % (
        done.job_id.encode(),
        done.state.value.encode(),
        b',"ignored":true' if done.ignored else b"",
    )


def _refused(refusal: Refusal) -> bytes:
    return encode(
        {
            "success": False,
            "error": refusal.message,
            "code": refusal.code.value,
            "details": refusal.details,
        }
    )


def _answer(results: list[bytes]) -> Answer:
    accepted = sum(one.startswith(b'{"success":true') for one in results)
    return Answer(
        200,
        b'{"success":true,"accepted":%d,"rejected":%d,"results":[%s]}'
        % (accepted, len(results) - accepted, b",".join(results)),
    )
