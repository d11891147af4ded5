"""Compares the store with the reference model, key by key, after every step of the machine."""

from collections import Counter
from typing import Any

from mech_queue.model.event import BY_LETTER
from mech_queue.model.metadata import fields_hash
from mech_queue.store import keys
from tests.store.engine import Engine
from tests.store.model import ENDED, Model, ModelJob, ModelQueue

HOLD_MS = 1_000  # how long a slot of the application is held for a queue
LETTERS = "wdacfx"


def seq8(sequence: int) -> bytes:
    """A sequence as it stands in members."""
    return sequence.to_bytes(8, "big")


def key_field(key: str) -> tuple[str, str]:
    """The metadata by which every job of the machine can be found."""
    return ("key", f'"{key}"')


class Sameness:
    """Reads everything of one application in one round trip and holds it against the model."""

    def __init__(self, engine: Engine, model: Model, window: int) -> None:
        self.engine, self.model, self.window = engine, model, window
        self.names = list(model.queues)
        self.held: set[str] = set()  # queues with a slot of the application reserved, at the last look
        self.last_event = b"-"
        self.told: dict[bytes, list[str]] = {}  # events seen so far, per job

    def check(self, in_hand: Counter[str], doubled: Counter[str], lost: set[str], stale: set[str]) -> None:
        """Assert that nothing differs.

        ``in_hand``: wake-ups that workers have taken and not used; ``doubled``: how many the test put
        in; ``lost``: queues whose wake-ups the test destroyed since the last repair; ``stale``: queues
        whose ring may still show keys that a lowered limit blocks.
        """
        redis, place = self.engine.store.redis, self.engine.prefix
        pipe = redis.pipeline(transaction=False)
        pipe.hgetall(place + b"app")
        for name in (b"all", b"act", b"due", b"end", b"res"):
            pipe.zrange(place + name, 0, -1, withscores=True)
        pipe.zrange(place + b"ix", 0, -1)
        pipe.hgetall(keys.shard_prefix(self.engine.shard) + b"totals")
        pipe.zscore(keys.shard_prefix(self.engine.shard) + b"next", self.engine.application_id)
        pipe.xrange(place + b"ev", self.last_event)
        for name in self.names:
            self._ask(pipe, place, name)
        rows = pipe.execute()
        app, everything, active, due, ends, held, index, totals, following, events = rows[:10]
        self._records(dict(everything), dict(active), dict(due), dict(ends), index)
        self._counters(app, totals, dict(held))
        self._events(events)
        heads = [int(found[0][1]) for found in (due, active, ends) if found]
        assert not heads or (following is not None and following <= min(heads)), "the scheduler would forget"
        late = bool(due) and due[0][1] <= self.engine.now
        self.held = {name.decode() for name, _ in held}
        width = len(QUEUE_PARTS)
        for at, name in enumerate(self.names):
            parts = dict(zip(QUEUE_PARTS, rows[10 + width * at : 10 + width * (at + 1)], strict=True))
            self._queue(name, parts, stale=name in stale)
            waiting = parts["list"]
            assert waiting <= self.window + doubled[name], f"{waiting} wake-ups for {name}"
            runnable = self.model.runnable(name, self.held, self.engine.now)
            if runnable and not late and name not in lost:
                assert waiting + in_hand[name] > 0, f"{runnable} jobs of {name} could start and nobody is woken"

    def _ask(self, pipe: Any, place: bytes, name: str) -> None:
        queue = name.encode()
        pipe.hgetall(place + b"q:" + queue)
        pipe.zrange(place + b"r:" + queue, 0, -1, withscores=True)
        pipe.hgetall(place + b"kt:" + queue)
        pipe.hgetall(place + b"kr:" + queue)
        pipe.lrange(place + b"rl:" + queue, 0, -1)
        pipe.llen(keys.broker_list(self.engine.application_id, name))
        for key in KEYS:
            pipe.zrange(place + b"w:" + queue + b":" + key.encode(), 0, -1, withscores=True)

    def _records(
        self, everything: dict[bytes, float], active: Any, due: dict[bytes, float], ends: Any, index: list[bytes]
    ) -> None:
        jobs = self.model.jobs
        assert everything == {job.id: job.sequence for job in jobs.values()}, "jobs lost or invented"
        assert active == {job.id: job.lease_end for job in self.model.of("a")}, "leases"
        assert ends == {job.id: job.removal for job in self.model.of(ENDED)}, "removals"
        delayed = {member[1:]: at for member, at in due.items() if member[:1] == b"d"}
        assert delayed == {job.id: job.due for job in self.model.of("d")}, "due times"
        wanted = set()
        for job in jobs.values():
            wanted.add(b"s" + job.state.encode() + job.queue.encode() + b"\0" + seq8(job.sequence))
            wanted.add(b"m" + fields_hash(*key_field(job.key)) + seq8(job.sequence))
        assert set(index) == wanted, "index"

    def _counters(self, app: dict[bytes, bytes], totals: dict[bytes, bytes], held: dict[bytes, float]) -> None:
        counts = Counter(job.state for job in self.model.jobs.values())
        for letter in LETTERS:
            count = counts[letter]
            assert int(app.get(b"n" + letter.encode(), 0)) == count, f"counter of {letter}"
            assert int(totals.get(letter.encode(), 0)) == count, f"total of {letter}"
        assert int(app.get(b"active", 0)) == len(self.model.of("a")), "active jobs of the application"
        assert int(app.get(b"held", 0)) == len(held), "held slots"
        assert all(until <= self.engine.now + HOLD_MS for until in held.values()), "a slot is held too long"

    def _events(self, rows: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        for at, row in rows:
            self.last_event = b"(" + at
            told = self.told.setdefault(row[b"j"], [])
            told.append(BY_LETTER[row[b"t"].decode()].value)
            assert int(row[b"s"]) == len(told), "a gap in the sequence of events"
        for job in self.model.jobs.values():
            assert self.told.get(job.id, []) == job.events, "events"

    def _queue(self, name: str, parts: dict[str, Any], *, stale: bool) -> None:
        settings = self.model.queues[name]
        counts = Counter(job.state for job in self.model.jobs.values() if job.queue == name)
        for letter in LETTERS:
            assert int(parts["hash"].get(b"n" + letter.encode(), 0)) == counts[letter], "counter"
        running = Counter(job.key for job in self.model.of("a", name) if job.key)
        found = {key.decode(): int(number) for key, number in parts["running"].items()}
        assert found == running, "running per key"
        turns = sorted(parts["turns"], key=lambda key: parts["turns"][key])
        assert [key.decode() for key in turns] == sorted(settings.turns, key=settings.turns.__getitem__), "turns"
        waiting: dict[str, dict[bytes, int]] = {key: {} for key in ("", *KEYS)}
        for job in self.model.of("w", name):
            waiting[job.key][seq8(job.sequence)] = -job.priority
        for key in KEYS:
            assert dict(parts["waiting " + key]) == waiting[key], f"waiting jobs of key {key}"
        self._ring(name, dict(parts["ring"]), parts["turns"], stale=stale)
        self._rate(settings, parts)

    def _ring(self, name: str, ring: dict[bytes, float], turns: dict[bytes, bytes], *, stale: bool) -> None:
        wanted: dict[bytes, float] = {}
        for priority, _, job in self.model.candidates(name):
            wanted[self._member(job, turns)] = priority
        if stale:
            extra = {member[8:].decode() for member in ring.keys() - wanted.keys()}
            assert all(key and self.model.room(name, key) <= 0 for key in extra), "ring"
            ring = {member: score for member, score in ring.items() if member in wanted}
        assert ring == wanted, f"ring of {name}"

    @staticmethod
    def _member(job: ModelJob, turns: dict[bytes, bytes]) -> bytes:
        key = job.key.encode()
        return turns[key] + key if key else seq8(job.sequence)

    def _rate(self, settings: ModelQueue, parts: dict[str, Any]) -> None:
        log = [tuple(map(int, entry.split(b":"))) for entry in parts["log"]]
        assert int(parts["hash"].get(b"rate_used", 0)) == sum(count for _, count in log), "sum of the rate log"
        if settings.rate is None:
            return
        recent = sum(count for at, count in log if at + settings.rate[1] > self.engine.now)
        wanted = sum(1 for at in settings.starts if at + settings.rate[1] > self.engine.now)
        assert recent == wanted, "starts in the rate log"


KEYS = ("x", "y", "z")
QUEUE_PARTS = ("hash", "ring", "turns", "running", "log", "list", *("waiting " + key for key in KEYS))
