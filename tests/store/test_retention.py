"""What is kept, and for how long: ended jobs of a queue, the event log."""

import pytest

from mech_queue.model.job import JobSpec, Report, State
from mech_queue.model.query import JobQuery
from mech_queue.services import jobs, maintenance, queues
from mech_queue.store import Store, keys

APPLICATION = "app-retention000"
DAY_MS = 86_400_000


@pytest.mark.parametrize("batch", [1, 50])
def test_a_queue_keeps_the_newest_of_its_ended_jobs(store: Store, batch: int) -> None:
    # given a queue that keeps five completed jobs, and fifty that were submitted
    queues.change(store, APPLICATION, "q", {"keep_completed_n": 5})
    ids = [jobs.submit(store, APPLICATION, JobSpec("q")).job_id for _ in range(50)]
    # when they complete, one by one or all at once
    reports = [Report(job_id, "complete") for job_id in ids]
    for at in range(0, len(reports), batch):
        jobs.report_many(store, APPLICATION, reports[at : at + batch])
        maintenance.tick(store)
    # then the newest five are left
    left = jobs.search(store, APPLICATION, JobQuery(queue="q", states=(State.COMPLETED,))).jobs
    assert [job.id for job in left] == ids[:-6:-1]
    assert queues.get(store, APPLICATION, "q").counts["completed"] == 5


def test_a_lowered_count_is_caught_up_with(store: Store) -> None:
    # given 300 completed jobs of a queue without such a limit
    ids = [answer.job_id for answer in jobs.submit_many(store, APPLICATION, [JobSpec("q") for _ in range(300)])]  # type: ignore[union-attr]
    jobs.report_many(store, APPLICATION, [Report(job_id, "complete") for job_id in ids])
    # when it is to keep ten
    queues.change(store, APPLICATION, "q", {"keep_completed_n": 10})
    # then steps of the scheduler remove the rest
    for _ in range(5):
        maintenance.tick(store)
    assert queues.get(store, APPLICATION, "q").counts["completed"] == 10


def test_events_older_than_a_day_leave_the_log(store: Store) -> None:
    # given a full log, all but the last entry older than a day
    log = keys.prefix(APPLICATION) + b"ev"
    then = store.now_ms() - DAY_MS - 120_000
    pipe = store.redis.pipeline()
    for place in range(10_000):
        pipe.xadd(log, {"t": "c", "j": bytes(16), "s": 1, "m": then, "x": ""}, id=f"{then}-{place}")
    pipe.execute()
    job = jobs.submit(store, APPLICATION, JobSpec("q"))
    # when the scheduler takes its steps for the job
    jobs.report(store, APPLICATION, Report(job.job_id, "complete"))
    store.scripts.clock = lambda: then + DAY_MS + 130_000
    maintenance.tick(store)
    # then only what is younger is left
    assert [event.type.value for _, event in store.events.read(APPLICATION, "0-0", 100)] == [
        "created",
        "started",
        "completed",
    ]


def test_the_log_of_an_idle_application_empties_too(store: Store) -> None:
    # given an application whose only job ended
    job = jobs.submit(store, APPLICATION, JobSpec("q"))
    jobs.report(store, APPLICATION, Report(job.job_id, "complete"))
    began_ms = store.now_ms()
    # when its job is removed, then its log stays, and the scheduler knows until when
    store.scripts.clock = lambda: began_ms + DAY_MS
    while maintenance.tick(store):
        pass
    place = keys.shard_prefix(keys.shard_of(APPLICATION)) + b"next"
    assert store.redis.xlen(keys.prefix(APPLICATION) + b"ev") == 3
    assert began_ms + DAY_MS < store.redis.zscore(place, APPLICATION) <= began_ms + DAY_MS + 60_000
    # when that time has come, then nothing is left and nothing is due
    store.scripts.clock = lambda: began_ms + DAY_MS + 61_000
    maintenance.tick(store)
    assert not store.redis.exists(keys.prefix(APPLICATION) + b"ev")
    assert store.redis.zscore(place, APPLICATION) is None
