"""How often a job is tried, and what it waits between: its own word, its queue's, the service's."""

from typing import Any

import pytest

from mech_queue.model.job import Backoff, Report, State
from mech_queue.services import jobs
from mech_queue.store import Store
from tests.store.engine import APPLICATION, Engine

QUEUE = {"attempts": 2, "backoff_delay": 500, "backoff_type": "exponential"}


@pytest.fixture
def engine(store: Store) -> Engine:
    store.greet(initialise=True, defaults={"attempts": 3, "backoff_delay": 200})
    return Engine(store)


def pauses(engine: Engine, **options: Any) -> list[int]:
    """Submit a job that fails again and again: what it waited for, in ms, until it ended."""
    job_id = engine.submit(**options)
    found: list[int] = []
    while True:
        (taken,) = jobs.claim(engine.store, APPLICATION, ["mail"]).jobs
        record = jobs.get(engine.store, APPLICATION, job_id)
        assert taken.max_attempts == record.max_attempts
        jobs.report(engine.store, APPLICATION, Report(job_id, "fail", lease_token=taken.lease_token))
        record = jobs.get(engine.store, APPLICATION, job_id)
        if record.state is State.FAILED:
            assert record.attempt == record.max_attempts
            return found
        assert record.run_at_ms is not None
        found.append(record.run_at_ms - engine.now)
        engine.advance(found[-1])


def test_the_service_decides_when_nobody_else_does(engine: Engine) -> None:
    assert pauses(engine) == [200, 400]


def test_the_queue_comes_before_the_service(engine: Engine) -> None:
    engine.queue("mail", **QUEUE)
    assert pauses(engine) == [500]


def test_the_job_comes_before_its_queue(engine: Engine) -> None:
    engine.queue("mail", **QUEUE)
    assert pauses(engine, attempts=4, backoff=Backoff(delay_ms=100)) == [100, 200, 400]
    assert pauses(engine, attempts=1) == []


def test_what_the_job_leaves_open_its_queue_says(engine: Engine) -> None:
    assert pauses(engine, backoff=Backoff(type="fixed")) == [200, 200]
    engine.queue("mail", **QUEUE)
    assert pauses(engine, attempts=3, backoff=Backoff(type="fixed")) == [500, 500]


def test_without_a_word_from_anybody_a_native_task_may_ask_for_more(engine: Engine) -> None:
    # given a service that is back at the built-in defaults
    engine.store.greet(initialise=True, defaults={"attempts": 1, "backoff_delay": 1_000})
    assert pauses(engine) == []
    # when a task asks for a retry that its max_retries allows
    job_id = engine.submit()
    (taken,) = jobs.claim(engine.store, APPLICATION, ["mail"]).jobs
    assert not taken.attempts_given
    report = Report(job_id, "fail", lease_token=taken.lease_token, allowed_failures=2)
    # then it gets it
    assert jobs.report(engine.store, APPLICATION, report).state is State.DELAYED
