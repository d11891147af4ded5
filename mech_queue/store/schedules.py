"""Schedules in the store: one method per entry point of ``lua/schedule_*.lua``."""

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, cast

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.ids import job_id_text
from mech_queue.model.job import BY_LETTER
from mech_queue.model.schedule import Outcome, Overlap, Schedule, ScheduleRun, ScheduleSpec
from mech_queue.model.timing import CatchUp, Firing, Timing
from mech_queue.store import job_codec, keys
from mech_queue.store.connection import translated
from mech_queue.store.packing import pack, unpack

if TYPE_CHECKING:
    from mech_queue.store.store import Store

MOST = 1_000  # schedules per application

OUTCOMES: dict[str, Outcome] = {
    "s": "submitted",
    "d": "deduplicated",
    "k": "skipped",
    "f": "refused",
    "m": "missed",
}


def missing() -> Refusal:
    """The refusal for a schedule that does not exist, or is another application's."""
    return Refusal(Code.NOT_FOUND, "There is no such schedule.")


class Schedules:
    """Schedules of any application. Every method raises Refusal; nothing here is cached."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def get(self, application_id: str, schedule_id: str) -> Schedule | None:
        """One schedule, or None."""
        return self.get_many(application_id, [schedule_id])[0]

    def get_many(self, application_id: str, schedule_ids: list[str]) -> list[Schedule | None]:
        """Several, in one round trip."""
        place = keys.prefix(application_id) + b"sch:"
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for schedule_id in schedule_ids:
                pipe.hgetall(place + schedule_id.encode())
            rows = pipe.execute()
        return [_schedule(one, row) if row else None for one, row in zip(schedule_ids, rows, strict=True)]

    def page(self, application_id: str, limit: int, after: str | None) -> list[Schedule]:
        """Up to ``limit`` schedules by their ids, which is by age; those after the id given."""
        with translated():
            rows = self._store.redis.zrange(keys.prefix(application_id) + b"sch", 0, -1)
        ids = sorted(row.decode() for row in rows)
        start = bisect_right(ids, after) if after else 0
        return [one for one in self.get_many(application_id, ids[start : start + limit]) if one]

    def put(
        self, application_id: str, schedule_id: str, spec: ScheduleSpec, version: int, due_ms: int | None, keep: bool
    ) -> int:
        """Write it; returns the new version, or -1 when it was changed since ``version`` was read (0: new).

        ``keep``: its due time stays as it is.
        """
        fields, clear = _fields(spec)
        args: dict[str, Any] = {"id": schedule_id, "version": version, "fields": fields, "clear": clear, "most": MOST}
        if due_ms is not None:
            args["due"] = due_ms
        if keep:
            args["keep"] = True
        return int(self._store.scripts.run("schedule_put", application_id, args, idempotent=version == 0))

    def delete(self, application_id: str, schedule_id: str) -> None:
        """Forget it and its runs. Raises Refusal(NOT_FOUND)."""
        if not self._store.scripts.run("schedule_delete", application_id, {"id": schedule_id}):
            raise missing()

    def fire(
        self,
        application_id: str,
        schedule: Schedule,
        firing: Firing,
        job_id: bytes,
        reason: str,
        *,
        refused: bool = False,
    ) -> str:
        """Book the due time as read in ``schedule``; the letter of the outcome, "" when another was here first.

        ``refused``: booked, with this reason, but no job is made.
        """
        args = {
            "id": schedule.id,
            "version": schedule.version,
            "expected": schedule.due_ms,
            "due": firing.for_ms,
            "next": firing.next_ms,
            "act": "refuse" if refused else "run" if firing.run else "miss",
            "reason": reason,
            "job": job_id,
        }
        args = {name: value for name, value in args.items() if value is not None}
        outcome, _ = self._store.scripts.run("schedule_fire", application_id, args, idempotent=True)
        return str(outcome.decode())

    def run_now(self, application_id: str, schedule_id: str, job_id: bytes) -> str:
        """Submit its job now, by hand; returns the job's id. Raises Refusal."""
        args = {"id": schedule_id, "manual": True, "job": job_id}
        _, made = self._store.scripts.run("schedule_fire", application_id, args, idempotent=True)
        return job_id_text(made)

    def runs(self, application_id: str, schedule_id: str, limit: int) -> list[ScheduleRun]:
        """Its last runs, newest first."""
        place = keys.prefix(application_id)
        with translated():
            rows = self._store.redis.lrange(place + b"runs:" + schedule_id.encode(), 0, limit - 1)
            lines = [unpack(row) for row in rows]
            pipe = self._store.redis.pipeline(transaction=False)
            for line in lines:
                pipe.hget(place + b"j:" + line[4], "s")
            states = pipe.execute()
        return [_run(line, state) for line, state in zip(lines, states, strict=True)]


def _fields(spec: ScheduleSpec) -> tuple[dict[str, Any], list[str]]:
    """What the hash holds, and what it must not hold any more."""
    timing = spec.timing
    values: dict[str, Any] = {
        "name": spec.name,
        "cron": timing.cron,
        "every": timing.every_ms,
        "at": timing.at_ms,
        "timezone": timing.timezone,
        "start": timing.start_ms,
        "end": timing.end_ms,
        "anchor": timing.anchor_ms,
        "limit": spec.limit,
        "overlap": spec.overlap,
        "catch_up": spec.catch_up,
        "active": 1 if spec.active else 0,
        "queue": spec.queue,
        "job": spec.job,
    }
    if spec.submission is not None:
        values["spec"] = _packed(spec)
    given = {
        name: value if isinstance(value, bytes) else str(value) for name, value in values.items() if value is not None
    }
    return given, [name for name, value in values.items() if value is None]


def _packed(spec: ScheduleSpec) -> bytes:
    """The job as lib/submit takes it, without its id."""
    job = spec.submission
    assert job is not None
    packed = job_codec.packed(job, b"", [])
    del packed["id"]
    return pack(packed)


def _schedule(schedule_id: str, row: dict[bytes, bytes]) -> Schedule:
    def text(name: str) -> str:
        return row[name.encode()].decode()

    def number(name: str) -> int | None:
        value = row.get(name.encode())
        return int(value) if value is not None else None

    cron, last_job = row.get(b"cron"), row.get(b"last_job")
    timing = Timing(
        cron=cron.decode() if cron is not None else None,
        every_ms=number("every"),
        at_ms=number("at"),
        timezone=text("timezone"),
        start_ms=number("start"),
        end_ms=number("end"),
        anchor_ms=number("anchor") or 0,
    )
    spec = ScheduleSpec(
        name=text("name"),
        timing=timing,
        limit=number("limit"),
        overlap=cast(Overlap, text("overlap")),
        catch_up=cast(CatchUp, text("catch_up")),
        active=text("active") == "1",
        queue=text("queue"),
        job=row[b"job"],
    )
    return Schedule(
        id=schedule_id,
        spec=spec,
        version=number("version") or 0,
        created_ms=number("created") or 0,
        updated_ms=number("updated") or 0,
        due_ms=number("due"),
        runs=number("runs") or 0,
        skipped=number("skipped") or 0,
        last_due_ms=number("last"),
        last_job_id=job_id_text(last_job) if last_job else None,
        last_outcome=OUTCOMES[text("last_outcome")] if b"last_outcome" in row else None,
    )


def _run(line: list[Any], state: bytes | None) -> ScheduleRun:
    _, due, at, outcome, job_id, reason, by_hand = line
    return ScheduleRun(
        due_ms=int(due),
        at_ms=int(at),
        outcome=OUTCOMES[outcome.decode()],
        job_id=job_id_text(job_id) if job_id else None,
        job_status=BY_LETTER[state.decode()].value if state else None,
        reason=reason.decode() or None,
        by_hand=bool(by_hand),
    )
