"""One native worker serves two hundred applications, those that are there and those that appear."""

import time

import pytest

from mech_queue.services import applications, jobs
from tests.celery.support import Shop, Worker
from tests.celery.test_faults import cut_all_connections
from tests.support import wait_until

pytestmark = pytest.mark.long

BEFORE, AFTER = 150, 50


@pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 2), ("threads", 4)])
def test_two_hundred_applications(shop: Shop, pool: str, concurrency: int) -> None:
    # given a worker that was told no queue, and a job in each of many applications
    made = [applications.create(shop.store, f"before {n}").application.id for n in range(BEFORE)]
    submitted = [(one, shop.submit("add", [n], application=one, queue="mail")) for n, one in enumerate(made)]
    environment = {"SHOP_APPLICATION": "*", "MECH_QUEUE_DISCOVER_SECONDS": "1"}
    worker = Worker(shop, pool, concurrency, ("-Q", "celery"), environment)
    shop.workers.append(worker)
    began = time.monotonic()
    worker.ready()
    # when more applications appear while it works
    made += [applications.create(shop.store, f"after {n}").application.id for n in range(AFTER)]
    submitted += [(one, shop.submit("add", [n], application=one, queue="mail")) for n, one in enumerate(made[BEFORE:])]

    def left(all_of_them: list[tuple[str, str]]) -> list[str]:
        return [job for one, job in all_of_them if not jobs.get(shop.store, one, job).state.ended]

    # then the jobs of all are done
    try:
        wait_until(lambda: not left(submitted), 60)
    except AssertionError:
        raise AssertionError(f"{len(left(submitted))} jobs left\n{worker.log()[-5000:]}") from None
    print(f"{pool}: {len(made)} applications served {time.monotonic() - began:.1f} s after the start of the worker")
    # and again after its connections were cut, all two hundred queues consumed anew
    cut_all_connections(shop)
    again = [(one, shop.submit("add", [1], application=one, queue="mail")) for one in made]
    wait_until(lambda: not left(again), 60, "another job of each")
    assert worker.process.poll() is None
