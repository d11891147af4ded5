"""A hypothesis machine: random clients, workers and schedulers against the store and the reference model."""

from typing import Any

import redis
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.ids import job_id_text
from mech_queue.model.job import JobSpec
from mech_queue.store import Store, keys
from mech_queue.store.connection import Lines
from tests.store.engine import APPLICATION
from tests.store.hands import NAMES
from tests.store.model import ENDED, STARTED_LEASE_MS, ModelJob
from tests.store.options import Options, places, queue_names, step
from tests.store.sameness import KEYS

EXTREMES = [0, 0, 0, 0, 1, -1, 2**31 - 1, -(2**31)]

specs = st.tuples(
    queue_names,
    st.sampled_from(["", "", *KEYS]),
    st.sampled_from(EXTREMES),
    st.sampled_from([0, 0, 0, 500, 3_000]),  # delay
    st.sampled_from([1, 2, 3]),  # attempts
    st.sampled_from([0, 1, 3]),  # stalls it may have
    st.sampled_from([0, 0, 0, 300]),  # timeout
    st.sampled_from([0, 0, 0, 1, 2_000]),  # expiry
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


class Machine(Options):
    """Made by ``machine_on(store)``, which says what it runs against."""

    @initialize(
        most=maxima,
        limits=st.lists(st.tuples(concurrencies, key_limits, rates, st.integers(0, 12)), min_size=3, max_size=3),
        drains=st.sampled_from([True, False, False]),
    )
    def begin(self, most: int | None, limits: list[Any], drains: bool) -> None:
        """Start with limits and some jobs: else most sequences are over before a limit is met."""
        self.sound, self.drains = False, drains
        self._application_max(most)
        for name, (concurrency, per_key, rate, jobs) in zip(NAMES, limits, strict=True):
            self._limits(name, concurrency, per_key, rate)
            if jobs:
                plain = [(name, ("", *KEYS)[i % 4], i % 2, 0, 2, 1, i % 4 // 3 * 2_000, 0) for i in range(jobs)]
                self._submit([*plain, (name, "", 9, 0, 1, 1, 0, 6_000)])
                self._submit_once(name, "", lasts=name == "B")
                self._submit_child(name, list(self.model.jobs)[-2:])

    # -- submit ------------------------------------------------------------------------------

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

    @step(queues=st.permutations(NAMES), count=st.integers(1, 3), limit=st.sampled_from([1, 1, 2, 5, 100]))
    def claim(self, queues: list[str], count: int, limit: int) -> None:
        self._claim(list(queues[:count]), limit, "http")

    @step(queues=st.permutations(NAMES), count=st.integers(1, 3), limit=st.sampled_from([1, 1, 2, 5, 100]))
    def claim_more(self, queues: list[str], count: int, limit: int) -> None:
        self._claim(list(queues[:count]), limit, "http")

    @step(queue=queue_names)
    def native(self, queue: str) -> None:
        self._native(queue)

    @step(queue=queue_names)
    def native_more(self, queue: str) -> None:
        self._native(queue)

    @step(queue=queue_names)
    def native_again(self, queue: str) -> None:
        self._native(queue)

    @step(place=places)
    def exchange(self, place: int) -> None:
        if job := self._pick(place, "a"):
            self._exchange(job)

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

    @step(place=places, states=st.sampled_from(["w", "wdacfx"]))
    def put_started(self, place: int, states: str) -> None:
        if job := self._pick(place, states):
            self._put_started(job)

    @step(place=places)
    def put_started_where_the_key_is_full(self, place: int) -> None:
        if blocked := [job for job in self.model.of("w") if self.model.room(job.queue, job.key) <= 0]:
            self._put_started(blocked[place % len(blocked)])

    def _put_started(self, job: ModelJob) -> None:
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
            job.token, job.token_required, job.conflicts, job.awaited = None, False, (0, 0), 0
            if job.deduped:
                self.model.dedupe.setdefault(job.queue, (job.id, False))
            job.events.append("retrying")
            self.model.enqueue(job)

    @step(place=places)
    def delete(self, place: int) -> None:
        if job := self._act("delete", place, "wdcfx", {"a": Code.JOB_ACTIVE}):
            self.model.remove(job, self.engine.now)

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
            if job.awaited:
                job.due = at
            elif delay:
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

    @step(queue=queue_names, limit=concurrencies)
    def concurrency(self, queue: str, limit: int | None) -> None:
        self._concurrency(queue, limit)

    @step(queue=queue_names, limit=key_limits)
    def per_key(self, queue: str, limit: int | None) -> None:
        self._per_key(queue, limit)

    @step(queue=queue_names, rate=rates)
    def rate(self, queue: str, rate: tuple[int, int] | None) -> None:
        self._rate(queue, rate)

    @step(most=maxima)
    def application_max(self, most: int | None) -> None:
        self._application_max(most)

    # -- time --------------------------------------------------------------------------------

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


def machine_on(store: Store, admin: redis.Redis) -> type[Machine]:
    """The machine against this store, whose database it empties before each sequence."""
    return type("Machine", (Machine,), {"store": store, "line": Lines(admin)})
