"""The history of a job: each attempt once, with worker, times and error, also the one that ended it."""

from mech_queue.model.job import Report
from mech_queue.services import jobs
from tests.store.engine import APPLICATION, START_MS, Engine


def run(engine: Engine, kind: str, **more: object) -> None:
    """A worker takes the next job and reports after 10 ms."""
    (job,) = jobs.claim(engine.store, APPLICATION, ["mail"], lease_ms=5_000, worker_id="w").jobs
    engine.now += 10
    jobs.report(engine.store, APPLICATION, Report(job.id, kind, lease_token=job.lease_token, **more))  # type: ignore[arg-type]


def lines(engine: Engine, job_id: str) -> list[tuple[int, str | None]]:
    """Attempts with their outcomes, and what happened between them."""
    job = engine.get(job_id)
    assert job is not None
    return [(line.attempt, line.outcome or line.kind) for line in job.history]


def test_every_attempt_has_one_line(engine: Engine) -> None:
    job_id = engine.submit(attempts=2)
    run(engine, "fail", delay_ms=0, error=b'"once"')
    run(engine, "stall")
    run(engine, "complete")
    history = [(1, "retrying"), (2, "stalled"), (3, "completed")]
    assert lines(engine, job_id) == history

    jobs.retry(engine.store, APPLICATION, job_id)
    history.append((0, "retried"))
    assert lines(engine, job_id) == history
    run(engine, "fail", retry=False, error=b'"for good"')

    assert lines(engine, job_id) == [*history, (4, "failed")]
    job = engine.get(job_id)
    assert job is not None
    last = job.history[-1]
    assert (last.started_ms, last.ended_ms) == (START_MS + 30, START_MS + 40)
    assert (last.worker_id, last.error) == ("w", b'"for good"')


def test_a_cancelled_attempt_has_one_line_too(engine: Engine) -> None:
    job_id = engine.submit()
    jobs.claim(engine.store, APPLICATION, ["mail"])
    jobs.cancel(engine.store, APPLICATION, job_id)
    assert lines(engine, job_id) == [(1, "cancelled")]
    jobs.retry(engine.store, APPLICATION, job_id)
    assert lines(engine, job_id) == [(1, "cancelled"), (0, "retried")]


def test_a_job_that_nobody_started_has_none(engine: Engine) -> None:
    job_id = engine.submit(expires_in_ms=100)
    engine.advance(100)
    assert lines(engine, job_id) == []
    jobs.retry(engine.store, APPLICATION, job_id)
    assert lines(engine, job_id) == [(0, "retried")]
