"""A hypothesis machine: random clients, workers and schedulers against the store and the reference model."""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.ids import job_id_text
from mech_queue.model.job import ClaimedJob, JobSpec, Report, State
from mech_queue.store import Store, keys
from tests.store.engine import APPLICATION, Engine
from tests.store.model import ENDED, KEEP_MS, STARTED_LEASE_MS, Model, ModelJob
from tests.store.sameness import KEYS, Sameness, key_field

WINDOW = 3
NAMES = ["A", "B", "C"]
EXTREMES = [0, 0, 0, 0, 1, -1, 2**31 - 1, -(2**31)]
LEASE_MS = 5_000
CHAIN = 20  # jobs that one wake-up may serve

queue_names = st.sampled_from(NAMES)
places = st.integers(0, 10**6)  # which of the jobs that qualify
specs = st.tuples(
    queue_names,
    st.sampled_from(["", "", *KEYS]),
    st.sampled_from(EXTREMES),
    st.sampled_from([0, 0, 0, 500, 3_000]),  # delay
    st.sampled_from([1, 2, 3]),  # attempts
    st.sampled_from([0, 1, 3]),  # stalls it may have
)
concurrencies = st.sampled_from([None, 1, 2, 5])
key_limits = st.sampled_from([None, 1, 1, 2])
rates = st.sampled_from([None, (1, 100), (1, 400), (3, 1_000), (10, 5_000)])
maxima = st.sampled_from([None, 1, 2, 3, 8])
pauses = st.sampled_from([1, 50, 98, 398, 998, 1_001, 6_000])  # a step takes 1 ms more: just before a slot frees
endings = st.sampled_from(["complete", "complete", "complete", "fail", "fail", "stall", "release", "progress"])
kinds = st.sampled_from(["complete", "fail", "progress"])
tokens = st.sampled_from(["right", "right", "none", "stale"])
delays = st.sampled_from([0, 0, 700])


def step(**given: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule that takes 1 ms; what breaks in it leaves the machine unsound, so that no drain is tried."""

    def decorate(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def run(self: "Machine", **values: Any) -> None:
            self.sound = False
            self.engine.now += 1
            function(self, **values)

        return rule(**given)(run)

    return decorate


class Machine(RuleBasedStateMachine):
    """Made by ``machine_on(store)``, which says what it runs against."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.store.redis.flushdb()
        self.store.store_id = None  # an emptied database is another store
        self.store.greet(initialise=True)
        self.engine = Engine(self.store)
        self.model = Model(NAMES)
        self.sameness = Sameness(self.engine, self.model, WINDOW)
        self.in_hand: Counter[str] = Counter()
        self.doubled: Counter[str] = Counter()
        self.lost: set[str] = set()
        self.stale: set[str] = set()
        self.submitted = 0
        self.version = 1
        self.sound = True
        self.store.redis.hset(self.engine.prefix + b"about", "version", self.version)
        seconds = KEEP_MS // 1_000
        self.engine.settings(keep_completed_s=seconds, keep_failed_s=seconds, keep_cancelled_s=seconds)

    @initialize(
        most=maxima,
        limits=st.lists(st.tuples(concurrencies, key_limits, rates, st.integers(0, 12)), min_size=3, max_size=3),
    )
    def begin(self, most: int | None, limits: list[Any]) -> None:
        """Start with limits and some jobs: else most sequences are over before a limit is met."""
        self.sound = False
        self._application_max(most)
        for name, (concurrency, per_key, rate, jobs) in zip(NAMES, limits, strict=True):
            self._concurrency(name, concurrency)
            self._per_key(name, per_key)
            self._rate(name, rate)
            if jobs:
                self._submit([(name, ("", *KEYS)[i % 4], i % 2, 0, 2, 1) for i in range(jobs)])

    # -- submit ------------------------------------------------------------------------------

    def _submit(self, items: list[tuple[str, str, int, int, int, int]]) -> None:
        model_jobs, job_specs = [], []
        for queue, key, priority, delay, attempts, stalls in items:
            self.submitted += 1
            job_id = self.submitted.to_bytes(16, "big")
            job = ModelJob(job_id, queue, key, priority, attempts, stalls, events=["created"])
            job.state, job.due = ("d", self.engine.now + delay) if delay else ("w", 0)
            model_jobs.append(job)
            job_specs.append(
                JobSpec(
                    queue=queue,
                    priority=priority,
                    delay_ms=delay or None,
                    attempts=attempts,
                    max_stalls=stalls,
                    concurrency_key=key or None,
                    fields=(key_field(key),),
                )
            )
        answers = self.store.jobs.submit(APPLICATION, job_specs, ids=[job.id for job in model_jobs])
        assert [answer.job_id for answer in answers if not isinstance(answer, Refusal)] == [
            job_id_text(job.id) for job in model_jobs
        ]
        sequences = self.store.redis.zmscore(self.engine.prefix + b"all", [job.id for job in model_jobs])
        before = max([0, *(job.sequence for job in self.model.jobs.values())])
        for job, sequence in zip(model_jobs, sequences, strict=True):
            assert sequence > before, "sequences must rise"
            job.sequence = before = int(sequence)
            self.model.jobs[job.id] = job
            if job.state == "w":
                self.model.enqueue(job)

    @step(items=st.lists(specs, min_size=1, max_size=6))
    def submit(self, items: list[Any]) -> None:
        self._submit(items)

    @step(items=st.lists(specs, min_size=1, max_size=6))
    def submit_more(self, items: list[Any]) -> None:
        self._submit(items)

    @step(queue=queue_names, count=st.integers(5, 40))
    def submit_many(self, queue: str, count: int) -> None:
        self._submit([(queue, ("", "", *KEYS)[i % 5], 0, 0, 1, 1) for i in range(count)])

    @step(place=places)
    def submit_again(self, place: int) -> None:
        if job := self._pick(place, "wdacfx"):
            spec = JobSpec(queue=job.queue, priority=9)
            self.store.jobs.submit(APPLICATION, [spec], ids=[job.id])

    # -- claims ------------------------------------------------------------------------------

    def _claim(self, queues: list[str], limit: int, kind: Literal["http", "native"]) -> None:
        held = set(self.sameness.held)
        claim = self.store.jobs.claim(
            APPLICATION, queues, limit=limit, lease_ms=LEASE_MS, worker_id="w", nonce=None, kind=kind
        )
        taken: dict[str, list[ClaimedJob]] = defaultdict(list)
        for got in claim.jobs:
            taken[got.queue].append(got)
        assert [got.queue for got in claim.jobs] == [name for name in queues for _ in taken[name]], "preference"
        exact, left = True, limit
        for name in queues:
            had = name in held
            held.discard(name)
            wanted = min(left, self.model.runnable(name, held, self.engine.now))
            assert len(taken[name]) == wanted or not exact, f"{len(taken[name])} jobs of {name}, not {wanted}"
            for got in taken[name]:
                job = self.model.next_job(name)
                assert job_id_text(job.id) == got.id, "not the next job"
                self.model.begin(job, got.lease_token, LEASE_MS, self.engine.now, by="claim")
                assert (got.attempt, got.lease_expires_ms) == (job.starts, job.lease_end)
            if had and not taken[name]:
                exact = False  # the slot went on to another queue inside the script
            left -= len(taken[name])
            if left == 0:
                break

    @step(queues=st.permutations(NAMES), count=st.integers(1, 3), limit=st.sampled_from([1, 1, 2, 5, 100]))
    def claim(self, queues: list[str], count: int, limit: int) -> None:
        self._claim(list(queues[:count]), limit, "http")

    @step(queues=st.permutations(NAMES), count=st.integers(1, 3), limit=st.sampled_from([1, 1, 2, 5, 100]))
    def claim_more(self, queues: list[str], count: int, limit: int) -> None:
        self._claim(list(queues[:count]), limit, "http")

    def _take_wake_up(self, queue: str) -> bool:
        taken = self.store.redis.rpop(keys.broker_list(APPLICATION, queue)) is not None
        if taken and self.doubled[queue] > self.engine.wake_ups(queue):
            self.doubled[queue] = self.engine.wake_ups(queue)
        return taken

    def _native(self, queue: str) -> None:
        if self.in_hand[queue]:
            self.in_hand[queue] -= 1
        elif not self._take_wake_up(queue):
            return
        self._claim([queue], 1, "native")

    @step(queue=queue_names)
    def native(self, queue: str) -> None:
        self._native(queue)

    @step(queue=queue_names)
    def native_more(self, queue: str) -> None:
        self._native(queue)

    @step(queue=queue_names)
    def native_again(self, queue: str) -> None:
        self._native(queue)

    @step(queue=queue_names)
    def prefetch(self, queue: str) -> None:
        if self._take_wake_up(queue):
            self.in_hand[queue] += 1

    @step(queue=queue_names)
    def worker_dies(self, queue: str) -> None:
        if self.in_hand[queue]:
            self.in_hand[queue] -= 1
            self.lost.add(queue)

    @step(queue=queue_names)
    def double_a_wake_up(self, queue: str) -> None:
        self.store.redis.lpush(keys.broker_list(APPLICATION, queue), b"{}")
        self.doubled[queue] += 1

    @step(queue=queue_names)
    def wipe_wake_ups(self, queue: str) -> None:
        self.store.redis.delete(keys.broker_list(APPLICATION, queue))
        self.lost.add(queue)
        self.doubled[queue] = 0

    # -- PUT ---------------------------------------------------------------------------------

    def _pick(self, place: int, states: str) -> ModelJob | None:
        found = self.model.of(states)
        return found[place % len(found)] if found else None

    @step(place=places, states=st.sampled_from(["w", "wdacfx"]))
    def put_started(self, place: int, states: str) -> None:
        job = self._pick(place, states)
        if job is None:
            return
        held, queue = self.sameness.held, self.model.queues[job.queue]
        code = {"a": Code.JOB_TAKEN, "d": Code.NOT_DUE, "x": Code.JOB_CANCELLED, "w": None}.get(
            job.state, Code.JOB_ENDED
        )
        if code is None and queue.paused:
            code = Code.QUEUE_PAUSED
        elif code is None and not (
            self.model.free(job.queue, held, self.engine.now) and self.model.room(job.queue, job.key) > 0
        ):
            code = Code.LIMIT_REACHED
        try:
            started = self.store.jobs.start(
                APPLICATION, job_id_text(job.id), lease_token=None, lease_ms=None, worker_id=None
            )
        except Refusal as refusal:
            assert refusal.code == code
            job.remember_conflict(self.engine.now)
            return
        assert code is None, "started against a limit"
        self.model.begin(job, started.lease_token, STARTED_LEASE_MS, self.engine.now, by="put")

    def _report(self, job: ModelJob, kind: Any, token: str | None, delay: int, *, loser: bool, retry: bool) -> None:
        now = self.engine.now
        outcome = self.model.judge(job, kind, token, loser, now)
        error = b'"HTTP 409"' if loser else b'"it broke"'
        report = Report(
            job_id_text(job.id),
            kind,
            lease_token=token,
            error=error if kind == "fail" else None,
            retry=retry,
            delay_ms=delay if kind in ("fail", "release") else None,
            progress=b"1" if kind == "progress" else None,
        )
        answer = self.store.jobs.report(APPLICATION, [report])[0]
        if isinstance(answer, Refusal):
            assert answer.code == outcome.code, (answer.code, outcome)
            return
        assert outcome.code is None, f"accepted, not refused with {outcome.code}"
        assert answer.ignored == outcome.ignored
        if outcome.applied:
            if job.state == "w":
                fresh = answer.lease_token or "ended"  # an ending that starts implicitly tells no token
                if not answer.lease_token:
                    left = self.store.redis.hget(self.engine.prefix + b"j:" + job.id, "l")
                    fresh = left.decode() if left else "none"
                self.model.begin(job, fresh, STARTED_LEASE_MS, now, by="report")
            self._apply(job, kind, token, delay, retry)
        assert answer.state is (
            State.CANCELLED if job.state == "x" else next(s for s in State if s.letter == job.state)
        )

    def _apply(self, job: ModelJob, kind: str, token: str | None, delay: int, retry: bool) -> None:
        now = self.engine.now
        if token:
            job.token_required = True
        if kind == "progress":
            job.lease_end = now + job.lease_ms
            job.events.append("progress")
        elif kind == "complete":
            self.model.end(job, "c", now, "completed")
        elif kind == "fail":
            self.model.fail(job, delay, retry, now)
        elif kind == "stall":
            self.model.stall(job, now)
        else:
            job.starts -= 1
            job.token = None
            self.model.wait(job, delay, now)

    @step(place=places, kind=endings, count=st.integers(1, 4), delay=delays, retry=st.booleans(), again=st.booleans())
    def finish(self, place: int, kind: str, count: int, delay: int, retry: bool, again: bool) -> None:
        for at in range(count):
            if job := self._pick(place + 7 * at, "a"):
                token = job.token
                self._report(job, kind, token, delay, loser=False, retry=retry)
                if again:
                    self._report(job, kind, token, delay, loser=False, retry=retry)

    @step(place=places, kind=endings, count=st.integers(1, 4), delay=delays, retry=st.booleans(), again=st.booleans())
    def finish_more(self, place: int, kind: str, count: int, delay: int, retry: bool, again: bool) -> None:
        for at in range(count):
            if job := self._pick(place + 7 * at, "a"):
                self._report(job, kind, job.token, delay, loser=again, retry=retry)

    @step(place=places, kind=kinds, with_token=tokens, loser=st.booleans(), retry=st.booleans())
    def report(self, place: int, kind: str, with_token: str, loser: bool, retry: bool) -> None:
        if job := self._pick(place, "wdacfx"):
            token = {"right": job.token, "none": None, "stale": "never given"}[with_token]
            self._report(job, kind, token, 0, loser=loser, retry=retry)

    @step(place=places, with_token=tokens)
    def heartbeat(self, place: int, with_token: str) -> None:
        job = self._pick(place, "wdacfx")
        if job is None:
            return
        token = {"right": job.token, "none": None, "stale": "never given"}[with_token]
        own = token == job.token if token is not None else not job.token_required
        outcome = self.store.jobs.renew(APPLICATION, [(job_id_text(job.id), token)], None)[0][0]
        if job.state == "a" and own:
            assert outcome == "ok"
            job.lease_end = self.engine.now + job.lease_ms
            job.token_required = job.token_required or token is not None
        elif job.state == "x" and (own or job.token is None):
            assert outcome == "cancelled"
        else:
            assert outcome == "lost"

    # -- control -----------------------------------------------------------------------------

    def _act(self, action: Any, place: int, allowed: str, refused: dict[str, Code]) -> ModelJob | None:
        """Returns the job when the action was to change it, and did."""
        job = self._pick(place, "wdacfx")
        if job is None:
            return None
        answer = self.store.jobs.act(action, APPLICATION, [job_id_text(job.id)])[0]
        if isinstance(answer, Refusal):
            assert job.state not in allowed, answer
            assert answer.code == refused.get(job.state, Code.CONFLICT)
            return None
        assert job.state not in refused
        return job if job.state in allowed else None

    @step(place=places)
    def cancel(self, place: int) -> None:
        if job := self._act("cancel", place, "wda", {"c": Code.JOB_ENDED, "f": Code.JOB_ENDED}):
            self.model.end(job, "x", self.engine.now, "cancelled")

    @step(place=places)
    def promote(self, place: int) -> None:
        if job := self._act("promote", place, "d", dict.fromkeys("wacfx", Code.CONFLICT)):
            self.model.enqueue(job)

    @step(place=places)
    def retry(self, place: int) -> None:
        if job := self._act("retry", place, ENDED, dict.fromkeys("wda", Code.CONFLICT)):
            job.failures = job.stalls = 0
            job.token, job.token_required, job.conflicts = None, False, (0, 0)
            job.events.append("retrying")
            self.model.enqueue(job)

    @step(place=places)
    def delete(self, place: int) -> None:
        if job := self._act("delete", place, "wdcfx", {"a": Code.JOB_ACTIVE}):
            del self.model.jobs[job.id]
            self.model.tidy(job.queue)

    @step(place=places, priority=st.integers(-2, 5))
    def change_priority(self, place: int, priority: int) -> None:
        if job := self._pick(place, "wd"):
            self.store.jobs.change(APPLICATION, job_id_text(job.id), priority=priority)
            job.priority = priority

    @step(place=places, delay=st.sampled_from([0, 400, 2_000]))
    def change_time(self, place: int, delay: int) -> None:
        if job := self._pick(place, "wd"):
            at = self.engine.now + delay
            self.store.jobs.change(APPLICATION, job_id_text(job.id), run_at_ms=at)
            if delay:
                job.state, job.due = "d", at
                self.model.tidy(job.queue)
            elif job.state == "d":
                self.model.enqueue(job)

    # -- limits ------------------------------------------------------------------------------

    @step(queue=queue_names)
    def pause(self, queue: str) -> None:
        self.model.queues[queue].paused = True
        self.engine.queue(queue, paused=1)

    @step(queue=queue_names)
    def resume(self, queue: str) -> None:
        self.model.queues[queue].paused = False
        self.engine.queue(queue, paused=None)

    def _concurrency(self, queue: str, limit: int | None) -> None:
        self.model.queues[queue].concurrency = limit
        self.engine.queue(queue, concurrency=limit)

    @step(queue=queue_names, limit=concurrencies)
    def concurrency(self, queue: str, limit: int | None) -> None:
        self._concurrency(queue, limit)

    def _per_key(self, queue: str, limit: int | None) -> None:
        settings = self.model.queues[queue]
        lowered = limit is not None and (settings.per_key is None or limit < settings.per_key)
        settings.per_key = limit
        self.engine.queue(queue, "k", per_key=limit)
        if lowered:
            self.stale.add(queue)  # the ring is tidied by a due step; meanwhile claims skip blocked keys
        else:
            self._run_due()

    @step(queue=queue_names, limit=key_limits)
    def per_key(self, queue: str, limit: int | None) -> None:
        self._per_key(queue, limit)

    def _rate(self, queue: str, rate: tuple[int, int] | None) -> None:
        settings = self.model.queues[queue]
        settings.rate, settings.starts = rate, []
        self.engine.queue(queue, rate_max=rate and rate[0], rate_per=rate and rate[1])

    @step(queue=queue_names, rate=rates)
    def rate(self, queue: str, rate: tuple[int, int] | None) -> None:
        self._rate(queue, rate)

    def _application_max(self, most: int | None) -> None:
        self.model.max = most
        limits = {} if most is None else {"max": most}
        args = {"version": self.version, "limits": limits, "unlimited": ["max"] if most is None else []}
        self.version = self.store.scripts.run("application_change", APPLICATION, args)
        assert self.version > 0

    @step(most=maxima)
    def application_max(self, most: int | None) -> None:
        self._application_max(most)

    # -- time --------------------------------------------------------------------------------

    def _run_due(self) -> None:
        self.engine.run_due()
        self.model.run_due(self.engine.now)
        self.stale.clear()

    def _advance(self, ms: int) -> None:
        self.engine.now += ms
        self._run_due()
        if ms >= 500:
            self.lost.clear()  # every queue with work was repaired

    @step(ms=pauses)
    def advance(self, ms: int) -> None:
        self._advance(ms)

    @step(ms=pauses)
    def advance_more(self, ms: int) -> None:
        self._advance(ms)

    @step(ms=pauses)
    def scheduler_is_late(self, ms: int) -> None:
        self.engine.now += ms

    @step(place=places, offset=st.sampled_from([0, 1]), hungry=st.booleans())
    def rate_slot_frees(self, place: int, offset: int, hungry: bool) -> None:
        """The rate limit is used up; then the very ms at which a start leaves its window, or the one before.

        ``hungry``: native workers took every wake-up before, so that a new one must come in time.
        """
        rated = [
            name for name, found in self.model.queues.items() if found.rate and found.rate[0] <= 3 and not found.paused
        ]
        if not rated:
            return
        queue = rated[place % len(rated)]
        most, per = self.model.queues[queue].rate or (0, 0)
        self._advance(500)
        self._submit([(queue, "", 0, 0, 1, 1)] * (most + 1))
        self.sameness.look_at_held()
        self._claim([queue], 100, "http")
        while hungry and (self.in_hand[queue] or self.engine.wake_ups(queue)):
            self.sameness.look_at_held()
            self._native(queue)
        leaves = [at + per for at in self.model.queues[queue].starts if at + per > self.engine.now]
        if leaves:
            self.engine.now = min(leaves) - 1 + offset
        self._run_due()
        if not hungry:
            self.sameness.look_at_held()
            self._claim([queue], 100, "http")

    @step()
    def scheduler_looks(self) -> None:
        self._run_due()

    # -- always ------------------------------------------------------------------------------

    @invariant()
    def store_equals_model(self) -> None:
        self.sound = False
        self.sameness.check(self.in_hand, self.doubled, self.lost, self.stale)
        self.sound = True

    def teardown(self) -> None:
        """All workers die with what they hold; one native worker per queue must drain everything."""
        if not self.sound or not self.model.jobs:
            return
        self.in_hand.clear()
        self.lost.update(NAMES)
        for name in NAMES:
            self.engine.now += 1
            self.model.queues[name].paused = False
            self.engine.queue(name, paused=None)
        for _ in range(400):
            self._complete_all()
            self._advance(1_100)
            worked = True
            while worked:
                worked = False
                for name in NAMES:
                    if self._take_wake_up(name):
                        worked = True
                        self.sameness.look_at_held()
                        self._claim([name], CHAIN, "native")
                        self._complete_all()
            self.sameness.look_at_held()
            if not self.model.of("wda"):
                self.sameness.check(self.in_hand, self.doubled, self.lost, self.stale)
                return
        raise AssertionError("does not drain")

    def _complete_all(self) -> None:
        running = self.model.of("a")
        reports = [Report(job_id_text(job.id), "complete", lease_token=job.token) for job in running]
        answers = self.store.jobs.report(APPLICATION, reports) if reports else []
        assert not [answer for answer in answers if isinstance(answer, Refusal)], "an own ending was refused"
        for job in running:
            job.token_required = True
            self.model.end(job, "c", self.engine.now, "completed")


def machine_on(store: Store) -> type[Machine]:
    """The machine against this store, whose database it empties before each sequence."""
    return type("Machine", (Machine,), {"store": store})
