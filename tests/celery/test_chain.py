"""One wake-up serves job after job; what that costs, and that others get their turn."""

import multiprocessing

import pytest
from celery import Celery

from mech_queue.celery.chain import Chain
from tests.celery.support import APPLICATION, QUEUE, Shop
from tests.support import wait_until

JOBS = 200


def test_one_wake_up_ends_in_each_period() -> None:
    chain = Chain(every_ms=500)
    assert chain.goes_on()
    wait_until(lambda: not chain.goes_on())
    assert chain.goes_on()
    assert not Chain(every_ms=0).goes_on()


def test_processes_that_are_forked_share_its_periods() -> None:
    chain = Chain(every_ms=0)
    process = multiprocessing.get_context("fork").Process(target=chain.goes_on)
    before = chain.ended_at
    process.start()
    process.join()
    assert chain.ended_at > before


@pytest.mark.usefixtures("broker_is_store")
@pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 2), ("threads", 2)])
def test_short_jobs_cost_one_script_each_and_few_messages(shop: Shop, pool: str, concurrency: int) -> None:
    # given a worker with time for long chains, and a store that runs its scripts only
    jobs = shop.submit_many(JOBS, "noop")
    shop.stop_ticking()
    with shop.redis() as client:
        client.config_resetstat()

        shop.worker(pool, concurrency, MECH_QUEUE_CHAIN_MS="60000")
        assert shop.all_ended(jobs) == {"completed": JOBS}

        commands = client.info("commandstats")
        scripts = commands["cmdstat_fcall"]["calls"] - JOBS  # the looks of this test
        assert scripts < JOBS * 1.3, "the end of a job claims the next one"
        assert commands["cmdstat_brpop"]["calls"] < JOBS / 4


def test_a_thread_that_is_free_is_noticed_at_once(shop: Shop) -> None:
    # given a worker whose main loop is woken by nothing else
    shop.worker("threads", 1, SHOP_NO_EVENTS="1")
    jobs = shop.submit_many(20, "sleep", [0.03])
    with Celery("sender", broker=shop.broker_url, set_as_current=False) as app:
        for _ in range(20):
            app.send_task("sleep", [0.03], ignore_result=True)
    # then forty messages do not wait for its own turns, which come once in a second
    wait_until(lambda: len(shop.notes("end")) == 40, 10)
    assert shop.all_ended(jobs) == {"completed": 20}


@pytest.mark.usefixtures("broker_is_store")
def test_a_busy_worker_takes_no_wake_ups(shop: Shop) -> None:
    worker = shop.worker("prefork", 1)
    long = shop.submit("sleep", [3])
    shop.noted("start", long)

    waiting = shop.submit_many(5, "noop")
    with Celery("inspector", broker=shop.broker_url, set_as_current=False) as app:
        assert app.control.inspect([worker.name], timeout=5).ping()  # its loop has looked at the broker
    assert shop.job(long).state == "active"
    with shop.redis() as client:
        assert client.llen(f"jobs.{APPLICATION}.{QUEUE}") == len(waiting)
        assert client.hlen("unacked") == 0

    assert shop.all_ended([long, *waiting]) == {"completed": 6}
