"""Workers, children, queues and connections are killed under load: nothing is lost, every job ends once."""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
import redis
from celery import Celery

from mech_queue.services import maintenance
from tests.celery.support import APPLICATION, QUEUE, Shop, Worker
from tests.support import wait_until

BROKER_LIST = f"jobs.{APPLICATION}.{QUEUE}"


@pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 2), ("threads", 4), ("gevent", 8)])
def test_a_worker_killed_under_load_loses_nothing(shop: Shop, pool: str, concurrency: int) -> None:
    first, _ = shop.worker(pool, concurrency), shop.worker(pool, concurrency)
    jobs = shop.submit_many(60, "sleep", [0.1])
    wait_until(lambda: len(shop.notes("end")) > 5)

    first.kill()

    assert shop.all_ended(jobs) == {"completed": 60}
    # what it ran comes back once; a prefork child that outlives its parent may even report its last job itself
    ended = [shop.job(job) for job in jobs]
    assert sum(job.stalls for job in ended) <= 2 * concurrency
    assert all(job.attempt == 1 + job.stalls for job in ended)


def test_a_killed_child_gives_its_job_back_at_once(shop: Shop) -> None:
    worker = shop.worker("prefork", 1, MECH_QUEUE_LEASE_SECONDS="60")
    job = shop.submit("sleep", [0.7])
    shop.noted("start", job)

    os.kill(worker.children()[0], signal.SIGKILL)

    ended = shop.until(job)
    assert ended.state == "completed" and ended.stalls == 1 and ended.attempt == 2


@pytest.mark.usefixtures("broker_is_store")
def test_the_queues_wiped_under_load_lose_nothing(shop: Shop) -> None:
    shop.worker("prefork", 2)
    stop = threading.Event()

    def wipe() -> None:
        with shop.redis() as client:
            while not stop.wait(0.05):
                client.delete(BROKER_LIST)

    wiper = threading.Thread(target=wipe)
    wiper.start()
    jobs = shop.submit_many(300, "noop")
    try:
        assert shop.all_ended(jobs) == {"completed": 300}
    finally:
        stop.set()
        wiper.join()
    assert {shop.job(job).attempt for job in jobs} == {1}


@pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 2), ("threads", 4), ("gevent", 8), ("solo", 1)])
def test_the_next_claim_takes_the_highest_priority_in_exact_order(shop: Shop, pool: str, concurrency: int) -> None:
    low = shop.submit_many(500, "noop")
    high = [shop.submit("noop", priority=priority) for priority in (1, 5, 3)]

    shop.worker(pool, concurrency)
    assert shop.all_ended(low + high) == {"completed": 503}

    started = sorted(map(shop.job, low + high), key=lambda job: (job.started_ms or 0, job.worker_id or ""))
    times = {job.id: job.started_ms or 0 for job in started}
    expected = [high[1], high[2], high[0], *low]
    assert all(times[one] <= times[other] for one, other in itertools.pairwise(expected))


@pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 2), ("threads", 4), ("gevent", 8), ("solo", 1)])
def test_a_warm_shutdown_finishes_what_runs_and_holds_nothing(shop: Shop, pool: str, concurrency: int) -> None:
    worker = shop.worker(pool, concurrency, MECH_QUEUE_LEASE_SECONDS="60")
    jobs = shop.submit_many(120, "sleep", [0.01])
    wait_until(lambda: len(shop.notes("end")) > 5)

    assert worker.stop() == 0

    assert not [job for job in jobs if shop.job(job).state == "active"]
    shop.worker(pool, concurrency)
    assert shop.all_ended(jobs) == {"completed": 120}
    assert len(shop.notes("end")) == 120, "a body ran twice"


def test_a_cold_shutdown_gives_back_what_runs(shop: Shop) -> None:
    worker = shop.worker("prefork", 2)
    jobs = [shop.submit("sleep", [1.5]) for _ in range(2)]
    for job in jobs:
        shop.noted("start", job)

    worker.stop(signal.SIGQUIT)

    shop.worker("prefork", 2)
    assert shop.all_ended(jobs) == {"completed": 2}


def test_a_cold_shutdown_between_short_jobs_holds_nothing(shop: Shop) -> None:
    jobs = shop.submit_many(300, "noop")
    worker = shop.worker("prefork", 2, MECH_QUEUE_LEASE_SECONDS="60", MECH_QUEUE_CHAIN_MS="10000")
    wait_until(lambda: maintenance.counts(shop.store).get("completed", 0) > 60)
    worker.stop(signal.SIGQUIT)
    assert maintenance.counts(shop.store).get("active", 0) == 0, worker.log()[-2000:]
    shop.worker("prefork", 2)
    assert shop.all_ended(jobs) == {"completed": 300}


def test_a_worker_stopped_while_it_starts_holds_nothing(shop: Shop) -> None:
    jobs = shop.submit_many(60, "sleep", [0.01])
    for pause in (0.7, 0.9, 1.1, 1.3):
        worker = Worker(shop, "prefork", 2, (), {"MECH_QUEUE_LEASE_SECONDS": "60"})
        shop.workers.append(worker)
        time.sleep(pause)  # the point of the start at which it is hit is what varies
        worker.stop()
        assert not [job for job in jobs if shop.job(job).state == "active"], worker.log()[-2000:]
    shop.worker("prefork", 2)
    assert shop.all_ended(jobs) == {"completed": 60}


@pytest.mark.usefixtures("broker_is_store")
@pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 3), ("threads", 4)])
def test_broker_connections_cut_under_load(shop: Shop, pool: str, concurrency: int) -> None:
    worker = shop.worker(pool, concurrency, MECH_QUEUE_LEASE_SECONDS="60")
    jobs = shop.submit_many(200, "sleep", [0.02])
    cuts = 0
    for _ in range(4):
        wait_until(lambda: _running_or_over(shop, jobs))
        cut_all_connections(shop)
        cuts += 1
        wait_until(_moved_on(shop, jobs), 20)

    assert shop.all_ended(jobs) == {"completed": 200}
    assert cuts and worker.process.poll() is None
    assert sum(shop.job(job).stalls for job in jobs) == 0
    assert len(shop.notes("start")) == 200, "a body ran twice"


@pytest.mark.usefixtures("broker_is_store")
def test_a_slot_that_is_busy_stays_busy_over_a_reconnect(shop: Shop) -> None:
    worker = shop.worker("prefork", 1, SHOP_PREFETCHES="1")
    long = shop.submit("sleep", [4])
    shop.noted("start", long)
    cut_all_connections(shop)
    wait_until(lambda: worker.log().count("Connected to") == 2, 15)

    behind = shop.submit("noop")
    while shop.job(long).state == "active":
        assert shop.job(behind).state != "active", "claimed, and now it waits for the busy child"
        time.sleep(0.05)
    assert shop.until(behind).state == "completed" and shop.job(long).state == "completed"


def cut_all_connections(shop: Shop) -> None:
    """Every client of the server but this one is disconnected."""
    with shop.redis() as client, contextlib.suppress(redis.RedisError):
        own = client.client_id()
        for connection in client.client_list():
            if int(connection["id"]) != own:
                client.client_kill_filter(_id=connection["id"])


def _moved_on(shop: Shop, jobs: list[str]) -> Callable[[], bool]:
    """Five more bodies have ended since this was called, or all have."""
    before = len(shop.notes("end"))
    return lambda: len(shop.notes("end")) > before + 5 or _over(shop, jobs)


def _running_or_over(shop: Shop, jobs: list[str]) -> bool:
    return bool(shop.notes("start"))


def _over(shop: Shop, jobs: list[str]) -> bool:
    return len({note[1] for note in shop.notes("end")}) >= len(jobs)


@pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 2), ("gevent", 4)])
def test_a_cancelled_body_is_stopped(shop: Shop, pool: str, concurrency: int) -> None:
    from mech_queue.services import jobs

    shop.worker(pool, concurrency)
    job = shop.submit("sleep", [20])
    shop.noted("start", job)

    jobs.cancel(shop.store, APPLICATION, job)
    began = time.monotonic()
    assert shop.job(job).state == "cancelled"

    # The slot is free again: with the body still in it these would not all run at once.
    others = [shop.submit("sleep", [1.0]) for _ in range(concurrency)]
    assert shop.all_ended([job, *others]) == {"cancelled": 1, "completed": concurrency}
    assert time.monotonic() - began < 6
    assert not [note for note in shop.notes("end") if note[1] == job]


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_body_that_cannot_be_stopped_hears_of_the_cancel(shop: Shop, pool: str) -> None:
    from mech_queue.services import jobs

    shop.worker(pool, 1)
    job = shop.submit("looking")
    shop.noted("start", job)

    jobs.cancel(shop.store, APPLICATION, job)

    assert shop.run("add", [1]).state == "completed"  # the one slot is free
    assert shop.job(job).state == "cancelled" and not shop.notes("end")


def test_a_cancelled_body_that_ignores_sigterm_is_killed(shop: Shop) -> None:
    from mech_queue.services import jobs

    shop.worker("prefork", 1)
    job = shop.submit("deaf")
    shop.noted("start", job)

    jobs.cancel(shop.store, APPLICATION, job)

    assert shop.run("add", [1]).state == "completed"
    assert shop.job(job).state == "cancelled" and not shop.notes("end")


def test_a_job_that_somebody_else_has_or_cancelled_never_reaches_a_body(shop: Shop) -> None:
    from mech_queue.services import jobs

    # given one that an HTTP worker took, and one that was cancelled; their wake-ups are left
    taken, cancelled = shop.submit("sleep", [0]), shop.submit("sleep", [0])
    jobs.claim(shop.store, APPLICATION, [QUEUE], lease_ms=60_000)
    jobs.cancel(shop.store, APPLICATION, cancelled)
    # when a worker serves them
    shop.worker("prefork", 1)
    # then it runs what comes after them only
    assert shop.run("add", [1]).state == "completed"
    assert shop.job(taken).state == "active" and not shop.notes("start")


def test_a_job_longer_than_the_brokers_visibility_timeout_runs_once(shop: Shop, broker_is_store: None) -> None:
    # given a broker that sends again what nobody acknowledged within 0.3 s
    shop.worker("prefork", 3, SHOP_VISIBILITY_S="0.3")
    # when a job takes longer, beside an ordinary task that is acknowledged at its end
    job = shop.submit("sleep", [1])
    with Celery("caller", broker=shop.broker_url, set_as_current=False) as app:
        app.send_task("late", [1], ignore_result=True)
    # then only the task runs again
    assert shop.until(job).state == "completed"
    wait_until(lambda: shop.notes().count(["start", "late"]) > 1, message="the task again")
    assert shop.notes().count(["start", job]) == 1


def test_the_jobs_own_timeout_stops_the_body(shop: Shop) -> None:
    shop.worker("prefork", 1)
    job = shop.run("sleep", [20], timeout_ms=500)
    assert job.state == "failed" and job.error_code == "TIMEOUT"
    assert shop.run("add", [1]).state == "completed"
    assert not shop.notes("end")


def test_a_store_that_goes_away_for_a_while(shop: Shop) -> None:
    """Store and broker are one server here: it hangs for two seconds and goes on."""
    worker = shop.worker("prefork", 2)
    jobs = shop.submit_many(60, "sleep", [0.05])
    wait_until(lambda: len(shop.notes("end")) > 5)

    os.kill(shop.server.pid, signal.SIGSTOP)
    try:
        time.sleep(2)  # what is tested is this time
    finally:
        os.kill(shop.server.pid, signal.SIGCONT)

    assert shop.all_ended(jobs) == {"completed": 60}
    assert worker.process.poll() is None
