"""Bulk operations: bounded steps that any kill may interrupt, and whom they touch."""

import threading

import pytest

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import JobSpec, Report, State
from mech_queue.model.query import JobQuery
from mech_queue.services import events, jobs, maintenance, operations
from mech_queue.services.operations import Operation
from mech_queue.store import Store, keys

APPLICATION = "app-operations00"
START_MS = 1_764_000_000_000
FAILED = JobQuery(queue="q", states=(State.FAILED,))


def fail(store: Store, many: int, **options: object) -> list[str]:
    """Submit jobs and let them fail."""
    ids = [jobs.submit(store, APPLICATION, JobSpec("q", **options)).job_id for _ in range(many)]  # type: ignore[arg-type]
    jobs.report_many(store, APPLICATION, [Report(job_id, "fail") for job_id in ids])
    return ids


def finish(store: Store, operation_id: str) -> Operation:
    """The scheduler works until the operation is over."""
    for _ in range(100):
        found = operations.get(store, APPLICATION, operation_id)
        if found.state == "finished":
            return found
        maintenance.tick(store)
    raise AssertionError(f"does not end: {found}")


def test_it_takes_what_was_there_also_of_the_same_moment_and_nothing_later(store: Store) -> None:
    # given 250 failed jobs, all of one millisecond, in which the operation begins too
    store.scripts.clock = lambda: START_MS
    fail(store, 250)
    assert operations.count(store, APPLICATION, FAILED) == 250
    operation = operations.create(store, APPLICATION, "retry", FAILED)
    # when another job fails afterwards
    store.scripts.clock = lambda: START_MS + 10
    (later,) = fail(store, 1)
    # then the operation has taken the others, in steps of a hundred
    maintenance.tick(store)
    assert operations.get(store, APPLICATION, operation).done == 100
    found = finish(store, operation)
    assert (found.done, found.failed) == (250, 0)
    assert jobs.get(store, APPLICATION, later).state is State.FAILED


def test_a_step_taken_twice_counts_once(store: Store) -> None:
    # given an operation whose first step was taken by a scheduler that was killed before it could book it
    ids = fail(store, 5)
    operation = operations.create(store, APPLICATION, "retry", FAILED)
    jobs.act_many(store, APPLICATION, "retry", ids[:3])
    # when another scheduler goes on
    found = finish(store, operation)
    # then every job waits again, once
    assert [jobs.get(store, APPLICATION, job_id).state for job_id in ids] == [State.WAITING] * 5
    assert found.done == 2


def test_jobs_that_refuse_are_counted(store: Store) -> None:
    fail(store, 2)
    jobs.submit(store, APPLICATION, JobSpec("q"))
    found = finish(store, operations.create(store, APPLICATION, "retry", JobQuery(queue="q")))
    assert (found.done, found.failed) == (2, 1)


def test_a_retry_waits_for_those_whose_events_are_on_their_way(store: Store) -> None:
    # given failed jobs whose webhooks nobody has matched yet
    ids = fail(store, 3, webhooks={"failed": "http://127.0.0.1:49151/hook"})
    operation = operations.create(store, APPLICATION, "retry", FAILED)
    for _ in range(3):
        maintenance.tick(store)
    assert (operations.get(store, APPLICATION, operation).state, jobs.get(store, APPLICATION, ids[0]).state) == (
        "running",
        State.FAILED,
    )
    # when they are matched
    events.match(store, keys.shard_of(APPLICATION))
    # then they are retried
    found = finish(store, operation)
    assert (found.done, found.failed) == (3, 0)


def test_a_single_retry_waits_likewise_but_not_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a failed job whose webhook nobody matches
    (job_id,) = fail(store, 1, webhooks={"failed": "http://127.0.0.1:49151/hook"})
    monkeypatch.setattr(jobs, "RETRY_PATIENCE_S", 0.0)
    # then a retry is refused as passing
    with pytest.raises(Refusal, match="try again in a moment") as refused:
        jobs.retry(store, APPLICATION, job_id)
    assert refused.value.code is Code.CONFLICT
    # when it is matched while a retry waits, that succeeds
    monkeypatch.setattr(jobs, "RETRY_PATIENCE_S", 10.0)
    threading.Timer(0.1, events.match, (store, keys.shard_of(APPLICATION))).start()
    assert jobs.retry(store, APPLICATION, job_id) is State.WAITING
