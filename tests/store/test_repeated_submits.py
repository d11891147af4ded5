"""A submit whose answer was lost comes again with the same id: the job was taken, whatever holds by now."""

import pytest

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import JobSpec
from mech_queue.store import Store
from tests.store.engine import APPLICATION, Engine


@pytest.fixture
def engine(store: Store) -> Engine:
    return Engine(store)


@pytest.mark.parametrize(
    "spec",
    [JobSpec("mail"), JobSpec("mail", dedupe_key="k"), JobSpec("mail", dedupe_key="k", debounce="extend", delay_ms=10)],
    ids=["plain", "with a dedupe key", "debounced"],
)
@pytest.mark.parametrize("now", ["nothing has changed", "the queue drains", "the application is full", "it has ended"])
def test_it_is_answered_as_the_first_time_and_changes_nothing(engine: Engine, spec: JobSpec, now: str) -> None:
    # given a job that was taken
    first = engine.store.jobs.submit(APPLICATION, [spec])[0]
    assert not isinstance(first, Refusal)
    raw = engine.raw(first.job_id)
    if now == "the queue drains":
        engine.queue("mail", draining=1)
    elif now == "the application is full":
        engine.settings(max_waiting=1)
    elif now == "it has ended":
        engine.store.jobs.act("cancel", APPLICATION, [first.job_id])
    before = engine.get(first.job_id)
    # when its submit comes again
    again = engine.store.jobs.submit(APPLICATION, [spec], ids=[raw])[0]
    # then it has the same answer, and the job is as it was
    assert again == first
    assert engine.get(first.job_id) == before
    # and what is new is judged by itself
    if now in ("the queue drains", "the application is full") and spec.dedupe_key is None:
        refused = engine.store.jobs.submit(APPLICATION, [spec])[0]
        assert isinstance(refused, Refusal)
        assert refused.code in (Code.QUEUE_DRAINING, Code.QUEUE_FULL)


def test_a_job_that_was_refused_for_its_parents_leaves_nothing(engine: Engine) -> None:
    refused = engine.store.jobs.submit(
        APPLICATION, [JobSpec("mail", depends_on=("01900000-0000-7000-8000-000000000000",))]
    )
    assert isinstance(refused[0], Refusal)
    assert not list(engine.store.redis.scan_iter(engine.prefix + b"d:*"))
