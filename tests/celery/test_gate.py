"""The gate: lost answers, a store that is away, a store that refuses this version."""

import time
from collections.abc import Iterator

import pytest
import redis

from mech_queue.celery.gate import Gate
from mech_queue.celery.held import Place
from mech_queue.celery.options import Options
from mech_queue.store import Store, keys
from tests.celery.support import APPLICATION, QUEUE, Shop
from tests.support import wait_until

PLACE = Place(APPLICATION, QUEUE)


class Cuttable:
    """A store whose answers can be lost: the script runs, and its connection breaks before the answer."""

    def __init__(self, url: str) -> None:
        self.store = Store.open(url)
        self.lose = 0
        run = self.store.jobs.claim

        def claim(*args: object, **kwargs: object) -> object:
            answer = run(*args, **kwargs)  # type: ignore[arg-type]
            if self.lose:
                self.lose -= 1
                from mech_queue.model.errors import Code, Refusal

                raise Refusal(Code.STORE_UNAVAILABLE, "the answer was lost") from redis.ConnectionError()
            return answer

        self.store.jobs.claim = claim  # type: ignore[method-assign, assignment]


@pytest.fixture
def cuttable(shop: Shop) -> Iterator[Cuttable]:
    made = Cuttable(shop.url)
    yield made
    made.store.close()


def gate_of(cuttable: Cuttable, refused: list[str]) -> Gate:
    return Gate(lambda: cuttable.store, Options(lease_seconds=30), refused.append)


def test_a_job_whose_claim_answer_was_lost_is_found_again(shop: Shop, cuttable: Cuttable) -> None:
    # given two jobs and a claim whose answer never arrived
    first, second = shop.submit("noop"), shop.submit("noop")
    gate = gate_of(cuttable, [])
    cuttable.lose = 1
    assert gate.claim(PLACE, 0.1, "w") is None
    assert shop.job(first).state == "active"

    # when the store answers again
    wait_until(lambda: gate.claim(PLACE, _later(), "w") is not None)

    # then that claim was the lost one, and the second job still waits
    assert shop.job(first).state == "active" and shop.job(second).state == "waiting"
    assert shop.job(first).attempt == 1


def test_a_lost_claim_that_nobody_repeats_is_given_back(shop: Shop, cuttable: Cuttable) -> None:
    job = shop.submit("noop")
    gate = gate_of(cuttable, [])
    cuttable.lose = 1
    assert gate.claim(PLACE, 0.1, "w") is None

    assert gate.recover("w", older_than_s=0) == 1

    given_back = shop.job(job)
    assert given_back.state == "waiting" and given_back.attempt == 0
    assert gate.recover("w", older_than_s=0) == 0


def test_wake_ups_older_than_an_empty_answer_are_not_asked_for(shop: Shop, cuttable: Cuttable) -> None:
    gate = gate_of(cuttable, [])
    before = _later()
    assert gate.claim(PLACE, before, "w") is None  # asked: nothing there
    shop.submit("noop")
    assert gate.claim(PLACE, before, "w") is None  # arrived before that question
    assert gate.claim(PLACE, _later(), "w") is not None


def _later() -> float:
    return time.monotonic()


def speak_another_protocol(shop: Shop) -> None:
    with shop.redis() as client:
        for shard in range(keys.SHARDS):
            client.hset(keys.shard_prefix(shard) + b"meta", mapping={"protocol_min": 99, "protocol_max": 99})


def test_a_worker_that_the_store_refuses_does_not_start(shop: Shop) -> None:
    speak_another_protocol(shop)
    with pytest.raises(AssertionError, match="the worker ended"):
        shop.worker("prefork", 1)
    worker = shop.workers[-1]
    assert worker.process.returncode == 1
    assert "install the mech-queue release" in worker.log() and "Traceback" not in worker.log()


@pytest.mark.usefixtures("broker_is_store")
def test_a_running_worker_that_is_refused_leaves_the_wake_ups_to_others(shop: Shop) -> None:
    worker = shop.worker("prefork", 1)
    assert shop.run("add", [1]).state == "completed"

    speak_another_protocol(shop)
    with shop.redis() as client:  # one wake-up as newer workers get them
        client.lpush(PLACE.broker_queue, _wake_up())
        wait_until(lambda: "takes no more jobs" in worker.log())
        wait_until(lambda: f"Canceling queue {PLACE.broker_queue}" in worker.log())
        wait_until(lambda: client.llen(PLACE.broker_queue) >= 1)
    assert worker.process.poll() is None


def _wake_up() -> str:
    from mech_queue.store.wakeups import template

    text = template().replace("@id@", "mqw-test").replace("@task@", "mech_queue.wake").replace("@args@", "")
    return text.replace("@mq@", f'[1,"{APPLICATION}","{QUEUE}"]').replace("@queue@", PLACE.broker_queue)


def test_importing_an_app_needs_no_store() -> None:
    from celery import Celery

    import mech_queue.celery

    app = Celery("nowhere", broker="redis://127.0.0.1:1/0", set_as_current=False)
    assert mech_queue.celery.install(app) is app
    assert mech_queue.celery.install(app) is app  # a second time changes nothing
    assert "mech_queue.wake" in app.tasks
