"""What the machine does with the store and the model at once; its rules (machine.py) say when."""

from collections import Counter, defaultdict
from typing import Any, Literal

from hypothesis.stateful import RuleBasedStateMachine, invariant

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.ids import job_id_text
from mech_queue.model.job import ClaimedJob, JobSpec, Report, State
from mech_queue.store import Store, keys
from mech_queue.store.connection import Lines
from tests.store.engine import APPLICATION, Engine
from tests.store.model import KEEP_MS, STARTED_LEASE_MS, Model, ModelJob
from tests.store.sameness import Sameness, key_field

WINDOW = 3
NAMES = ["A", "B", "C"]
LEASE_MS = 5_000
CHAIN = 20  # jobs that one wake-up may serve
TAKE = """#!lua
local taken = {}
for at, list in ipairs(KEYS) do taken[at] = redis.call('RPOP', list) and 1 or 0 end
return taken
"""


class Hands(RuleBasedStateMachine):
    """One application, its model, and the hands of clients, workers and the scheduler."""

    store: Store
    line: Lines  # to the same store, for looks and hands that are no script's

    def __init__(self) -> None:
        super().__init__()
        self.line.call("FLUSHDB")
        self.store.store_id = None  # an emptied database is another store
        self.store.greet(initialise=True)
        self.engine = Engine(self.store, line=self.line)
        self.model = Model(NAMES)
        self.sameness = Sameness(self.engine, self.model, WINDOW)
        self.in_hand: Counter[str] = Counter()
        self.doubled: Counter[str] = Counter()
        self.lost: set[str] = set()
        self.stale: set[str] = set()
        self.submitted = self.exchanges = 0
        self.version = 1
        self.sound, self.drains = True, False
        self.store.redis.hset(self.engine.prefix + b"about", "version", self.version)
        seconds = KEEP_MS // 1_000
        self.engine.settings(keep_completed_s=seconds, keep_failed_s=seconds, keep_cancelled_s=seconds)

    # -- submit ------------------------------------------------------------------------------

    def _submit(self, items: list[tuple[Any, ...]]) -> None:
        """Each as ``_new`` takes it."""
        self._submit_jobs([self._new(*item) for item in items])

    def _new(
        self,
        queue: str,
        key: str,
        priority: int = 0,
        delay: int = 0,
        attempts: int = 1,
        stalls: int = 1,
        timeout: int = 0,
        expires: int = 0,
        **more: Any,
    ) -> tuple[ModelJob, JobSpec]:
        """A job for the model and for the store; ``more`` goes into the store's. Times in ms, 0: none."""
        self.submitted += 1
        data = str(self.submitted).encode()
        job_id = self.submitted.to_bytes(16, "big")
        job = ModelJob(job_id, queue, key, priority, attempts, stalls, events=["created"], data=data, timeout=timeout)
        job.state, job.due = ("d", self.engine.now + delay) if delay else ("w", 0)
        job.expires_at = self.engine.now + expires if expires else 0
        spec = JobSpec(
            queue=queue,
            data=data,
            priority=priority,
            delay_ms=delay or None,
            attempts=attempts,
            max_stalls=stalls,
            timeout_ms=timeout or None,
            expires_in_ms=expires or None,
            concurrency_key=key or None,
            fields=(key_field(key),),
            **more,
        )
        return job, spec

    def _submit_jobs(self, made: list[tuple[ModelJob, JobSpec]]) -> None:
        model_jobs = [job for job, _ in made]
        answers = self.store.jobs.submit(APPLICATION, [spec for _, spec in made], ids=[job.id for job in model_jobs])
        assert [(answer.job_id, answer.deduplicated) for answer in answers if not isinstance(answer, Refusal)] == [
            (job_id_text(job.id), False) for job in model_jobs
        ]
        sequences = self.line.call("ZMSCORE", self.engine.prefix + b"all", *[job.id for job in model_jobs])
        before = max([0, *(job.sequence for job in self.model.jobs.values())])
        for job, sequence in zip(model_jobs, map(int, sequences), strict=True):
            assert sequence > before, "sequences must rise"
            job.sequence = before = sequence
            self.model.jobs[job.id] = job
            if job.state == "w":
                self.model.enqueue(job)

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
                assert got.data == job.data
            if had and not taken[name]:
                exact = False  # the slot went on to another queue inside the script
            left -= len(taken[name])
            if left == 0:
                break

    def _take_wake_up(self, queue: str) -> bool:
        taken = self.line.call("RPOP", keys.broker_list(APPLICATION, queue)) is not None
        if taken and self.doubled[queue]:
            self.doubled[queue] = min(self.doubled[queue], self.engine.wake_ups(queue))
        return taken

    def _take_wake_ups(self) -> list[str]:
        """One of each queue that has any."""
        taken = self.line.call("EVAL", TAKE, len(NAMES), *(keys.broker_list(APPLICATION, name) for name in NAMES))
        return [name for name, one in zip(NAMES, taken, strict=True) if one]

    def _exchange(self, job: ModelJob) -> None:
        """A native worker ends the job and takes the next one of its queue for it."""
        report = Report(job_id_text(job.id), "complete", lease_token=job.token)
        self.exchanges += 1
        reported, claim = self.store.jobs.exchange(
            APPLICATION, report, queue=job.queue, lease_ms=LEASE_MS, worker_id="w", nonce=f"{self.exchanges}"
        )
        assert not isinstance(reported, Refusal) and reported.state is State.COMPLETED
        self._apply(job, "complete", job.token, 0, False)
        # a slot of the application may go to the queue that waits longest
        wanted = min(1, self.model.runnable(job.queue, set(), self.engine.now))
        assert len(claim.jobs) == wanted or (self.model.max is not None and len(claim.jobs) < wanted)
        for got in claim.jobs:
            following = self.model.next_job(job.queue)
            assert job_id_text(following.id) == got.id, "not the next job"
            self.model.begin(following, got.lease_token, LEASE_MS, self.engine.now, by="claim")

    def _native(self, queue: str) -> None:
        if self.in_hand[queue]:
            self.in_hand[queue] -= 1
        elif not self._take_wake_up(queue):
            return
        self._claim([queue], 1, "native")

    # -- PUT ---------------------------------------------------------------------------------

    def _pick(self, place: int, states: str) -> ModelJob | None:
        found = self.model.of(states)
        return found[place % len(found)] if found else None

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
                    left = self.line.call("HGET", self.engine.prefix + b"j:" + job.id, "l")
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

    # -- control -----------------------------------------------------------------------------

    def _act(self, action: Any, place: int, allowed: str, refused: dict[str, Code]) -> ModelJob | None:
        """Returns the job when the action was to change it, and did."""
        job = self._pick(place, "wdacfx")
        if job is None:
            return None
        if action == "promote" and job.awaited:
            allowed = ""
        answer = self.store.jobs.act(action, APPLICATION, [job_id_text(job.id)])[0]
        if isinstance(answer, Refusal):
            assert job.state not in allowed, answer
            assert answer.code == refused.get(job.state, Code.CONFLICT)
            return None
        assert job.state not in refused
        return job if job.state in allowed else None

    # -- limits ------------------------------------------------------------------------------

    def _limits(self, queue: str, concurrency: int | None, per_key: int | None, rate: tuple[int, int] | None) -> None:
        """All at once, in the beginning."""
        settings = self.model.queues[queue]
        settings.concurrency, settings.per_key, settings.rate = concurrency, per_key, rate
        rate_max, rate_per = rate or (None, None)
        self.engine.queue(queue, concurrency=concurrency, per_key=per_key, rate_max=rate_max, rate_per=rate_per)

    def _concurrency(self, queue: str, limit: int | None) -> None:
        self.model.queues[queue].concurrency = limit
        self.engine.queue(queue, concurrency=limit)

    def _per_key(self, queue: str, limit: int | None) -> None:
        settings = self.model.queues[queue]
        lowered = limit is not None and (settings.per_key is None or limit < settings.per_key)
        settings.per_key = limit
        self.model.walks[queue.encode()] = self.engine.now
        self.engine.queue(queue, "k", per_key=limit)
        if lowered:
            self.stale.add(queue)  # the ring is tidied by a due step; meanwhile claims skip blocked keys
        else:
            self._run_due()

    def _rate(self, queue: str, rate: tuple[int, int] | None) -> None:
        settings = self.model.queues[queue]
        settings.rate, settings.starts = rate, []
        self.engine.queue(queue, rate_max=rate and rate[0], rate_per=rate and rate[1])

    def _application_max(self, most: int | None) -> None:
        self.model.max = most
        limits = {} if most is None else {"max": most}
        args = {"version": self.version, "limits": limits, "unlimited": ["max"] if most is None else []}
        self.version = self.store.scripts.run("application_change", APPLICATION, args)
        assert self.version > 0

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

    # -- always ------------------------------------------------------------------------------

    @invariant()
    def store_equals_model(self) -> None:
        self.sound = False
        self.sameness.check(self.in_hand, self.doubled, self.lost, self.stale)
        self.sound = True

    def teardown(self) -> None:
        """In some sequences all workers die with what they hold; one native worker per queue must drain everything."""
        if not self.drains or not self.sound or not self.model.jobs:
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
            while woken := self._take_wake_ups():
                for name in woken:
                    self.sameness.look_at_held()
                    self._claim([name], CHAIN, "native")
                self._complete_all()
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
