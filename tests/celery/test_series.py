"""Prefork: a process goes on with what the end of its job claimed, and the main process hears of it later."""

import os
import signal
from contextlib import closing

import pytest
from celery import Celery

from mech_queue.services import jobs, maintenance
from tests.celery.events import Events
from tests.celery.support import APPLICATION, Shop, Worker
from tests.support import wait_until

LONG_CHAIN = {"MECH_QUEUE_CHAIN_MS": "60000"}
SHORT_LEASE = {"MECH_QUEUE_LEASE_SECONDS": "1.5", "MECH_QUEUE_RENEW_SECONDS": "0.2"}


def test_a_job_that_the_main_process_has_not_heard_of_keeps_its_lease(shop: Shop) -> None:
    # given a main loop that stands still for twice the lease, while its process goes on
    _, first, holding, last = ids = _submit(shop, ("noop", []), ("sleep", [0]), ("hold_up", [4]), ("sleep", [3]))
    shop.worker("prefork", 1, **SHORT_LEASE, **LONG_CHAIN)
    shop.noted("held", holding)
    shop.noted("start", last, deadline_s=3)

    # then neither is its lease lost, nor is it stopped for the job before, whose end nobody has told either
    assert shop.all_ended(ids) == {"completed": 4}
    assert [shop.job(job).stalls for job in (first, holding, last)] == [0, 0, 0]
    assert len(shop.notes("start")) == 3, "a body ran twice"


def test_a_job_whose_receipt_takes_longer_than_the_lease_keeps_it(shop: Shop) -> None:
    ids = _submit(shop, ("noop", []), ("sleep", [0]), ("hold_up", [4, 3]))
    shop.worker("prefork", 1, **SHORT_LEASE, **LONG_CHAIN)
    assert shop.all_ended(ids) == {"completed": 3}
    assert len(shop.notes("start")) == 2, "a body ran twice"


def test_a_job_whose_end_was_not_reported_loses_its_lease(shop: Shop) -> None:
    # given a store that takes nothing until the body's process has given up
    _, first, second = _submit(shop, ("noop", []), ("sleep", [0]), ("sleep", [1]))
    worker = shop.worker("prefork", 1, MECH_QUEUE_LEASE_SECONDS="8", **LONG_CHAIN)
    shop.noted("start", second)
    with shop.redis() as client:
        client.client_pause(60_000, all=False)
        wait_until(lambda: "its complete was not reported" in worker.log(), 20)
        client.client_unpause()

    # then nobody keeps it active
    assert shop.until(second).attempt == 2
    assert shop.job(first).attempt == 1


def test_it_is_cancelled_like_any_other(shop: Shop) -> None:
    _, second = _begun_by_its_process(shop, [30])

    jobs.cancel(shop.store, APPLICATION, second)

    assert shop.run("add", [1]).state == "completed", "its process is free again"
    assert shop.job(second).state == "cancelled"
    assert not [note for note in shop.notes("end") if second in note]


def test_it_is_revoked_like_any_other(shop: Shop) -> None:
    _, second = _begun_by_its_process(shop, [30])

    with Celery("revoker", broker=shop.broker_url, set_as_current=False) as app:
        app.control.revoke(second, terminate=True)

    assert shop.until(second).state == "cancelled"
    assert shop.run("add", [1]).state == "completed"


def test_its_process_may_be_killed(shop: Shop) -> None:
    worker, second = _begun_by_its_process(shop, [1], MECH_QUEUE_LEASE_SECONDS="60")

    os.kill(worker.children()[0], signal.SIGKILL)

    ended = shop.until(second)
    assert (ended.state, ended.stalls, ended.attempt) == ("completed", 1, 2)


def test_processes_killed_among_short_jobs_leave_none_to_its_lease(shop: Shop) -> None:
    worker = shop.worker("prefork", 2, MECH_QUEUE_LEASE_SECONDS="300", **LONG_CHAIN)
    jobs_ = shop.submit_many(400, "noop")
    for share in (50, 100, 150, 200):
        wait_until(lambda share=share: _completed(shop) > share)  # type: ignore[misc]
        for child in worker.children():
            os.kill(child, signal.SIGKILL)
        wait_until(lambda: len(worker.children()) == 2)

    assert shop.all_ended(jobs_) == {"completed": 400}


def test_in_a_soft_shutdown_no_process_goes_on(shop: Shop) -> None:
    first, second = shop.submit("sleep", [1.5]), shop.submit("sleep", [0])
    worker = shop.worker("prefork", 1, SHOP_SOFT_SHUTDOWN_S="5", **LONG_CHAIN)
    shop.noted("start", first)

    worker.stop(signal.SIGQUIT)

    assert shop.job(first).state == "completed"
    assert (shop.job(second).state, shop.job(second).attempt) == ("waiting", 0)
    assert len(shop.notes("start")) == 1


def test_monitors_hear_of_a_success_that_the_main_process_had_not_heard_of(shop: Shop) -> None:
    # given a main loop that stands still, while its process ends a job and goes on
    _, first, holding, last = _submit(shop, ("noop", []), ("sleep", [0]), ("hold_up", [3]), ("sleep", [30]))
    with closing(Events(shop)) as events:
        worker = shop.worker("prefork", 1, **LONG_CHAIN)
        shop.noted("start", last)
        # when the worker is stopped in the meantime
        worker.stop(signal.SIGQUIT)
        # then each attempt is told as the store has it
        assert [shop.job(job).state for job in (first, holding, last)] == ["completed", "completed", "waiting"]
        wait_until(lambda: events.closings(holding))
        assert [events.closings(job) for job in (first, holding)] == [["task-succeeded"], ["task-succeeded"]]


def test_what_is_revoked_meanwhile_never_starts(shop: Shop) -> None:
    first, second, third = [shop.submit("sleep", [seconds]) for seconds in (2, 0, 0)]
    worker = shop.worker("prefork", 1, **LONG_CHAIN)
    shop.noted("start", first)

    with Celery("revoker", broker=shop.broker_url, set_as_current=False) as app:
        app.control.revoke(second)
        wait_until(lambda: second in str(app.control.inspect([worker.name], timeout=1).revoked()))
        assert not shop.notes("end")

    assert shop.all_ended([first, second, third]) == {"completed": 2, "cancelled": 1}
    assert not [note for note in shop.notes("start") if second in note]


def test_time_limits_are_those_of_each_job(shop: Shop) -> None:
    _, free, limited, stopped, last = ids = _submit(
        shop, ("noop", []), ("sleep", [0.7]), ("soft", []), ("hard", []), ("sleep", [0.7])
    )
    shop.worker("prefork", 1, **LONG_CHAIN)
    assert shop.all_ended(ids) == {"completed": 4, "failed": 1}
    assert shop.job(limited).result == b'"caught"'
    assert shop.job(stopped).error_code == "TIMEOUT"
    assert [shop.job(job).attempt for job in (free, limited, stopped, last)] == [1, 1, 1, 1]


def test_a_limit_of_the_worker_is_one_for_each_of_its_jobs(shop: Shop) -> None:
    *_, long = ids = _submit(shop, ("noop", []), ("sleep", [0.7]), ("sleep", [0.7]), ("sleep", [9]))
    shop.worker("prefork", 1, "--time-limit", "1", **LONG_CHAIN)
    assert shop.all_ended(ids) == {"completed": 3, "failed": 1}
    assert shop.job(long).error_code == "TIMEOUT"


def test_a_limit_stops_nobody_but_its_job(shop: Shop) -> None:
    # given a main loop that stands still, while its process ends a job long before its limit, and goes on
    before = _submit(shop, ("noop", []), ("sleep", [0]))
    holding = shop.submit("hold_up", [3], timeout_ms=1_500)
    last = shop.submit("sleep", [4], timeout_ms=60_000)
    shop.worker("prefork", 1, **LONG_CHAIN)
    shop.noted("held", holding)
    shop.noted("start", last, deadline_s=2)

    # then its limit, which is over when the loop turns again, does not stop the process at the next one
    assert shop.all_ended([*before, holding, last]) == {"completed": 4}
    assert (shop.job(last).attempt, shop.job(last).stalls) == (1, 0)


@pytest.mark.parametrize("limit", ["--time-limit", "--soft-time-limit"])
def test_in_a_warm_shutdown_a_limit_is_not_that_of_the_series(shop: Shop, limit: str) -> None:
    # given a series that is older than the limit, and a job that is not
    ids = _submit(shop, *[("noop", [])], *[("sleep", [0.7])] * 4, ("sleep", [1.5]))
    worker = shop.worker("prefork", 1, limit, "2", **LONG_CHAIN)
    shop.noted("start", ids[-1])
    worker.stop(signal.SIGTERM)
    assert shop.all_ended(ids) == {"completed": 6}


def _submit(shop: Shop, *jobs: tuple[str, object]) -> list[str]:
    """Submit jobs before their worker starts. Its first one may come before its loop turns, and begins no series."""
    return [shop.submit(task, data) for task, data in jobs]


def _begun_by_its_process(shop: Shop, data: object, **environment: str) -> tuple[Worker, str]:
    """A running job that the end of the one before it has claimed."""
    _, first, second = _submit(shop, ("noop", []), ("sleep", [0]), ("sleep", data))
    worker = shop.worker("prefork", 1, **LONG_CHAIN, **environment)
    shop.noted("start", second)
    assert shop.job(first).state == "completed"
    return worker, second


def _completed(shop: Shop) -> int:
    return int(maintenance.counts(shop.store).get("completed", 0))
