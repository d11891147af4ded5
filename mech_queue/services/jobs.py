"""What one can do with jobs. One verb each; the store's scripts decide."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import (
    Claim,
    JobRecord,
    JobSpec,
    Report,
    Reported,
    Started,
    State,
    Submitted,
)
from mech_queue.model.query import JobPage, JobQuery
from mech_queue.services import searching
from mech_queue.store import Store
from mech_queue.store.jobs import BATCH, STEP, Unmatched, missing

Action = Literal["cancel", "promote", "retry", "delete"]
T = TypeVar("T")
RETRY_PATIENCE_S = 2.0  # how long a retry waits for the job's last events to be matched


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Answer to a heartbeat. ``cancelled``: stop working, the job has ended."""

    cancelled: bool
    lease_expires_ms: int | None


def submit(
    store: Store, application_id: str, spec: JobSpec, *, idempotency: tuple[str, str] | None = None
) -> Submitted:
    """Submit one job; ``idempotency`` is (key, hash of the body)."""
    return _one(store.jobs.submit(application_id, [spec], idempotency=idempotency))


def submit_many(
    store: Store, application_id: str, specs: list[JobSpec | Refusal], *, ids: list[bytes] | None = None
) -> list[Submitted | Refusal]:
    """Submit many; what was refused before keeps its place. One bad item does not spoil the rest.

    ``ids``: one per item, made by the caller, when items depend on each other.
    """
    answers: list[Submitted | Refusal | None] = [spec if isinstance(spec, Refusal) else None for spec in specs]
    good = [(place, spec) for place, spec in enumerate(specs) if isinstance(spec, JobSpec)]
    for part in _parts(good):
        own = [ids[place] for place, _ in part] if ids else None
        done = store.jobs.submit(application_id, [spec for _, spec in part], ids=own)
        for (place, _), answer in zip(part, done, strict=True):
            answers[place] = answer
    return [answer for answer in answers if answer is not None]


def _parts(items: list[tuple[int, JobSpec]]) -> Iterator[list[tuple[int, JobSpec]]]:
    """What one script takes: at most BATCH jobs of at most STEP queues, since it looks after each queue."""
    part, queues = list[tuple[int, JobSpec]](), set[str]()
    for item in items:
        queues.add(item[1].queue)
        if len(part) == BATCH or len(queues) > STEP:
            yield part
            part, queues = [], {item[1].queue}
        part.append(item)
    if part:
        yield part


def get(store: Store, application_id: str, job_id: str) -> JobRecord:
    """One job. Raises Refusal(NOT_FOUND)."""
    found = store.jobs.get(application_id, job_id)
    if found is None:
        raise missing()
    return found


def search(store: Store, application_id: str, query: JobQuery) -> JobPage:
    """One full page: goes on until it is full, the jobs end, 8 MiB are reached or 2 s have passed."""
    return searching.search(store, application_id, query)


def claim(
    store: Store,
    application_id: str,
    queues: list[str],
    *,
    limit: int = 1,
    lease_ms: int | None = None,
    worker_id: str | None = None,
    nonce: str | None = None,
    kind: Literal["http", "native"] = "http",
) -> Claim:
    """Take the next jobs of the queues, in order of preference; answers at once, maybe empty."""
    return store.jobs.claim(
        application_id, queues, limit=limit, lease_ms=lease_ms, worker_id=worker_id, nonce=nonce, kind=kind
    )


def start(
    store: Store,
    application_id: str,
    job_id: str,
    *,
    lease_token: str | None = None,
    lease_ms: int | None = None,
    worker_id: str | None = None,
) -> Started:
    """Take one named job (PUT started)."""
    return store.jobs.start(application_id, job_id, lease_token=lease_token, lease_ms=lease_ms, worker_id=worker_id)


def report(store: Store, application_id: str, report: Report) -> Reported:
    """What a worker says of its job. Raises Refusal."""
    return _one(store.jobs.report(application_id, [report]))


def exchange(
    store: Store, application_id: str, report: Report, *, queue: str, lease_ms: int, worker_id: str, nonce: str
) -> tuple[Reported | Refusal, Claim]:
    """Report an ended job and claim the next one of a queue in the same step (native workers)."""
    return store.jobs.exchange(application_id, report, queue=queue, lease_ms=lease_ms, worker_id=worker_id, nonce=nonce)


def report_many(store: Store, application_id: str, reports: list[Report]) -> list[Reported | Refusal]:
    """Many reports, each by itself, in order."""
    answers: list[Reported | Refusal] = []
    for at in range(0, len(reports), STEP):
        answers += store.jobs.report(application_id, reports[at : at + STEP])
    return answers


def heartbeat(
    store: Store, application_id: str, job_id: str, lease_token: str | None, *, lease_ms: int | None = None
) -> Heartbeat:
    """Renew the lease of a running job. Raises Refusal(LEASE_LOST | NOT_FOUND)."""
    outcome, ends = store.jobs.renew(application_id, [(job_id, lease_token)], lease_ms)[0]
    if outcome == "missing":
        raise missing()
    if outcome == "lost":
        sentence = "The lease of this job is not yours any more; stop working on it."
        if lease_token is None:
            sentence = "The job is not held without lease token: send the leaseToken that the answer to its claim has."
        raise Refusal(Code.LEASE_LOST, sentence)
    return Heartbeat(outcome == "cancelled", ends)


def renew(
    store: Store, application_id: str, leases: list[tuple[str, str]], lease_ms: int
) -> list[Literal["ok", "lost", "cancelled"]]:
    """Renew many leases at once (native workers); what is gone is lost."""
    outcomes: list[Literal["ok", "lost", "cancelled"]] = []
    for at in range(0, len(leases), BATCH):
        part: list[tuple[str, str | None]] = list(leases[at : at + BATCH])
        for outcome, _ in store.jobs.renew(application_id, part, lease_ms):
            outcomes.append("ok" if outcome == "ok" else "cancelled" if outcome == "cancelled" else "lost")
    return outcomes


def cancel(store: Store, application_id: str, job_id: str) -> State:
    """End the job at once in any unfinished state."""
    return _state(_one(store.jobs.act("cancel", application_id, [job_id])))


def promote(store: Store, application_id: str, job_id: str) -> State:
    """Let a delayed job wait for a worker now."""
    return _state(_one(store.jobs.act("promote", application_id, [job_id])))


def retry(store: Store, application_id: str, job_id: str) -> State:
    """Let an ended job wait again, with fresh attempts."""
    until = time.monotonic() + RETRY_PATIENCE_S
    answer = store.jobs.act("retry", application_id, [job_id])[0]
    while isinstance(answer, Unmatched) and time.monotonic() < until:
        time.sleep(0.05)
        answer = store.jobs.act("retry", application_id, [job_id])[0]
    return _state(_one([answer]))


def delete(store: Store, application_id: str, job_id: str) -> None:
    """Remove an ended or waiting job."""
    _one(store.jobs.act("delete", application_id, [job_id]))


def act_many(store: Store, application_id: str, action: Action, job_ids: list[str]) -> list[State | Refusal | None]:
    """One action on many jobs, each by itself."""
    answers: list[State | Refusal | None] = []
    for at in range(0, len(job_ids), STEP):
        answers += store.jobs.act(action, application_id, job_ids[at : at + STEP])
    return answers


def change(
    store: Store,
    application_id: str,
    job_id: str,
    *,
    priority: int | None = None,
    run_at_ms: int | None = None,
    metadata: dict[str, object] | None = None,
) -> JobRecord:
    """PATCH of a job that waits; filters see it at once."""
    store.jobs.change(application_id, job_id, priority=priority, run_at_ms=run_at_ms, metadata=metadata)
    return get(store, application_id, job_id)


def set_webhooks(store: Store, application_id: str, job_id: str, webhooks: dict[str, str | None]) -> dict[str, str]:
    """Merge job webhooks (None removes); returns those the job has now."""
    return store.jobs.set_webhooks(application_id, job_id, webhooks)


def with_parents(store: Store, application_id: str, job: JobRecord) -> JobRecord:
    """The job with the results of those it depends on."""
    if job.depends_on:
        job.parents = store.jobs.parents(application_id, job)
    return job


def _one(answers: "list[T | Refusal]") -> T:
    answer = answers[0]
    if isinstance(answer, Refusal):
        raise answer
    return answer


def _state(state: State | None) -> State:
    if state is None:
        raise missing()
    return state


def log(store: Store, application_id: str, job_id: str, lines: list[str]) -> int:
    """Append lines to a job's log (bounded); returns how many are kept."""
    return store.logs.append(application_id, job_id, lines)


def logs(
    store: Store, application_id: str, job_id: str, start: int = 0, limit: int = 100
) -> tuple[int, list[tuple[int, str]]]:
    """Lines from number ``start`` on, oldest first: the number of the first that is left, and (unix ms, line) each.

    Lines are counted from 0 as they came, also those that are dropped by now. Raises Refusal(NOT_FOUND).
    """
    get(store, application_id, job_id)
    return store.logs.read(application_id, job_id, start, limit)
