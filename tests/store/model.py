"""The reference model: what the store must hold, said without indexes, scripts or cleverness.

Plain lists and loops over all jobs. Where the store keeps a ring, a counter or a log, the model counts
anew each time. Times and durations are ms.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from mech_queue.model.errors import Code

ENDED = "cfx"
KEEP_MS = 20_000  # retention of ended jobs in the machine's application
CONFLICT_MS = 60_000  # how long a refused tokenless write is remembered
STARTED_LEASE_MS = 1_800_000
BACKOFF_MS = 1_000  # before the first retry after a timeout; then twice as long each time
STEPWISE = "ck"  # what is bounded by itself: the rest of what is due comes in the scheduler's next run
UNLIMITED = 10**9


@dataclass(eq=False)
class ModelJob:
    """One job. ``state`` is the store's letter; ``token`` the lease token the store remembers."""

    id: bytes
    queue: str
    key: str
    priority: int
    attempts: int
    max_stalls: int
    sequence: int = 0
    state: str = "w"
    due: int = 0  # of a delayed job
    token: str | None = None
    token_required: bool = False
    lease_ms: int = 0
    lease_end: int = 0
    starts: int = 0
    failures: int = 0
    stalls: int = 0
    removal: int = 0  # of an ended job
    conflicts: tuple[int, int] = (0, 0)  # how many, until when
    events: list[str] = field(default_factory=list)
    data: bytes = b"null"
    label: str | None = None  # by which it is found; None: by its key
    timeout: int = 0  # longest run of an attempt (0: none)
    timeout_at: int = 0  # of a running attempt
    expires_at: int = 0  # of a job that nobody started yet
    deduped: bool = False  # it was submitted with the queue's dedupe key
    awaited: int = 0  # parents that have not ended
    runs_anyway: bool = False  # whatever becomes of its parents

    def seen_conflicts(self, now: int) -> int:
        """How many refused tokenless writes count at this time."""
        return self.conflicts[0] if self.conflicts[1] > now else 0

    def remember_conflict(self, now: int) -> None:
        """A tokenless write was refused."""
        self.conflicts = (self.seen_conflicts(now) + 1, now + CONFLICT_MS)

    def forget_conflict(self) -> None:
        """A tokenless ``failed`` was taken for the loser's."""
        self.conflicts = (self.conflicts[0] - 1, self.conflicts[1])


@dataclass
class ModelQueue:
    """Settings, the starts that the rate limit counts, and the turn of each key with waiting jobs."""

    paused: bool = False
    concurrency: int | None = None
    per_key: int | None = None
    rate: tuple[int, int] | None = None  # max, per ms
    starts: list[int] = field(default_factory=list)
    turns: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a report must be answered: a refusal, or done (``ignored``: and nothing changed)."""

    code: Code | None = None
    ignored: bool = False
    applied: bool = False


class Model:
    """All jobs and queues of one application."""

    def __init__(self, queues: Iterable[str]) -> None:
        self.jobs: dict[bytes, ModelJob] = {}
        self.queues = {name: ModelQueue() for name in queues}
        self.max: int | None = None
        self.dedupe: dict[str, tuple[bytes, bool]] = {}  # queue -> the job that has its key, whether it outlives it
        self.children: dict[bytes, set[bytes]] = {}  # parent -> those who wait for it
        self.tells: dict[bytes, int] = {}  # parents whose children are to be told, and since when
        self.walks: dict[bytes, int] = {}  # queues whose keys are to be regrouped, and since when
        self._clock = 0

    # -- questions ---------------------------------------------------------------------------

    def of(self, state: str, queue: str | None = None, key: str | None = None) -> list[ModelJob]:
        """Jobs in one of the states (letters), of a queue, of a key ("" = without one)."""
        return [
            job
            for job in self.jobs.values()
            if job.state in state and (queue is None or job.queue == queue) and (key is None or job.key == key)
        ]

    def room(self, queue: str, key: str) -> int:
        """How many more jobs of a key may run."""
        limit = self.queues[queue].per_key
        return UNLIMITED if limit is None or not key else limit - len(self.of("a", queue, key))

    def candidates(self, queue: str) -> list[tuple[int, int, ModelJob]]:
        """(−priority, turn, job) of each job that may be the next, whatever the limits of the queue say."""
        found = [(-job.priority, job.sequence, job) for job in self.of("w", queue, "")]
        for key, turn in self.queues[queue].turns.items():
            if self.room(queue, key) > 0:
                head = min(self.of("w", queue, key), key=lambda job: (-job.priority, job.sequence))
                found.append((-head.priority, turn, head))
        return found

    def next_job(self, queue: str) -> ModelJob:
        """The job that must start next."""
        # turns and sequences come from one clock in the store; here a key's turn is younger than what waited then
        return min(self.candidates(queue), key=lambda candidate: candidate[:2])[2]

    def startable(self, queue: str) -> int:
        """How many jobs could start if only the keys had limits."""
        keys = self.queues[queue].turns
        return len(self.of("w", queue, "")) + sum(
            max(0, min(len(self.of("w", queue, key)), self.room(queue, key))) for key in keys
        )

    def free(self, queue: str, held: set[str], now: int) -> int:
        """How many jobs the limits let start; ``held``: queues that have a slot of the application reserved."""
        settings = self.queues[queue]
        if settings.paused:
            return 0
        places = [UNLIMITED]
        if settings.concurrency is not None:
            places.append(settings.concurrency - len(self.of("a", queue)))
        if settings.rate is not None:
            places.append(settings.rate[0] - self.recent(queue, now))
        if self.max is not None:
            places.append(self.max - len(self.of("a")) - len(held - {queue}))
        return max(0, min(places))

    def recent(self, queue: str, now: int) -> int:
        """Starts within the period of the rate limit."""
        settings = self.queues[queue]
        assert settings.rate is not None
        return sum(1 for at in settings.starts if at + settings.rate[1] > now)

    def runnable(self, queue: str, held: set[str], now: int) -> int:
        """How many jobs a worker without end could start now."""
        return min(self.startable(queue), self.free(queue, held, now))

    # -- changes -----------------------------------------------------------------------------

    def tick(self) -> int:
        """The next turn: younger than every sequence given so far."""
        self._clock = max([self._clock, *(job.sequence for job in self.jobs.values())]) + 1
        return self._clock

    def enqueue(self, job: ModelJob) -> None:
        """The job waits; its key gets a turn unless it has one."""
        job.state, job.timeout_at = "w", 0
        if job.key:
            self.queues[job.queue].turns.setdefault(job.key, self.tick())

    def tidy(self, queue: str) -> None:
        """Keys without waiting jobs have no turn."""
        turns = self.queues[queue].turns
        for key in list(turns):
            if not self.of("w", queue, key):
                del turns[key]

    def begin(self, job: ModelJob, token: str, lease_ms: int, now: int, *, by: str) -> None:
        """The job starts, ``by`` claim, put (started) or report (implicitly, whatever the limits)."""
        settings = self.queues[job.queue]
        job.state, job.token, job.token_required = "a", token, by == "claim"
        job.lease_ms, job.lease_end = lease_ms, now + lease_ms
        job.starts += 1
        job.timeout_at, job.expires_at = now + job.timeout if job.timeout else 0, 0
        job.events.append("started")
        if settings.rate is not None:
            settings.starts.append(now)
        if job.key and by == "claim":
            settings.turns[job.key] = self.tick()
        self.tidy(job.queue)
        if by != "report":
            self._limits_hold(job, now)

    def _limits_hold(self, job: ModelJob, now: int) -> None:
        """Stated apart from ``free``: no start may exceed a limit."""
        settings = self.queues[job.queue]
        assert not settings.paused, "a paused queue started a job"
        if settings.concurrency is not None:
            assert len(self.of("a", job.queue)) <= settings.concurrency, "limit of the queue"
        if settings.per_key is not None and job.key:
            assert len(self.of("a", job.queue, job.key)) <= settings.per_key, "limit of the key"
        if self.max is not None:
            assert len(self.of("a")) <= self.max, "limit of the application"
        if settings.rate is not None:
            most, per = settings.rate
            assert sum(1 for at in settings.starts if at > now - per) <= most, "rate limit"

    def end(self, job: ModelJob, state: str, now: int, event: str) -> None:
        """The job ends."""
        job.state, job.removal = state, now + KEEP_MS
        job.timeout_at = job.expires_at = 0
        job.events.append(event)
        self.tidy(job.queue)
        self._told_of(job.id, now)
        self.free_dedupe(job, also_lasting=False)

    def remove(self, job: ModelJob, now: int) -> None:
        """The job is gone, without an event."""
        del self.jobs[job.id]
        self.tidy(job.queue)
        self._told_of(job.id, now)
        self.free_dedupe(job, also_lasting=job.state not in ENDED)

    def free_dedupe(self, job: ModelJob, *, also_lasting: bool) -> None:
        """Its key is free again, unless another job has it, or it is to last beyond the job."""
        holder, lasts = self.dedupe.get(job.queue, (b"", False))
        if holder == job.id and (also_lasting or not lasts):
            del self.dedupe[job.queue]

    def _told_of(self, parent: bytes, now: int) -> None:
        if self.children.get(parent):
            self.tells[parent] = now

    def wait(self, job: ModelJob, delay_ms: int, now: int) -> None:
        """The job goes back to its queue, now or later."""
        if delay_ms > 0:
            job.state, job.due, job.timeout_at = "d", now + delay_ms, 0
        else:
            self.enqueue(job)

    def fail(self, job: ModelJob, delay_ms: int, retry: bool, now: int) -> None:
        """A reported failure."""
        job.failures += 1
        if not retry or job.failures >= job.attempts:
            self.end(job, "f", now, "failed")
            return
        self.wait(job, delay_ms, now)
        job.events.append("retrying")

    def stall(self, job: ModelJob, now: int) -> None:
        """A lost lease."""
        job.stalls += 1
        job.token = None
        if job.stalls > job.max_stalls:
            self.end(job, "f", now, "failed")
            return
        self.enqueue(job)
        job.events.append("stalled")

    def run_due(self, now: int) -> None:
        """The scheduler, in its order: what is due, lost leases, removals; again while that made something due."""
        while self._run_due_once(now):
            pass

    def _run_due_once(self, now: int) -> bool:
        due = sorted(entry for entry in self.due() if entry[0] <= now)
        for _, kind, name in due:
            self._act(kind, name, now)
            if kind in STEPWISE:
                break
        lost = [job for job in self.of("a") if job.lease_end <= now]
        for job in sorted(lost, key=lambda job: (job.lease_end, job.id)):
            self.stall(job, now)
        over = [job for job in self.of(ENDED) if job.removal <= now]
        for job in over:
            if job.seen_conflicts(now):
                job.removal = job.conflicts[1]
            elif self.children.get(job.id):
                job.removal = now + 1_000
            else:
                self.remove(job, now)
        return bool(due or lost or over)

    def due(self) -> list[tuple[int, str, bytes]]:
        """(when, what, job or queue): d delayed, t timeout, x expiry, c children to be told, k keys to be regrouped."""
        return [
            *((at, "c", parent) for parent, at in self.tells.items()),
            *((at, "k", queue) for queue, at in self.walks.items()),
            *((job.due, "d", job.id) for job in self.of("d") if not job.awaited),
            *((job.timeout_at, "t", job.id) for job in self.jobs.values() if job.timeout_at),
            *((job.expires_at, "x", job.id) for job in self.jobs.values() if job.expires_at),
        ]

    def _act(self, kind: str, name: bytes, now: int) -> None:
        if kind == "k":
            del self.walks[name]
            return
        if kind == "c":
            del self.tells[name]
            self._tell_children(name, now)
            return
        job = self.jobs[name]
        if kind == "d" and job.state == "d" and not job.awaited:
            self.enqueue(job)
        elif kind == "t" and job.timeout_at:
            self.fail(job, BACKOFF_MS * 2**job.failures, True, now)
        elif kind == "x" and job.expires_at:
            self.end(job, "f", now, "failed")

    def _tell_children(self, parent_id: bytes, now: int) -> None:
        parent = self.jobs.get(parent_id)
        if parent and parent.state not in ENDED:
            return
        for child_id in self.children.pop(parent_id, set()):
            child = self.jobs.get(child_id)
            if child is None or child.state != "d" or not child.awaited:
                continue
            child.awaited -= 1
            if not (parent and parent.state == "c") and not child.runs_anyway:
                child.awaited = 0
                self.end(child, "f", now, "failed")
            elif not child.awaited and child.due <= now:
                self.enqueue(child)

    # -- PUT ---------------------------------------------------------------------------------

    def judge(self, job: ModelJob, kind: str, token: str | None, loser: bool, now: int) -> Outcome:
        """What a report must be answered (CONTRACT.md, PUT); remembers refused tokenless writes."""
        if kind == "fail" and token is None:
            if job.seen_conflicts(now):
                if job.state != "a" or job.token_required or loser:
                    job.forget_conflict()
                    return Outcome(ignored=True)
            elif job.state == "x":
                return Outcome(ignored=True)
        outcome = self._judge(job, kind, token)
        if outcome.code and token is None:
            job.remember_conflict(now)
        return outcome

    @staticmethod
    def _judge(job: ModelJob, kind: str, token: str | None) -> Outcome:
        own = token is not None and token == job.token
        if job.state in ENDED:
            if token is not None and not own:
                return Outcome(Code.LEASE_LOST)
            if job.state == "x":
                return Outcome(Code.JOB_CANCELLED)
            same = (kind, job.state) in (("complete", "c"), ("fail", "f"))
            return Outcome() if same else Outcome(Code.JOB_ENDED)
        if job.state == "a":
            allowed = own if token is not None else not job.token_required
            return Outcome(applied=True) if allowed else Outcome(Code.LEASE_LOST)
        if token is not None:
            return Outcome() if own and kind == "fail" else Outcome(Code.LEASE_LOST)
        return Outcome(Code.NOT_DUE) if job.state == "d" else Outcome(applied=True)
