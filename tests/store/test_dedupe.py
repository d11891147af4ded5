"""A dedupe key: how long it holds, and whom it belongs to."""

from typing import Any

import pytest

from mech_queue.model.job import Report
from mech_queue.services import jobs
from mech_queue.store import Store
from tests.store.engine import APPLICATION, Engine


@pytest.fixture
def engine(store: Store) -> Engine:
    return Engine(store)


def end(engine: Engine, job_id: str, kind: Any = "complete") -> None:
    jobs.report(engine.store, APPLICATION, Report(job_id, kind))


def test_without_a_time_it_holds_until_the_job_ends(engine: Engine) -> None:
    first = engine.submit(dedupe_key="k")
    assert engine.submit(dedupe_key="k") == first
    end(engine, first)
    assert engine.submit(dedupe_key="k") != first


def test_with_a_time_it_holds_that_long_whatever_becomes_of_the_job(engine: Engine) -> None:
    # given a job with a key that holds for a minute
    first = engine.submit(dedupe_key="k", dedupe_ttl_ms=60_000, retention_seconds=0)
    # when it ends, and is removed
    end(engine, first)
    assert engine.submit(dedupe_key="k", dedupe_ttl_ms=60_000) == first
    engine.advance(1_000)
    assert engine.get(first) is None
    # then the key is still its own
    assert engine.submit(dedupe_key="k", dedupe_ttl_ms=60_000) == first
    # until a submit does not ask for that
    assert engine.submit(dedupe_key="k") != first


def test_a_job_that_somebody_deleted_gives_its_key_back(engine: Engine) -> None:
    first = engine.submit(dedupe_key="k", dedupe_ttl_ms=60_000)
    jobs.delete(engine.store, APPLICATION, first)
    assert engine.submit(dedupe_key="k", dedupe_ttl_ms=60_000) != first


def test_a_retried_job_takes_its_key_again_unless_another_has_it(engine: Engine) -> None:
    # given a job that failed, and so gave its key back
    first = engine.submit(dedupe_key="k")
    end(engine, first, "fail")
    # when it waits again, then the key is its own
    jobs.retry(engine.store, APPLICATION, first)
    assert engine.submit(dedupe_key="k") == first
    # when another has taken the key meanwhile, then that one keeps it
    end(engine, first, "fail")
    second = engine.submit(dedupe_key="k")
    jobs.retry(engine.store, APPLICATION, first)
    assert engine.submit(dedupe_key="k") == second
    end(engine, first)
    assert engine.submit(dedupe_key="k") == second
