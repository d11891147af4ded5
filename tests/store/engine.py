"""One application on a real store, with a clock that only the test moves, and a look behind the scenes."""

from collections.abc import Callable
from typing import Any

from mech_queue.model.ids import job_id_bytes
from mech_queue.model.job import JobRecord, JobSpec
from mech_queue.services import subscriptions
from mech_queue.store import Store, keys
from mech_queue.store.connection import Lines
from mech_queue.store.events import event_of

APPLICATION = "app-000000000001"
START_MS = 1_764_000_000_000  # any time will do; a multiple of 1,000 reads well in failures


class Engine:
    """A store, an application and its clock. Times and durations are ms."""

    def __init__(self, store: Store, application_id: str = APPLICATION, line: Lines | None = None) -> None:
        self.store = store
        self.call: Callable[..., Any] = line.call if line else store.redis.execute_command  # one command
        self.application_id = application_id
        self.shard = keys.shard_of(application_id)
        self.prefix = keys.prefix(application_id)
        self.list_prefix = keys.broker_list(application_id, "")
        self.now = START_MS
        store.scripts.clock = lambda: self.now

    def submit(self, queue: str = "mail", **options: Any) -> str:
        """Submit one job; returns its id."""
        answer = self.store.jobs.submit(self.application_id, [JobSpec(queue=queue, **options)])[0]
        assert not isinstance(answer, Exception), answer
        return answer.job_id

    def get(self, job_id: str) -> JobRecord | None:
        """The job, or None when it is gone."""
        return self.store.jobs.get(self.application_id, job_id)

    def advance(self, ms: int) -> None:
        """Let time pass and run the scheduler until nothing is due."""
        self.now += ms
        self.run_due()

    def run_due(self) -> None:
        """Run the scheduler's steps for this application until nothing is due."""
        following = keys.shard_prefix(self.shard) + b"next"
        for _ in range(100):
            at = self.call("ZSCORE", following, self.application_id)
            if at is None or float(at) > self.now:
                return
            self.store.maintenance.run(self.shard, self.application_id)
        raise AssertionError("the scheduler finds something due again and again")

    def settings(self, **fields: Any) -> None:
        """Set fields of the application's hash (limits, retention in seconds); None removes one."""
        for name, value in fields.items():
            if value is None:
                self.store.redis.hdel(self.prefix + b"app", name)
            else:
                self.store.redis.hset(self.prefix + b"app", name, value)

    def queue(self, name: str, *steps: str, **fields: Any) -> None:
        """Set fields of a queue's hash through its script; None clears one. ``steps``: due kinds to file."""
        given = {field: str(value) for field, value in fields.items() if value is not None}
        clear = [field for field, value in fields.items() if value is None]
        self.store.queues.change(self.application_id, name, set_fields=given, clear=clear, steps=list(steps))

    def subscribe(self) -> None:
        """Somebody wants every event."""
        wanted = {"name": "all", "endpoint": "https://hooks.example.com/", "events": ["*"]}
        subscriptions.create(self.store, self.application_id, wanted)

    def wake_ups(self, queue: str) -> int:
        """How many wake-ups wait in the broker list of a queue."""
        return int(self.store.redis.llen(keys.broker_list(self.application_id, queue)))

    def events(self, job_id: str | None = None, after: bytes = b"-") -> list[tuple[str, str, int]]:
        """(job id, event name, sequence) of the application's event stream, oldest first."""
        rows = self.store.redis.xrange(self.prefix + b"ev", after, b"+")
        told = [event_of(row[b"e"]) for _, row in rows]
        found = [(event.job_id, event.type.value, event.sequence) for event in told]
        return [event for event in found if job_id in (None, event[0])]

    def kinds(self, job_id: str) -> list[str]:
        """The event names of one job in order; fails unless their sequence counts 1, 2, 3 …"""
        found = self.events(job_id)
        assert [sequence for _, _, sequence in found] == list(range(1, len(found) + 1)), found
        return [kind for _, kind, _ in found]

    def dump(self) -> dict[bytes, Any]:
        """Every key with its value, except what a refused request may leave behind.

        That is: when a queue was last asked (``seen``), and the remembered refusal of a tokenless write
        (``g``). Values of hashes are read, all else is compared in its serialised form.
        """
        redis = self.store.redis
        found: dict[bytes, Any] = {}
        for key in redis.scan_iter(count=10_000):
            if redis.type(key) == b"hash":
                fields = redis.hgetall(key)
                found[key] = {name: value for name, value in fields.items() if name not in (b"seen", b"g")}
            else:
                found[key] = redis.dump(key)
        return found

    def raw(self, job_id: str) -> bytes:
        """The id as it stands in keys."""
        found = job_id_bytes(job_id)
        assert found is not None
        return found
