"""The rules of PUT: the seed's workers send no token, compete, and must neither crash nor spoil a job."""

from typing import Any

import pytest

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import Report, Reported, Started, State
from mech_queue.services import jobs
from tests.store.engine import APPLICATION, Engine

LOSER_ERROR = b'"Request failed with status code 409"'
HOLDER_ERROR = b'"smtp: mailbox unavailable"'


def started(engine: Engine, job_id: str, token: str | None = None) -> Started:
    """PUT started."""
    return jobs.start(engine.store, APPLICATION, job_id, lease_token=token)


def put(engine: Engine, job_id: str, kind: Any, token: str | None = None, **more: Any) -> Reported:
    """PUT with any other status."""
    return jobs.report(engine.store, APPLICATION, Report(job_id, kind, lease_token=token, **more))


def refused(engine: Engine, job_id: str, kind: str, token: str | None = None, **more: Any) -> Code:
    """PUT that must be refused; returns why."""
    with pytest.raises(Refusal) as caught:
        if kind == "started":
            started(engine, job_id, token)
        else:
            put(engine, job_id, kind, token, **more)
    return caught.value.code


def state(engine: Engine, job_id: str) -> State:
    """Where the job is."""
    found = engine.get(job_id)
    assert found is not None
    return found.state


def test_the_losers_failed_is_ignored_and_the_winner_completes(engine: Engine) -> None:
    job = engine.submit()
    started(engine, job)  # the winner
    assert refused(engine, job, "started") is Code.JOB_TAKEN

    assert put(engine, job, "fail", error=LOSER_ERROR).ignored
    assert put(engine, job, "complete", result=b"1").state is State.COMPLETED
    assert engine.kinds(job) == ["created", "started", "completed"]


def test_the_losers_failed_is_ignored_when_the_winner_was_faster(engine: Engine) -> None:
    job = engine.submit()
    started(engine, job)
    assert refused(engine, job, "started") is Code.JOB_TAKEN
    put(engine, job, "complete")

    answer = put(engine, job, "fail", error=LOSER_ERROR)
    assert (answer.ignored, answer.state) == (True, State.COMPLETED)


def test_a_loser_who_comes_after_the_end_is_ignored_too(engine: Engine) -> None:
    job = engine.submit()
    put(engine, job, "complete")
    assert refused(engine, job, "started") is Code.JOB_ENDED

    assert put(engine, job, "fail", error=HOLDER_ERROR).ignored  # whatever it says: nobody holds the job
    assert state(engine, job) is State.COMPLETED


def test_the_holders_failed_counts_although_others_lost(engine: Engine) -> None:
    job = engine.submit()
    started(engine, job)
    assert refused(engine, job, "started") is Code.JOB_TAKEN

    answer = put(engine, job, "fail", error=HOLDER_ERROR)
    assert (answer.ignored, answer.state) == (False, State.FAILED)
    # the loser speaks last
    assert put(engine, job, "fail", error=LOSER_ERROR).ignored
    assert engine.kinds(job) == ["created", "started", "failed"]


def test_as_many_failed_are_ignored_as_were_refused(engine: Engine) -> None:
    job = engine.submit()
    put(engine, job, "complete")
    for _ in range(3):
        refused(engine, job, "started")

    assert all(put(engine, job, "fail", error=LOSER_ERROR).ignored for _ in range(3))
    assert refused(engine, job, "fail", error=LOSER_ERROR) is Code.JOB_ENDED


def test_a_refusal_is_remembered_for_a_minute(engine: Engine) -> None:
    job = engine.submit()
    put(engine, job, "complete")
    refused(engine, job, "started")

    engine.advance(60_000)
    assert refused(engine, job, "fail", error=LOSER_ERROR) is Code.JOB_ENDED


def test_the_removal_of_a_job_waits_while_a_refusal_is_remembered(engine: Engine) -> None:
    job = engine.submit(retention_seconds=1)
    put(engine, job, "complete")
    engine.now += 500
    refused(engine, job, "started")

    engine.advance(59_999)
    assert put(engine, job, "fail", error=LOSER_ERROR).ignored
    engine.advance(1)
    assert engine.get(job) is None


def test_n_copies_of_the_seeds_worker_run_every_job_once_and_none_exits(engine: Engine) -> None:
    """Each copy sends started; who gets 409 reports failed at once, as the seed's catch does."""
    waiting = [engine.submit() for _ in range(5)]

    for job in waiting:
        holders = 0
        for _ in range(4):
            try:
                started(engine, job)
                holders += 1
            except Refusal as refusal:
                assert refusal.status == 409
                assert put(engine, job, "fail", error=LOSER_ERROR).ignored  # another 409 would end its process
        assert holders == 1
        put(engine, job, "complete")

    assert [engine.kinds(job) for job in waiting] == [["created", "started", "completed"]] * 5


def test_a_paused_queue_refuses_and_the_seeds_worker_survives(engine: Engine) -> None:
    job = engine.submit()
    engine.queue("mail", paused=1)
    assert refused(engine, job, "started") is Code.QUEUE_PAUSED

    assert put(engine, job, "fail", error=LOSER_ERROR).ignored
    assert state(engine, job) is State.WAITING


@pytest.mark.parametrize("setting", [{"concurrency": 1}, {"rate_max": 1, "rate_per": 60_000}, {"per_key": 1}])
def test_started_is_refused_at_a_limit(engine: Engine, setting: dict[str, int]) -> None:
    engine.queue("mail", **setting)
    first, second = (engine.submit(concurrency_key="k") for _ in range(2))
    started(engine, first)
    assert refused(engine, second, "started") is Code.LIMIT_REACHED


def test_started_is_refused_at_the_limit_of_the_application(engine: Engine) -> None:
    engine.settings(max=1)
    first, second = engine.submit("mail"), engine.submit("other")
    started(engine, first)
    assert refused(engine, second, "started") is Code.LIMIT_REACHED


def test_work_that_is_done_ignores_pause_and_limits(engine: Engine) -> None:
    job = engine.submit()
    engine.queue("mail", paused=1, concurrency=1, rate_max=1, rate_per=60_000)

    assert put(engine, job, "complete").state is State.COMPLETED
    assert put(engine, engine.submit(), "progress", progress=b"10").state is State.ACTIVE
    assert put(engine, engine.submit(), "complete").state is State.COMPLETED


def test_the_token_is_required_after_its_first_use(engine: Engine) -> None:
    job = engine.submit()
    token = started(engine, job).lease_token
    put(engine, job, "progress", progress=b"1")  # without: still allowed
    put(engine, job, "progress", token, progress=b"2")

    assert refused(engine, job, "progress", progress=b"3") is Code.LEASE_LOST
    assert refused(engine, job, "complete") is Code.LEASE_LOST
    assert put(engine, job, "complete", token).state is State.COMPLETED


def test_the_token_is_required_after_a_heartbeat_carried_it(engine: Engine) -> None:
    job = engine.submit()
    token = started(engine, job).lease_token
    jobs.heartbeat(engine.store, APPLICATION, job, token)
    assert refused(engine, job, "complete") is Code.LEASE_LOST


def test_the_token_is_required_for_claimed_jobs(engine: Engine) -> None:
    job = engine.submit()
    token = jobs.claim(engine.store, APPLICATION, ["mail"]).jobs[0].lease_token

    assert refused(engine, job, "complete") is Code.LEASE_LOST
    assert refused(engine, job, "complete", "another") is Code.LEASE_LOST
    assert put(engine, job, "complete", token).state is State.COMPLETED


def test_started_repeated_with_its_token_is_answered_the_same(engine: Engine) -> None:
    job = engine.submit()
    first = started(engine, job)
    assert started(engine, job, first.lease_token) == first
    assert engine.kinds(job) == ["created", "started"]


@pytest.mark.parametrize(("kind", "other"), [("complete", "fail"), ("fail", "complete")])
def test_the_same_ending_twice_is_one_event_and_another_is_refused(engine: Engine, kind: str, other: str) -> None:
    job = engine.submit()
    token = started(engine, job).lease_token
    first = put(engine, job, kind, token)

    again = put(engine, job, kind, token)
    assert (again.state, again.ignored) == (first.state, False)
    assert refused(engine, job, other, token) is Code.JOB_ENDED
    assert len(engine.kinds(job)) == 3


def test_a_failure_repeated_while_the_job_backs_off_counts_once(engine: Engine) -> None:
    job = engine.submit(attempts=3)
    token = started(engine, job).lease_token

    assert put(engine, job, "fail", token).state is State.DELAYED
    assert put(engine, job, "fail", token).state is State.DELAYED
    found = engine.get(job)
    assert found is not None and found.failures == 1
    assert engine.kinds(job) == ["created", "started", "retrying"]


def test_a_worker_that_lost_its_lease_cannot_end_the_next_attempt(engine: Engine) -> None:
    job = engine.submit()
    old = jobs.claim(engine.store, APPLICATION, ["mail"], lease_ms=5_000).jobs[0].lease_token
    engine.advance(5_000)
    new = jobs.claim(engine.store, APPLICATION, ["mail"]).jobs[0].lease_token

    assert refused(engine, job, "complete", old) is Code.LEASE_LOST
    assert put(engine, job, "complete", new).state is State.COMPLETED


def test_after_cancel_the_worker_is_told(engine: Engine) -> None:
    job = engine.submit()
    token = started(engine, job).lease_token
    jobs.cancel(engine.store, APPLICATION, job)

    assert jobs.heartbeat(engine.store, APPLICATION, job, token).cancelled
    for kind in ("progress", "complete", "fail"):
        assert refused(engine, job, kind, token) is Code.JOB_CANCELLED
    assert refused(engine, job, "started") is Code.JOB_CANCELLED
    assert put(engine, job, "fail", error=HOLDER_ERROR).ignored
    assert engine.kinds(job) == ["created", "started", "cancelled"]


def test_a_tokenless_failed_after_cancel_is_ignored_without_a_refusal_before(engine: Engine) -> None:
    job = engine.submit()
    started(engine, job)
    jobs.cancel(engine.store, APPLICATION, job)
    assert put(engine, job, "fail", error=HOLDER_ERROR).ignored
    assert put(engine, job, "fail", error=HOLDER_ERROR).ignored


def test_a_delayed_job_is_not_due(engine: Engine) -> None:
    job = engine.submit(delay_ms=10_000)
    assert refused(engine, job, "fail") is Code.NOT_DUE
    assert put(engine, job, "fail").ignored  # of the refusal just before
    for kind in ("started", "progress", "complete"):
        assert refused(engine, job, kind) is Code.NOT_DUE
    assert state(engine, job) is State.DELAYED


def test_a_result_may_come_with_any_status_and_is_kept(engine: Engine) -> None:
    job = engine.submit()
    put(engine, job, "progress", progress=b"50", result=b'{"half":true}')
    put(engine, job, "complete")
    found = engine.get(job)
    assert found is not None
    assert (found.result, found.progress) == (b'{"half":true}', b"50")


def test_a_lease_taken_by_put_lasts_half_an_hour_and_by_claim_a_minute(engine: Engine) -> None:
    first, second = engine.submit(), engine.submit()
    assert started(engine, first).lease_expires_ms == engine.now + 1_800_000
    assert jobs.claim(engine.store, APPLICATION, ["mail"]).jobs[0].lease_expires_ms == engine.now + 60_000
    assert state(engine, second) is State.ACTIVE


def test_metadata_of_two_reports_in_one_call_is_merged(engine: Engine) -> None:
    job = engine.submit(metadata=b'{"a":1}')
    answers = jobs.report_many(
        engine.store,
        APPLICATION,
        [Report(job, "progress", progress=b"1", metadata={"b": 2}), Report(job, "progress", metadata={"c": 3})],
    )
    assert [type(answer) for answer in answers] == [Reported, Reported]
    found = engine.get(job)
    assert found is not None and found.metadata == b'{"a":1,"b":2,"c":3}'
