"""Compares the store with the reference model, key by key, after every step of the machine."""

from collections import Counter
from functools import cache
from typing import Any

from mech_queue.model.metadata import fields_hash
from mech_queue.store import keys
from mech_queue.store.digest import digest
from mech_queue.store.events import event_of
from mech_queue.store.jobs import raw_id
from tests.store.engine import Engine
from tests.store.model import ENDED, Model, ModelJob, ModelQueue

HOLD_MS = 1_000  # how long a slot of the application is held for a queue
LETTERS = "wdacfx"


def seq8(sequence: int) -> bytes:
    """A sequence as it stands in members."""
    return sequence.to_bytes(8, "big")


@cache
def key_entry(key: str) -> bytes:
    """The start of the index entries of that metadata."""
    return b"m" + fields_hash(*key_field(key))


def key_field(key: str) -> tuple[str, str]:
    """The metadata by which every job of the machine can be found."""
    return ("key", f'"{key}"')


# through the client, one command after the other, a look would cost more than the step it looks at
LOOK = """#!lua flags=no-writes
local S, P, call = KEYS[1], KEYS[1] .. ARGV[1] .. ':', redis.call
local function all(key) return call('ZRANGE', P .. key, 0, -1, 'WITHSCORES') end
local seen = {all('all'), all('act'), all('due'), all('end'), all('res'), call('ZRANGE', P .. 'ix', 0, -1),
  call('HGETALL', P .. 'app'), call('HGETALL', S .. 'totals'), call('ZSCORE', S .. 'next', ARGV[1]),
  call('XRANGE', P .. 'ev', ARGV[2], '+')}
for i = 4, #ARGV, 2 do
  local name = ARGV[i]
  seen[#seen + 1] = {call('HGETALL', P .. 'q:' .. name), all('r:' .. name), call('HGETALL', P .. 'kt:' .. name),
    call('HGETALL', P .. 'kr:' .. name), call('LRANGE', P .. 'rl:' .. name, 0, -1), call('LLEN', ARGV[3] .. name),
    all('w:' .. name .. ':x'), all('w:' .. name .. ':y'), all('w:' .. name .. ':z'),
    call('GET', P .. 'dedupe:' .. ARGV[i + 1])}
end
return seen
"""
KEYS = ("x", "y", "z")
DEDUPE = "one"  # the only dedupe key that the machine uses, in each queue
QUEUE_PARTS = ("hash", "ring", "turns", "running", "log", "list", *("waiting " + key for key in KEYS), "dedupe")


def fields(flat: list[bytes]) -> dict[bytes, bytes]:
    """A hash as the script answers it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def scores(flat: list[bytes]) -> dict[bytes, int]:
    """A sorted set as the script answers it."""
    return dict(zip(flat[::2], map(int, flat[1::2]), strict=True))


class Sameness:
    """Reads everything of one application in one round trip and holds it against the model."""

    def __init__(self, engine: Engine, model: Model, window: int) -> None:
        self.engine, self.model, self.window = engine, model, window
        self.names = list(model.queues)
        self.named = [part for name in self.names for part in (name, digest(name, DEDUPE))]
        self.held: set[str] = set()  # queues with a slot of the application reserved, at the last look
        self.last_event = b"-"
        self.told: dict[bytes, list[str]] = {}  # events seen so far, per job

    def check(self, in_hand: Counter[str], doubled: Counter[str], lost: set[str], stale: set[str]) -> None:
        """Assert that nothing differs.

        ``in_hand``: wake-ups that workers have taken and not used; ``doubled``: how many the test put
        in; ``lost``: queues whose wake-ups the test destroyed since the last repair; ``stale``: queues
        whose ring may still show keys that a lowered limit blocks.
        """
        place, arguments = keys.shard_prefix(self.engine.shard), [self.engine.application_id, self.last_event]
        rows = self.engine.call("EVAL_RO", LOOK, 1, place, *arguments, self.engine.list_prefix, *self.named)
        everything, active, due, ends, held = (scores(row) for row in rows[:5])
        index, app, totals, following, events = rows[5:10]
        self._records(everything, active, due, ends, index)
        self._counters(fields(app), fields(totals), held)
        self._events(events)
        heads = [min(found.values()) for found in (due, active, ends) if found]
        assert not heads or (following is not None and int(following) <= min(heads)), "the scheduler would forget"
        late = any(at <= self.engine.now for at in due.values())
        self.held = {name.decode() for name in held}
        assert late or all(until > self.engine.now for until in held.values()), "a held slot outlives its time"
        for name, row in zip(self.names, rows[10:], strict=True):
            parts = dict(zip(QUEUE_PARTS, row, strict=True))
            self._queue(name, parts, stale=name in stale)
            waiting = parts["list"]
            assert waiting <= self.window + doubled[name], f"{waiting} wake-ups for {name}"
            runnable = self.model.runnable(name, self.held, self.engine.now)
            if runnable and not late and name not in lost:
                assert waiting + in_hand[name] > 0, f"{runnable} jobs of {name} could start and nobody is woken"

    def look_at_held(self) -> None:
        """Only see which queues have a slot reserved; ``check`` does so too."""
        if self.model.max is not None:
            found = self.engine.call("ZRANGE", self.engine.prefix + b"res", 0, -1)
            self.held = {name.decode() for name in found}

    def _records(
        self,
        everything: dict[bytes, int],
        active: dict[bytes, int],
        due: dict[bytes, int],
        ends: dict[bytes, int],
        index: list[bytes],
    ) -> None:
        jobs = self.model.jobs
        assert everything == {job.id: job.sequence for job in jobs.values()}, "jobs lost or invented"
        assert active == {job.id: job.lease_end for job in self.model.of("a")}, "leases"
        assert ends == {job.id: job.removal for job in self.model.of(ENDED)}, "removals"
        dated = {(at, member[:1].decode(), member[1:]) for member, at in due.items() if member[:1] in b"cdktx"}
        assert dated == set(self.model.due()), "due times"
        wanted = set()
        for job in jobs.values():
            wanted.add(b"s" + job.state.encode() + job.queue.encode() + b"\0" + seq8(job.sequence))
            wanted.add(key_entry(job.key if job.label is None else job.label) + seq8(job.sequence))
        assert set(index) == wanted, "index"

    def _counters(self, app: dict[bytes, bytes], totals: dict[bytes, bytes], held: dict[bytes, int]) -> None:
        counts = Counter(job.state for job in self.model.jobs.values())
        for letter in LETTERS:
            count = counts[letter]
            assert int(app.get(b"n" + letter.encode(), 0)) == count, f"counter of {letter}"
            assert int(totals.get(letter.encode(), 0)) == count, f"total of {letter}"
        assert int(app.get(b"held", 0)) == len(held), "held slots"
        assert all(until <= self.engine.now + HOLD_MS for until in held.values()), "a slot is held too long"

    def _events(self, rows: list[tuple[bytes, list[bytes]]]) -> None:
        for at, flat in rows:
            event = event_of(fields(flat)[b"e"])
            self.last_event = b"(" + at
            told = self.told.setdefault(raw_id(event.job_id), [])
            told.append(event.type.value)
            assert event.sequence == len(told), "a gap in the sequence of events"
        for job in self.model.jobs.values():
            assert self.told.get(job.id, []) == job.events, "events"

    def _queue(self, name: str, parts: dict[str, Any], *, stale: bool) -> None:
        settings = self.model.queues[name]
        record, turns = fields(parts["hash"]), fields(parts["turns"])
        counts = Counter(job.state for job in self.model.jobs.values() if job.queue == name)
        for letter in LETTERS:
            assert int(record.get(b"n" + letter.encode(), 0)) == counts[letter], f"counter {letter} of {name}"
        running = Counter(job.key for job in self.model.of("a", name) if job.key)
        assert {key.decode(): int(number) for key, number in fields(parts["running"]).items()} == running, "running"
        in_order = [key.decode() for key in sorted(turns, key=turns.__getitem__)]
        assert in_order == sorted(settings.turns, key=settings.turns.__getitem__), f"turns of {name}"
        waiting: dict[str, dict[bytes, int]] = {key: {} for key in ("", *KEYS)}
        for job in self.model.of("w", name):
            waiting[job.key][seq8(job.sequence)] = -job.priority
        for key in KEYS:
            assert scores(parts["waiting " + key]) == waiting[key], f"waiting jobs of key {key}"
        assert parts["dedupe"] == self.model.dedupe.get(name, (None, False))[0], "who has the dedupe key"
        self._ring(name, scores(parts["ring"]), turns, stale=stale)
        self._rate(settings, parts["log"], int(record.get(b"rate_used", 0)))

    def _ring(self, name: str, ring: dict[bytes, int], turns: dict[bytes, bytes], *, stale: bool) -> None:
        wanted: dict[bytes, int] = {}
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

    def _rate(self, settings: ModelQueue, entries: list[bytes], used: int) -> None:
        log = [tuple(map(int, entry.split(b":"))) for entry in entries]
        assert used == sum(count for _, count in log), "sum of the rate log"
        if settings.rate is None:
            return
        recent = sum(count for at, count in log if at + settings.rate[1] > self.engine.now)
        wanted = sum(1 for at in settings.starts if at + settings.rate[1] > self.engine.now)
        assert recent == wanted, "starts in the rate log"
