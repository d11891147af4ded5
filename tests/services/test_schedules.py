"""Schedules on a real store: what is due runs once, with any number of schedulers, and what was missed as asked."""

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
import redis

from mech_queue.model.application import ApplicationSettings
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import JobSpec, Report, State
from mech_queue.model.query import JobQuery
from mech_queue.model.schedule import Schedule, ScheduleSpec, parse_schedule
from mech_queue.model.strict_json import parse
from mech_queue.model.timing import firing
from mech_queue.services import jobs, maintenance, queues, schedules
from mech_queue.store import Store, keys
from mech_queue.store.schedules import MOST
from tests.support import wait_until
from tests.support.service import ROOT

APPLICATION = "app-000000000001"
START_MS = 1_764_000_000_000
MINUTE = 60_000
JOB = {"queue": "report", "data": {"big": 12345678901234567890}, "metadata": {"of": "schedule"}}


def spec(before: ScheduleSpec | None = None, /, **members: Any) -> ScheduleSpec:
    """A spec as the API reads it; a new one runs every minute unless told otherwise."""
    if before is None:
        members = {"name": "a", "job": JOB, **members}
        if not {"cron", "every", "at"} & members.keys():
            members["every"] = MINUTE
    body = parse(json.dumps(members).encode())
    return parse_schedule(body.value, body.members, before)


class Clock:
    """The store's time, moved by the test only."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = START_MS
        store.scripts.clock = lambda: self.now

    def advance(self, ms: int) -> None:
        """Let time pass, and tick until nothing is due."""
        self.now += ms
        for _ in range(100):
            if maintenance.tick(self.store) == 0:
                return
        raise AssertionError("something is due again and again")


@pytest.fixture
def clock(store: Store) -> Clock:
    return Clock(store)


def made(store: Store, **members: Any) -> Schedule:
    return schedules.create(store, APPLICATION, spec(**members))


def again(store: Store, one: Schedule) -> Schedule:
    return schedules.get(store, APPLICATION, one.id)


def outcomes(store: Store, one: Schedule) -> list[str]:
    return [run.outcome for run in reversed(schedules.runs(store, APPLICATION, one.id, 100))]


def job_count(store: Store, queue: str = "report") -> int:
    try:
        return sum(queues.get(store, APPLICATION, queue).counts.values())
    except Refusal:
        return 0


def test_a_due_schedule_submits_its_job_as_it_was_sent(store: Store, clock: Clock) -> None:
    # given a schedule, one second before its time nothing happens
    one = made(store, every=MINUTE)
    clock.advance(MINUTE - 1)
    assert job_count(store) == 0
    # when its time comes
    clock.advance(1)
    # then there is one job, with the exact data, found by its metadata
    page = jobs.search(store, APPLICATION, JobQuery(queue="report", fields=(("of", ('"schedule"',)),)))
    assert [job.data for job in page.jobs] == [b'{"big": 12345678901234567890}']
    now = again(store, one)
    assert (now.runs, now.due_ms, now.last_due_ms) == (1, START_MS + 2 * MINUTE, START_MS + MINUTE)
    assert now.last_job_id == page.jobs[0].id
    run = schedules.runs(store, APPLICATION, one.id, 10)[0]
    assert (run.outcome, run.job_id, run.job_status, run.by_hand) == ("submitted", page.jobs[0].id, "waiting", False)


def test_limit_and_end_end_it(store: Store, clock: Clock) -> None:
    twice = made(store, limit=2)
    until = made(store, endDate="2025-11-24T16:03:00Z", job={"queue": "other", "data": 1})  # START is 16:00:00
    for _ in range(6):
        clock.advance(MINUTE)
    assert (again(store, twice).runs, again(store, twice).due_ms) == (2, None)
    assert (again(store, until).runs, again(store, until).due_ms) == (3, None)
    # a higher limit lets it go on, from now
    schedules.change(store, APPLICATION, twice.id, lambda before: spec(before, limit=3))
    clock.advance(5 * MINUTE)
    assert again(store, twice).runs == 3


def test_overlap_skip_waits_for_the_job_before(store: Store, clock: Clock) -> None:
    one = made(store, overlap="skip")
    clock.advance(MINUTE)
    clock.advance(MINUTE)
    assert outcomes(store, one) == ["submitted", "skipped"]
    job = jobs.claim(store, APPLICATION, ["report"], worker_id="w").jobs[0]
    clock.advance(MINUTE - 1)
    jobs.report(store, APPLICATION, Report(job.id, "complete", lease_token=job.lease_token))
    clock.advance(1)
    assert outcomes(store, one) == ["submitted", "skipped", "submitted"]
    assert (again(store, one).runs, again(store, one).skipped) == (2, 1)


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [("none", ["missed"]), ("one", ["submitted"]), ("all", ["submitted"] * 10)],
)
def test_ten_hours_without_scheduler(store: Store, clock: Clock, catch_up: str, expected: list[str]) -> None:
    one = made(store, every=60 * MINUTE, catchUp=catch_up)
    clock.advance(10 * 60 * MINUTE + 20 * MINUTE)
    assert outcomes(store, one) == expected
    assert again(store, one).due_ms == START_MS + 11 * 60 * MINUTE
    clock.advance(40 * MINUTE)
    assert outcomes(store, one) == [*expected, "submitted"]


def test_switched_off_it_sleeps_and_misses_nothing(store: Store, clock: Clock) -> None:
    one = made(store, catchUp="all")
    assert schedules.toggle(store, APPLICATION, one.id, None).due_ms is None
    clock.advance(10 * MINUTE + 1)
    on = schedules.toggle(store, APPLICATION, one.id, True)
    assert (on.spec.active, on.due_ms, job_count(store)) == (True, START_MS + 11 * MINUTE, 0)
    assert schedules.toggle(store, APPLICATION, one.id, True).due_ms == on.due_ms
    clock.advance(MINUTE)
    assert job_count(store) == 1


def test_run_by_hand_moves_no_time(store: Store, clock: Clock) -> None:
    one = made(store, limit=1)
    job_id = schedules.execute(store, APPLICATION, one.id)
    assert jobs.get(store, APPLICATION, job_id).state is State.WAITING
    now = again(store, one)
    assert (now.runs, now.due_ms, now.last_job_id) == (0, one.due_ms, job_id)
    assert schedules.runs(store, APPLICATION, one.id, 1)[0].by_hand
    clock.advance(MINUTE)
    assert job_count(store) == 2


def test_a_refused_job_is_written_down_and_the_schedule_goes_on(store: Store, clock: Clock) -> None:
    one = made(store)
    queues.drain(store, APPLICATION, "report")
    clock.advance(MINUTE)
    run = schedules.runs(store, APPLICATION, one.id, 1)[0]
    assert run.outcome == "refused" and "drained" in (run.reason or "")
    with pytest.raises(Refusal) as refused:
        schedules.execute(store, APPLICATION, one.id)
    assert refused.value.code == Code.QUEUE_DRAINING
    queues.resume(store, APPLICATION, "report")
    clock.advance(MINUTE)
    assert outcomes(store, one) == ["refused", "submitted"]
    assert again(store, one).runs == 1


def test_a_queue_that_is_not_allowed_any_more_gets_no_job(store: Store, clock: Clock) -> None:
    one = made(store)
    store.applications.create(APPLICATION, "a", ApplicationSettings(allowed_queues=("email",)), ())
    clock.advance(MINUTE)
    run = schedules.runs(store, APPLICATION, one.id, 1)[0]
    assert run.outcome == "refused" and "allow" in (run.reason or "")
    assert (job_count(store), again(store, one).runs, again(store, one).due_ms) == (0, 0, START_MS + 2 * MINUTE)


def test_dedupe_of_the_job_holds(store: Store, clock: Clock) -> None:
    one = made(store, job={"queue": "report", "data": 1, "options": {"dedupeKey": "nightly"}})
    clock.advance(MINUTE)
    clock.advance(MINUTE)
    assert outcomes(store, one) == ["submitted", "deduplicated"]
    assert job_count(store) == 1


def test_a_change_of_times_starts_from_now(store: Store, clock: Clock) -> None:
    one = made(store, cron="0 * * * *", timezone="Europe/Berlin")
    changed = schedules.change(store, APPLICATION, one.id, lambda before: spec(before, every=5_000))
    assert (changed.spec.timing.cron, changed.due_ms) == (None, START_MS + 5_000)
    named = schedules.change(store, APPLICATION, one.id, lambda before: spec(before, name="b", job={**JOB, "data": 7}))
    assert (named.spec.name, named.due_ms, named.version) == ("b", changed.due_ms, changed.version + 1)
    clock.advance(5_000)
    assert jobs.search(store, APPLICATION, JobQuery(queue="report")).jobs[0].data == b"7"


def test_a_schedule_that_would_never_run_is_refused(store: Store, clock: Clock) -> None:
    for members in ({"at": "2020-01-01T00:00:00Z"}, {"cron": "@daily", "endDate": "2020-01-01T00:00:00Z"}):
        with pytest.raises(Refusal) as refused:
            made(store, **members)
        assert refused.value.code == Code.INVALID
    assert schedules.list_(store, APPLICATION, limit=10) == ([], None)


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"cron": "* * *"}, "cron"),
        ({"every": 999}, "every"),
        ({"every": MINUTE, "cron": "@daily"}, "every"),
        ({"at": "tomorrow"}, "at"),
        ({"at": "2090-01-01T00:00:00Z", "startDate": "2080-01-01T00:00:00Z"}, "at"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"overlap": "maybe"}, "overlap"),
        ({"catchUp": True}, "catchUp"),
        ({"limit": 0}, "limit"),
        ({"every": None}, "cron"),
        ({"name": " "}, "name"),
        ({"job": None}, "job"),
        ({"job": {"queue": "!"}}, "job.queue"),
        ({"job": {"queue": "q", "data": 1, "options": {"runAt": "2090-01-01T00:00:00Z"}}}, "job.options.runAt"),
        ({"crom": "@daily"}, "crom"),
    ],
)
def test_what_is_wrong_is_named(members: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as refused:
        spec(**members)
    assert field in refused.value.details


def test_lists_are_paged_and_applications_apart(store: Store, clock: Clock) -> None:
    ids = [made(store).id for _ in range(5)]
    page, cursor = schedules.list_(store, APPLICATION, limit=3)
    rest, end = schedules.list_(store, APPLICATION, limit=3, cursor=cursor)
    assert ([one.id for one in page + rest], end) == (ids, None)
    other = "app-000000000002"
    assert schedules.list_(store, other, limit=3) == ([], None)
    for act in (schedules.get, schedules.delete, schedules.execute):
        with pytest.raises(Refusal) as refused:
            act(store, other, ids[0])
        assert refused.value.code == Code.NOT_FOUND


def test_delete_leaves_no_key(store: Store, clock: Clock) -> None:
    one = made(store)
    schedules.execute(store, APPLICATION, one.id)
    schedules.delete(store, APPLICATION, one.id)
    left = store.redis.scan_iter(keys.prefix(APPLICATION) + b"*")
    assert not [key for key in left if b"sch" in key or b"runs" in key]
    clock.advance(10 * MINUTE)
    assert job_count(store) == 1


def test_no_more_schedules_than_allowed(store: Store, clock: Clock) -> None:
    place = keys.prefix(APPLICATION) + b"sch"
    store.redis.zadd(place, {f"filler-{n}": n for n in range(MOST)})
    with pytest.raises(Refusal) as refused:
        made(store)
    assert refused.value.code == Code.LIMIT_REACHED


def test_a_change_meanwhile_wins_over_what_a_scheduler_has_read(store: Store, clock: Clock) -> None:
    # given a scheduler that has read the schedule as due
    one = made(store)
    clock.now += MINUTE
    read = again(store, one)
    what = firing(read.spec.timing, "one", read.due_ms or 0, clock.now)
    # when its owner switches it off before the scheduler books the run
    schedules.toggle(store, APPLICATION, one.id, False)
    # then nothing runs
    assert store.schedules.fire(APPLICATION, read, what, bytes(16), "") == ""
    assert job_count(store) == 0


def test_replicas_in_competition_run_each_time_once(store: Store, redis_url: str, clock: Clock) -> None:
    # given 300 missed minutes that must all be caught up, of two schedules
    both = [made(store, catchUp="all") for _ in range(2)]
    clock.now += 300 * MINUTE
    begin = threading.Barrier(4)

    def replica() -> None:
        own = Store.open(redis_url)
        own.scripts.clock = lambda: clock.now
        begin.wait()
        while any((one.due_ms or 0) <= clock.now for one in (again(own, one) for one in both)):
            maintenance.tick(own)
        own.close()

    # when four schedulers tick at once
    threads = [threading.Thread(target=replica) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # then each time made one job
    assert [again(store, one).runs for one in both] == [300, 300]
    assert job_count(store) == 600


def test_kill_9_of_a_scheduler_loses_no_run_and_doubles_none(store: Store, redis_url: str) -> None:
    # given a schedule with hundreds of missed runs, on the real clock from here on
    clock = Clock(store)
    clock.now = store.redis.time()[0] * 1000 - 600_000
    one = made(store, every=1_000, catchUp="all")
    store.scripts.clock = None
    environment = {"PATH": os.environ["PATH"], "REDIS_URL": redis_url}
    command = [sys.executable, "-m", "workers.scheduler"]
    quiet = subprocess.DEVNULL
    replicas = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet) for _ in range(2)]
    try:
        # when one of two schedulers is killed in the middle of it
        wait_until(lambda: again(store, one).runs > 50)
        replicas[0].kill()
        wait_until(lambda: (again(store, one).due_ms or 0) > store.now_ms(), 30)
        replicas[1].send_signal(signal.SIGTERM)
        assert replicas[1].wait(20) == 0
    finally:
        for replica in replicas:
            replica.kill()
            replica.wait()
    # then there is one job for every second up to the next due time
    end = again(store, one)
    assert end.due_ms is not None and end.runs >= 600
    assert end.runs == (end.due_ms - clock.now) // 1_000 - 1
    assert job_count(store) == end.runs


def test_trouble_with_one_schedule_does_not_hold_up_others(store: Store, clock: Clock) -> None:
    broken, well = made(store), made(store)
    store.redis.hset(keys.prefix(APPLICATION) + b"sch:" + broken.id.encode(), "timezone", "Gone/Zone")
    store.redis.hset(keys.prefix(APPLICATION) + b"sch:" + broken.id.encode(), "cron", "0 * * * *")
    store.redis.hdel(keys.prefix(APPLICATION) + b"sch:" + broken.id.encode(), "every")
    clock.advance(MINUTE)
    assert outcomes(store, broken) == ["missed"]
    assert outcomes(store, well) == ["submitted"]


def test_a_full_store_delays_the_run_and_loses_none(store: Store, admin: redis.Redis, clock: Clock) -> None:
    one = made(store)
    jobs.submit(store, APPLICATION, JobSpec("other"))
    admin.config_set("maxmemory", 1)
    try:
        clock.now += MINUTE
        maintenance.tick(store)
        assert again(store, one).runs == 0
    finally:
        admin.config_set("maxmemory", 0)
    clock.advance(0)
    assert outcomes(store, one) == ["submitted"]
