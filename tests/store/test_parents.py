"""Jobs that depend on others (options.dependsOn)."""

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import JobSpec, Report, State
from mech_queue.services import jobs
from tests.store.engine import APPLICATION, Engine


def end(engine: Engine, job_id: str, kind: str) -> None:
    """The job runs (implicitly) and ends."""
    jobs.report(engine.store, APPLICATION, Report(job_id, kind, retry=False))  # type: ignore[arg-type]
    engine.run_due()


def state(engine: Engine, job_id: str) -> State | None:
    """Where the job is; None when it is gone."""
    found = engine.get(job_id)
    return found.state if found else None


def test_a_refused_child_leaves_nothing_behind(engine: Engine) -> None:
    parent, gone = engine.submit(), engine.submit()
    jobs.delete(engine.store, APPLICATION, gone)
    before = engine.dump()

    (answer,) = jobs.submit_many(engine.store, APPLICATION, [JobSpec("mail", depends_on=(parent, gone))])

    assert isinstance(answer, Refusal) and answer.code is Code.INVALID
    assert engine.dump() == before


def test_a_job_waits_for_all_of_its_parents(engine: Engine) -> None:
    first, second = engine.submit(), engine.submit()
    child = engine.submit(depends_on=(first, second))

    end(engine, first, "complete")
    assert state(engine, child) is State.DELAYED
    end(engine, second, "complete")
    assert state(engine, child) is State.WAITING


def test_a_parent_named_twice_counts_once(engine: Engine) -> None:
    parent = engine.submit()
    child = engine.submit(depends_on=(parent, parent))

    end(engine, parent, "complete")
    assert state(engine, child) is State.WAITING


def test_a_failed_parent_fails_its_children_in_turn(engine: Engine) -> None:
    parent = engine.submit()
    child = engine.submit(depends_on=(parent,))
    grandchild = engine.submit(depends_on=(child,))

    end(engine, parent, "fail")
    assert [state(engine, child), state(engine, grandchild)] == [State.FAILED, State.FAILED]
    found = engine.get(grandchild)
    assert found is not None and found.error_code == "PARENT_FAILED"
    assert engine.kinds(grandchild) == ["created", "failed"]


def test_a_failed_parent_may_be_forgiven(engine: Engine) -> None:
    parent = engine.submit()
    child = engine.submit(depends_on=(parent,), on_parent_failure="run")

    end(engine, parent, "fail")
    assert state(engine, child) is State.WAITING


def test_a_job_whose_parent_has_failed_already_fails_at_once(engine: Engine) -> None:
    parent = engine.submit()
    end(engine, parent, "fail")

    child = engine.submit(depends_on=(parent,))
    assert state(engine, child) is State.FAILED
    assert engine.kinds(child) == ["created", "failed"]


def test_an_unknown_parent_is_refused(engine: Engine) -> None:
    answer = engine.store.jobs.submit(
        APPLICATION, [JobSpec(queue="mail", depends_on=("01936d3c-0000-7000-8000-000000000000",))]
    )[0]
    assert isinstance(answer, Refusal) and answer.code is Code.INVALID


def test_a_deleted_parent_fails_its_children(engine: Engine) -> None:
    parent = engine.submit()
    child = engine.submit(depends_on=(parent,))

    jobs.delete(engine.store, APPLICATION, parent)
    engine.run_due()
    assert state(engine, child) is State.FAILED
    assert not engine.store.redis.exists(engine.prefix + b"children:" + engine.raw(parent))


def test_a_purged_parent_fails_its_children_elsewhere(engine: Engine) -> None:
    parent = engine.submit()
    child = engine.submit("other", depends_on=(parent,))

    engine.queue("mail", "p")
    engine.run_due()
    assert state(engine, parent) is None
    assert state(engine, child) is State.FAILED


def test_a_parent_retried_before_its_children_were_told_keeps_them_waiting(engine: Engine) -> None:
    parent = engine.submit()
    child = engine.submit(depends_on=(parent,))
    jobs.report(engine.store, APPLICATION, Report(parent, "complete"))

    jobs.retry(engine.store, APPLICATION, parent)
    engine.run_due()
    assert state(engine, child) is State.DELAYED
    end(engine, parent, "complete")
    assert state(engine, child) is State.WAITING


def test_a_child_that_is_due_later_waits_for_both(engine: Engine) -> None:
    parent = engine.submit()
    child = engine.submit(depends_on=(parent,), delay_ms=5_000)

    end(engine, parent, "complete")
    assert state(engine, child) is State.DELAYED
    engine.advance(5_000)
    assert state(engine, child) is State.WAITING


def test_time_alone_starts_no_child(engine: Engine) -> None:
    parent = engine.submit()
    child = engine.submit(depends_on=(parent,), delay_ms=5_000)

    engine.advance(6_000)
    assert state(engine, child) is State.DELAYED
    end(engine, parent, "complete")
    assert state(engine, child) is State.WAITING
