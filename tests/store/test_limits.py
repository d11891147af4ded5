"""Limits and turns: the cases that need more than one step to see."""

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import JobSpec, Report, Reported
from mech_queue.services import explaining, jobs, queues
from mech_queue.store.events import event_of
from tests.store.engine import APPLICATION, START_MS, Engine


def claim_one(engine: Engine, queue: str) -> str | None:
    """The id of the next job of the queue, now running."""
    found = jobs.claim(engine.store, APPLICATION, [queue]).jobs
    return found[0].id if found else None


def test_a_slot_held_for_a_queue_is_free_again_when_the_queue_is_deleted(engine: Engine) -> None:
    engine.settings(max=1)
    running = engine.submit("busy")
    assert claim_one(engine, "busy") == running
    waits = engine.submit("short-lived")  # blocked by the application's limit
    jobs.report(engine.store, APPLICATION, Report(running, "release", lease_token=lease_of(engine, running)))
    assert engine.store.redis.zrange(engine.prefix + b"res", 0, -1) == [b"short-lived"]

    jobs.delete(engine.store, APPLICATION, waits)
    queues.delete(engine.store, APPLICATION, "short-lived")

    assert claim_one(engine, "busy") == running


def lease_of(engine: Engine, job_id: str) -> str:
    """The lease token of a running job, as its worker got it."""
    token: bytes = engine.store.redis.hget(engine.prefix + b"j:" + engine.raw(job_id), "l")
    return token.decode()


def test_the_log_of_a_large_rate_limit_stays_short_and_no_window_exceeds_it(engine: Engine) -> None:
    # given a queue that has just started as many jobs as it may, at as many moments
    engine.queue("mail", rate_max=1_001, rate_per=1_000_000)
    specs: list[JobSpec | Refusal] = [JobSpec("mail") for _ in range(1_012)]
    jobs.submit_many(engine.store, APPLICATION, specs)
    for _ in range(11):
        engine.now += 7
        assert len(jobs.claim(engine.store, APPLICATION, ["mail"], limit=91).jobs) == 91
    begun, last = START_MS + 7, engine.now
    # then the log holds one line for all of them, and the first slot frees after the period, not before
    assert engine.store.redis.llen(engine.prefix + b"rl:mail") == 1
    engine.now = begun + 1_000_000 - 1
    assert claim_one(engine, "mail") is None
    engine.now = last + 1_000_000 + 1_000
    assert len(jobs.claim(engine.store, APPLICATION, ["mail"], limit=100).jobs) == 11


def test_a_slot_held_for_its_own_queue_keeps_no_job_from_running(engine: Engine) -> None:
    engine.settings(max=1)
    running = engine.submit("busy")
    assert claim_one(engine, "busy") == running
    waits, other = engine.submit("patient"), engine.submit("busy")
    assert "APPLICATION_LIMIT" in why(engine, waits)

    jobs.report(engine.store, APPLICATION, Report(running, "complete", lease_token=lease_of(engine, running)))

    assert "APPLICATION_LIMIT" not in why(engine, waits)
    assert "APPLICATION_LIMIT" in why(engine, other)


def why(engine: Engine, job_id: str) -> list[str]:
    """The codes of what keeps a job from running."""
    return [reason.code for reason in explaining.explain(engine.store, APPLICATION, job_id).reasons]


def test_a_job_whose_task_nobody_knows_says_so(engine: Engine) -> None:
    job = engine.submit("mail", task="send")
    for _ in range(2):
        engine.advance(5_000)
        assert claim_one(engine, "mail") == job
        back = Report(job, "release", lease_token=lease_of(engine, job), error_code="UNKNOWN_TASK", delay_ms=5_000)
        jobs.report(engine.store, APPLICATION, back)

    unknown, delayed = explaining.explain(engine.store, APPLICATION, job).reasons

    assert (unknown.code, delayed.code) == ("UNKNOWN_TASK", "DELAYED")
    assert unknown.details == {"task": "send", "returns": 2, "limit": 5}
    assert unknown.message.startswith("Workers have returned it 2 times, since they have no task named 'send'; after 5")
    engine.advance(5_000)
    assert why(engine, job)[0] == "UNKNOWN_TASK"  # also while it waits for the next of them


def test_a_key_keeps_its_turn_when_its_only_job_changes_priority(engine: Engine) -> None:
    first = engine.submit(concurrency_key="a")
    second = engine.submit(concurrency_key="b")

    jobs.change(engine.store, APPLICATION, first, priority=3)
    jobs.change(engine.store, APPLICATION, first, priority=0)

    assert [claim_one(engine, "mail"), claim_one(engine, "mail")] == [first, second]


def test_a_raised_limit_of_keys_lets_their_jobs_start(engine: Engine) -> None:
    engine.queue("mail", per_key=1)
    first, second = (engine.submit(concurrency_key="a") for _ in range(2))
    assert [claim_one(engine, "mail"), claim_one(engine, "mail")] == [first, None]

    queues.change(engine.store, APPLICATION, "mail", {"per_key": 2})
    engine.run_due()
    assert claim_one(engine, "mail") == second


def test_a_lowered_limit_of_keys_holds_before_the_ring_is_tidied(engine: Engine) -> None:
    engine.submit(concurrency_key="a")
    engine.submit(concurrency_key="a")
    assert claim_one(engine, "mail")

    queues.change(engine.store, APPLICATION, "mail", {"per_key": 1})
    assert claim_one(engine, "mail") is None


def test_the_last_lost_lease_says_why_in_the_event_too(engine: Engine) -> None:
    job = engine.submit(max_stalls=0)
    jobs.claim(engine.store, APPLICATION, ["mail"], lease_ms=5_000)
    engine.advance(5_000)

    found = engine.get(job)
    last = engine.store.redis.xrevrange(engine.prefix + b"ev", count=1)[0][1]
    assert found is not None and found.error_code == "STALLED"
    assert event_of(last[b"e"]).extra == found.error


def exchange(engine: Engine, job_id: str, token: str, queue: str = "busy") -> tuple[Reported | Refusal, list[str]]:
    """What the store says of the job's end, and the jobs that came for it."""
    report = Report(job_id, "complete", lease_token=token)
    reported, claim = jobs.exchange(
        engine.store, APPLICATION, report, queue=queue, lease_ms=5_000, worker_id="w", nonce="n"
    )
    return reported, [job.id for job in claim.jobs]


def test_an_exchanged_slot_of_the_application_goes_to_the_queue_that_waits_longest(engine: Engine) -> None:
    engine.settings(max=1)
    running = engine.submit("busy")
    assert claim_one(engine, "busy") == running
    patient, next_busy = engine.submit("patient"), engine.submit("busy")

    reported, taken = exchange(engine, running, lease_of(engine, running))

    assert isinstance(reported, Reported) and taken == []
    assert engine.wake_ups("patient") == 1
    assert claim_one(engine, "patient") == patient
    _, taken = exchange(engine, patient, lease_of(engine, patient), queue="busy")
    assert taken == [next_busy]


def test_an_exchange_whose_answer_was_lost_is_made_again(engine: Engine) -> None:
    first, second, third = (engine.submit("busy") for _ in range(3))
    assert claim_one(engine, "busy") == first
    token = lease_of(engine, first)

    answers = [exchange(engine, first, token) for _ in range(2)]

    assert answers[0] == answers[1] and answers[0][1] == [second]
    assert claim_one(engine, "busy") == third


def test_an_end_that_is_refused_gets_no_other_job(engine: Engine) -> None:
    first, second = engine.submit("busy"), engine.submit("busy")
    assert claim_one(engine, "busy") == first
    reported, taken = exchange(engine, first, "of another time")
    assert isinstance(reported, Refusal) and reported.code is Code.LEASE_LOST and taken == []
    assert claim_one(engine, "busy") == second
