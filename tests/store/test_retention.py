"""How many ended jobs a queue keeps."""

import pytest

from mech_queue.model.job import JobSpec, Report, State
from mech_queue.model.query import JobQuery
from mech_queue.services import jobs, maintenance, queues
from mech_queue.store import Store

APPLICATION = "app-retention000"


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


def test_a_lowered_count_catches_up_with_the_next_end(store: Store) -> None:
    # given 300 completed jobs of a queue without such a limit
    ids = [answer.job_id for answer in jobs.submit_many(store, APPLICATION, [JobSpec("q") for _ in range(300)])]  # type: ignore[union-attr]
    jobs.report_many(store, APPLICATION, [Report(job_id, "complete") for job_id in ids])
    # when it is to keep ten, and one more ends
    queues.change(store, APPLICATION, "q", {"keep_completed_n": 10})
    jobs.report(store, APPLICATION, Report(jobs.submit(store, APPLICATION, JobSpec("q")).job_id, "complete"))
    maintenance.tick(store)
    # then steps of the scheduler remove the rest
    for _ in range(5):
        maintenance.tick(store)
    assert queues.get(store, APPLICATION, "q").counts["completed"] == 10
