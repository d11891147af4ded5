"""How a job is packed for the store, and how its record is read back."""

import json
from typing import Any

from mech_queue.model.event import webhook_mask
from mech_queue.model.ids import job_id_text
from mech_queue.model.job import BY_LETTER, Attempt, ClaimedJob, JobRecord, JobSpec, State
from mech_queue.model.metadata import fields_hash
from mech_queue.store.digest import digest
from mech_queue.store.packing import pack, unpack, unpack_all

RECORD = 1  # format number of the ``d:`` record; release N reads N - 1


def hashes_of(fields: tuple[tuple[str, str], ...]) -> bytes:
    """The index entries of filterable metadata, 6 bytes each."""
    return b"".join(fields_hash(name, text) for name, text in fields)


def webhooks_json(webhooks: dict[str, str]) -> bytes:
    """Event -> URL as JSON text; empty when there are none."""
    return json.dumps(webhooks, separators=(",", ":")).encode() if webhooks else b""


def options_of(spec: JobSpec, dedupe: bytes | None) -> bytes | None:
    """The options that scripts need, packed; None when all are defaults."""
    options: dict[str, Any] = {}
    for name, value in (
        ("attempts", spec.attempts),
        ("timeout", spec.timeout_ms),
        ("expires", spec.expires_in_ms),
        ("stalls", spec.max_stalls),
        ("retention", spec.retention_seconds),
        ("dedupe", dedupe),
        ("orphan", "run" if spec.on_parent_failure == "run" else None),
    ):
        if value is not None:
            options[name] = value
    if spec.backoff is not None:
        options["backoff"] = spec.backoff.type
        if spec.backoff.delay_ms is not None:
            options["delay"] = spec.backoff.delay_ms
        if spec.backoff.max_delay_ms is not None:
            options["max_delay"] = spec.backoff.max_delay_ms
        if spec.backoff.jitter:
            options["jitter"] = spec.backoff.jitter
    return pack(options) if options else None


def packed(spec: JobSpec, job_id: bytes, parents: list[bytes]) -> dict[str, Any]:
    """One entry of ``args.jobs`` of job_submit.lua."""
    dedupe = digest(spec.queue, spec.dedupe_key) if spec.dedupe_key is not None else None
    blob = pack([RECORD, spec.data, spec.metadata, webhooks_json(spec.webhooks), parents])
    args: dict[str, Any] = {"id": job_id, "q": spec.queue, "blob": blob}
    for name, value in (
        ("t", spec.task if spec.task != spec.queue else None),
        ("p", spec.priority),
        ("k", spec.concurrency_key),
        ("o", options_of(spec, dedupe)),
        ("i", hashes_of(spec.fields)),
        ("hk", webhook_mask(spec.webhooks) if spec.webhooks else None),
        ("delay", spec.delay_ms),
        ("run_at", spec.run_at_ms),
        ("expires", spec.expires_in_ms),
        ("dedupe", dedupe),
        ("dedupe_ttl", spec.dedupe_ttl_ms),
        ("debounce", spec.debounce),
        ("parents", parents),
        ("on_parent", spec.on_parent_failure if parents else None),
    ):
        if value or value == 0:
            args[name] = value
    if spec.debounce == "replace":
        args["data"], args["metadata"] = spec.data, spec.metadata
    return args


def _blob(raw: bytes) -> tuple[bytes, bytes, bytes, list[bytes]]:
    _, data, metadata, webhooks, parents = unpack(raw)
    return data, metadata, webhooks, parents


def by_name(pairs: list[bytes]) -> dict[bytes, bytes]:
    """A hash as the scripts return it: name, value, name, value …"""
    each = iter(pairs)
    return dict(zip(each, each, strict=True))


def claimed(row: list[Any]) -> ClaimedJob:
    """A row of job_claim.lua -> the job."""
    data, metadata, _, parents = _blob(row[3])
    options = unpack(row[14]) if row[14] else {}
    sequence = int(row[12])
    return ClaimedJob(
        id=job_id_text(row[0]),
        queue=row[1].decode(),
        task=row[2].decode(),
        data=row[4] or data,
        metadata=row[5] or metadata,
        attempt=int(row[6]),
        max_attempts=int(row[13] or 1),
        attempts_given=bool(row[13]),
        failures=int(row[7]),
        stalls=int(row[8]),
        priority=int(row[9]),
        lease_token=row[10].decode(),
        lease_expires_ms=int(row[11]),
        timeout_ms=options.get(b"timeout"),
        submitted_ms=sequence // 1024,
        parents=b"".join(parents) or None,
    )


_NUMBERS = {
    b"p": "priority",
    b"a": "attempt",
    b"f": "failures",
    b"b": "stalls",
    b"tr": "run_at_ms",
    b"ts": "started_ms",
    b"th": "heartbeat_ms",
    b"te": "ended_ms",
    b"v": "version",
}
_TEXTS = {b"t": "task", b"w": "worker_id", b"k": "concurrency_key"}
_LATE = {b"d": "data", b"m": "metadata", b"r": "result", b"e": "error", b"p": "progress"}
"""Fields of a job's hashes (lua/lib/job.lua) and of its record; most jobs have few of them."""


def record(view: list[Any]) -> JobRecord:
    """A view of lua/lib/view.lua -> the record."""
    raw_id, field_pairs, blob, late_pairs, lease_ends, queue_attempts = view
    _, data, metadata, webhooks, parents = unpack(blob)
    fields, late = by_name(field_pairs), by_name(late_pairs) if late_pairs else {}
    queue, sequence = fields[b"q"].decode(), int.from_bytes(fields[b"n"], "big")
    found: dict[str, Any] = {"task": queue, "data": data, "metadata": metadata}
    for name in _NUMBERS.keys() & fields.keys():
        found[_NUMBERS[name]] = int(fields[name] or 0)
    for name in _TEXTS.keys() & fields.keys():
        found[_TEXTS[name]] = fields[name].decode()
    for name in _LATE.keys() & late.keys():
        found[_LATE[name]] = late[name]
    if b"r" in fields:
        found["result"] = fields[b"r"]
    hooks = late.get(b"w", webhooks)
    attempts = unpack(fields[b"o"]).get(b"attempts") if b"o" in fields else None
    job = JobRecord(
        id=job_id_text(raw_id),
        queue=queue,
        state=BY_LETTER[fields[b"s"].decode()],
        sequence=sequence,
        submitted_ms=sequence // 1024,
        webhooks=json.loads(hooks) if hooks else {},
        max_attempts=attempts or int(queue_attempts or 1),
        error_code=late[b"c"].decode() if b"c" in late else None,
        lease_expires_ms=int(lease_ends) if lease_ends else None,
        history=history(late[b"h"]) if b"h" in late else [],
        depends_on=tuple(job_id_text(parent) for parent in parents),
        **found,
    )
    if job.started_ms and job.state in (State.COMPLETED, State.FAILED):
        job.history.append(_last_attempt(job))
    return job


def _last_attempt(job: JobRecord) -> Attempt:
    """How the job ended: the scripts write down the attempts before, since this one can be read from the record."""
    return Attempt(
        kind="attempt",
        at_ms=job.ended_ms or 0,
        attempt=job.attempt,
        outcome=job.state.value,
        started_ms=job.started_ms,
        ended_ms=job.ended_ms,
        worker_id=job.worker_id,
        error=job.error,
    )


def history(raw: bytes) -> list[Attempt]:
    """The packed lines -> attempts and changes, oldest first."""
    lines: list[Attempt] = []
    for line in unpack_all(raw):
        kind = line[0].decode()
        if kind != "attempt":
            lines.append(Attempt(kind=kind, at_ms=int(line[1])))
            continue
        _, at, attempt, outcome, started, worker, error = line
        lines.append(
            Attempt(
                kind=kind,
                at_ms=int(at),
                attempt=int(attempt),
                outcome=outcome.decode(),
                started_ms=int(started) or None,
                ended_ms=int(at),
                worker_id=worker.decode("utf-8", "replace") or None,
                error=error or None,
            )
        )
    return lines
