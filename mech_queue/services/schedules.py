"""Schedules: what their owners do with them, and what the scheduler does when they are due."""

import logging
from collections.abc import Callable
from dataclasses import replace

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.ids import job_id_text, new_job_id
from mech_queue.model.problems import invalid
from mech_queue.model.schedule import Schedule, ScheduleRun, ScheduleSpec
from mech_queue.model.timing import Firing, firing
from mech_queue.store import Store
from mech_queue.store.schedules import missing

log = logging.getLogger(__name__)

TRIES = 20  # of a change against concurrent ones
BURST = 20  # runs of one schedule per tick, when it catches up all of them
TROUBLE_MS = 60_000  # a schedule that cannot be worked out is looked at again after this


def create(store: Store, application_id: str, spec: ScheduleSpec) -> Schedule:
    """Keep a new schedule. Raises Refusal(INVALID) when it would never run."""
    now_ms = store.now_ms()
    spec = replace(spec, timing=replace(spec.timing, anchor_ms=now_ms))
    schedule_id = job_id_text(new_job_id())
    store.schedules.put(application_id, schedule_id, spec, 0, _due(spec, now_ms), keep=False)
    return get(store, application_id, schedule_id)


def get(store: Store, application_id: str, schedule_id: str) -> Schedule:
    """One schedule. Raises Refusal(NOT_FOUND)."""
    found = store.schedules.get(application_id, schedule_id)
    if found is None:
        raise missing()
    return found


def list_(
    store: Store, application_id: str, *, limit: int, cursor: str | None = None
) -> tuple[list[Schedule], str | None]:
    """A page, oldest first, and the cursor of the next (None: this was the last)."""
    found = store.schedules.page(application_id, limit + 1, cursor)
    page = found[:limit]
    return page, page[-1].id if len(found) > limit else None


def change(
    store: Store, application_id: str, schedule_id: str, apply: Callable[[ScheduleSpec], ScheduleSpec]
) -> Schedule:
    """Change it by ``apply`` (which may run again when others change it too). Its past runs still count."""
    for _ in range(TRIES):
        before = get(store, application_id, schedule_id)
        spec = apply(before.spec)
        now_ms = store.now_ms()
        keep = _when(spec) == _when(before.spec)
        due = before.due_ms if keep else _next_due(before, spec, now_ms)
        if store.schedules.put(application_id, schedule_id, spec, before.version, None if keep else due, keep) >= 0:
            return get(store, application_id, schedule_id)
    raise Refusal(Code.CONFLICT, "The schedule is being changed by too many others at once; try again.", retry_after=1)


def _when(spec: ScheduleSpec) -> tuple[object, ...]:
    """What decides the next due time."""
    return spec.timing, spec.active, spec.limit


def _next_due(before: Schedule, spec: ScheduleSpec, now_ms: int) -> int | None:
    if spec.limit is not None and before.runs >= spec.limit:
        return None
    if spec.timing == before.spec.timing:  # switched on again, or a higher limit: it may be over, that is no mistake
        return spec.timing.next_after(now_ms) if spec.active else None
    return _due(spec, now_ms)


def _due(spec: ScheduleSpec, now_ms: int) -> int | None:
    """The next due time of an active schedule. Raises Refusal(INVALID) when there is none, active or not."""
    due = spec.timing.next_after(now_ms)
    if due is None:
        name = "at" if spec.timing.at_ms is not None else "endDate" if spec.timing.end_ms is not None else "cron"
        raise invalid(name, "leaves no time in the future at which the schedule would run")
    return due if spec.active else None


def delete(store: Store, application_id: str, schedule_id: str) -> None:
    """Forget it; the jobs it made stay. Raises Refusal(NOT_FOUND)."""
    store.schedules.delete(application_id, schedule_id)


def toggle(store: Store, application_id: str, schedule_id: str, active: bool | None) -> Schedule:
    """Switch it on or off (None: the other way). What it missed while it was off is not caught up."""
    return change(
        store,
        application_id,
        schedule_id,
        lambda before: replace(before, active=not before.active if active is None else active),
    )


def execute(store: Store, application_id: str, schedule_id: str) -> str:
    """Submit its job now, whatever its times, overlap and limit say; returns the job's id."""
    return store.schedules.run_now(application_id, schedule_id, new_job_id())


def runs(store: Store, application_id: str, schedule_id: str, limit: int) -> list[ScheduleRun]:
    """Its last runs, newest first (100 are kept). Raises Refusal(NOT_FOUND)."""
    get(store, application_id, schedule_id)
    return store.schedules.runs(application_id, schedule_id, limit)


def run_due(store: Store, application_id: str, schedule_ids: list[str]) -> int:
    """The scheduler's part: book what is due and create its jobs; returns how many runs were booked.

    One schedule's trouble does not hold up the others; only a store that is away is raised.
    """
    booked = 0
    for schedule_id in schedule_ids:
        for _ in range(BURST):
            if not _run_due(store, application_id, schedule_id):
                break
            booked += 1
    return booked


def _run_due(store: Store, application_id: str, schedule_id: str) -> bool:
    """One due time; False when there is none (any more)."""
    schedule, now_ms = store.schedules.get(application_id, schedule_id), store.now_ms()
    if schedule is None or schedule.due_ms is None or schedule.due_ms > now_ms:
        return False
    reason = ""
    try:
        what = firing(schedule.spec.timing, schedule.spec.catch_up, schedule.due_ms, now_ms)
        if not what.run:
            reason = "no scheduler ran when it was due"
    except Exception:  # for example a time zone that this machine does not know
        log.exception("schedule %s of %s cannot be worked out", schedule_id, application_id)
        what, reason = Firing(False, schedule.due_ms, now_ms + TROUBLE_MS), "its next time cannot be worked out"
    refused = what.run and not _allowed(store, application_id, schedule.spec.queue)
    if refused:
        reason = "the settings of the application do not allow the queue"
    try:
        return store.schedules.fire(application_id, schedule, what, new_job_id(), reason, refused=refused) != ""
    except Refusal as refusal:
        if refusal.code is not Code.STORE_FULL:
            raise
        return False  # stays due: it runs as soon as the store takes new work again


def _allowed(store: Store, application_id: str, queue: str) -> bool:
    """Whether the application may use the queue now; its settings may have changed since it was asked."""
    try:
        return store.applications.get(application_id).settings.allows(queue)
    except Refusal as refusal:
        if refusal.code is not Code.NOT_FOUND:
            raise
        return True  # deleted meanwhile: the script makes nothing
