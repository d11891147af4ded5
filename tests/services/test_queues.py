"""How fast a queue moves, and how long its workers are remembered."""

import pytest

from mech_queue.model.job import JobSpec, Report
from mech_queue.model.queue import QueueRecord
from mech_queue.services import jobs, maintenance, queues, workers
from mech_queue.store import Store, keys

APPLICATION = "app-queuestests0"
START_MS = 1_764_000_000_000


class Clock:
    """The time of one store, which only the test moves (ms)."""

    def __init__(self, store: Store) -> None:
        self.now = START_MS
        store.scripts.clock = lambda: self.now


@pytest.fixture
def clock(store: Store) -> Clock:
    return Clock(store)


def work(store: Store, many: int, *, fail: int = 0) -> None:
    """Submit ``many`` jobs and end them; ``fail`` of them badly."""
    for place in range(many):
        job = jobs.submit(store, APPLICATION, JobSpec("q"))
        jobs.report(store, APPLICATION, Report(job.job_id, "fail" if place < fail else "complete"))


def pace(store: Store) -> tuple[int, ...]:
    """Submitted, completed and failed within the last minute."""
    return tuple(queues.stats(store, APPLICATION, "q").last_minute.values())


def test_rates_are_those_of_the_last_minute(store: Store, clock: Clock) -> None:
    # given ten jobs, two of which failed
    work(store, 10, fail=2)
    assert pace(store) == (10, 8, 2)
    # when a minute passes in which five more came
    clock.now += 45_000
    work(store, 5)
    assert pace(store) == (15, 13, 2)
    clock.now += 25_000
    # then only those count, and a minute later none
    assert pace(store) == (5, 5, 0)
    clock.now += 60_000
    assert pace(store) == (0, 0, 0)


def test_ends_count_when_they_happen(store: Store, clock: Clock) -> None:
    # given ten jobs of five minutes ago
    ids = [jobs.submit(store, APPLICATION, JobSpec("q")).job_id for _ in range(10)]
    clock.now += 300_000
    # when they complete
    jobs.report_many(store, APPLICATION, [Report(job_id, "complete") for job_id in ids])
    # then that is what happened within the minute
    assert pace(store) == (0, 10, 0)


def test_a_steady_pace_is_seen_as_one_however_long_it_lasts(store: Store, clock: Clock) -> None:
    # given a job every second for three minutes
    for _ in range(180):
        clock.now += 1_000
        work(store, 1)
    # then there are sixty a minute, exact to the ten seconds between two samples
    assert all(50 <= number <= 70 for number in pace(store)[:2]), pace(store)
    # and no more is kept than is needed for that
    kept = store.queues.get_many(APPLICATION, ["q"])[0]
    assert isinstance(kept, QueueRecord)
    assert kept.fields["samples"].count(";") == 8


def test_workers_are_forgotten_a_day_after_they_were_last_seen(store: Store, clock: Clock) -> None:
    # given a worker that asked once
    jobs.claim(store, APPLICATION, ["q"], worker_id="w1")
    assert [worker.id for worker in workers.list_(store, APPLICATION)] == ["w1"]
    # when it has not been seen for five minutes, then it is not listed
    clock.now += workers.SEEN_MS + 1
    assert workers.list_(store, APPLICATION) == []
    # and after a day and the next event nothing of it is kept
    clock.now += 2 * 86_400_000
    store.redis.xadd(keys.prefix(APPLICATION) + b"ev", {"e": "old"}, id=f"{START_MS}-1")
    jobs.submit(store, APPLICATION, JobSpec("q"))
    maintenance.tick(store)
    clock.now += 60_000
    maintenance.tick(store)
    assert store.redis.zcard(keys.prefix(APPLICATION) + b"workers") == 0
