"""A schedule: when to submit which job, as its owner says it and as the store knows it."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mech_queue.model import strict_json
from mech_queue.model.application import parse_name
from mech_queue.model.checks import Reader
from mech_queue.model.errors import Refusal
from mech_queue.model.job import JobSpec
from mech_queue.model.problems import Problems
from mech_queue.model.submission import parse_submission
from mech_queue.model.timing import CatchUp, Timing, check_cron, check_timezone

Overlap = Literal["skip", "allow"]
Outcome = Literal["submitted", "deduplicated", "skipped", "refused", "missed"]

MEMBERS = (
    "name",
    "cron",
    "every",
    "at",
    "timezone",
    "startDate",
    "endDate",
    "limit",
    "overlap",
    "catchUp",
    "active",
    "job",
)
TIMES = ("cron", "every", "at")
MAX_CRON = 255
MIN_EVERY_MS = 1_000
MAX_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """What its owner says of it, validated. ``job``: the submission as JSON, as it was sent.

    ``submission``: the same, parsed; None in what the store gives back.
    """

    name: str = ""
    timing: Timing = field(default_factory=Timing)
    limit: int | None = None
    overlap: Overlap = "allow"
    catch_up: CatchUp = "one"
    active: bool = True
    queue: str = ""
    job: bytes = b"null"
    submission: JobSpec | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as the store knows it. ``runs``: jobs it made in due course; ``due_ms`` None: no more."""

    id: str
    spec: ScheduleSpec
    version: int
    created_ms: int
    updated_ms: int
    due_ms: int | None = None
    runs: int = 0
    skipped: int = 0
    last_due_ms: int | None = None
    last_job_id: str | None = None
    last_outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """One line of a schedule's past. ``job_status`` None: no job, or it is removed already."""

    due_ms: int
    at_ms: int
    outcome: Outcome
    job_id: str | None
    job_status: str | None
    reason: str | None
    by_hand: bool


def parse_schedule(
    value: dict[str, Any], members: dict[str, bytes], before: ScheduleSpec | None = None
) -> ScheduleSpec:
    """A spec from its wire form; with ``before``, only the fields sent change (null: back to the default).

    Raises Refusal INVALID whose details name every field that is wrong.
    """
    problems = Problems()
    reader = Reader(value, problems)
    reader.only(MEMBERS)
    spec = before or ScheduleSpec()
    for name in ("name", "job"):
        if value.get(name) is None and (before is None or name in value):
            problems.add(name, "is required" if name not in value else "must not be null")
    changed: dict[str, Any] = {"timing": _timing(reader, spec.timing, before is None)}
    if value.get("name") is not None:
        changed["name"] = parse_name(value["name"], problems)
    if value.get("job") is not None:
        job = _job(value["job"], members["job"], problems)
        changed |= {"job": members["job"], "submission": job, "queue": job.queue if job else ""}
    if "limit" in value:
        changed["limit"] = reader.integer("limit", 1, MAX_LIMIT)
    if "overlap" in value:
        changed["overlap"] = reader.choice("overlap", ("skip", "allow")) or "allow"
    if "catchUp" in value:
        changed["catch_up"] = reader.choice("catchUp", ("none", "one", "all")) or "one"
    if "active" in value:
        changed["active"] = reader.boolean("active") is not False
    problems.raise_any()
    return replace(spec, **changed)


def _timing(reader: Reader, before: Timing, new: bool) -> Timing:
    value, problems = reader.value, reader.problems
    given = [name for name in TIMES if value.get(name) is not None]
    if len(given) > 1:
        problems.add(given[1], f"cannot be given together with {given[0]}")
    timing = before
    if given or new:
        timing = replace(
            timing,
            cron=_cron(reader),
            every_ms=reader.duration("every", least=MIN_EVERY_MS),
            at_ms=reader.time("at"),
        )
    if not given and (new or any(name in value for name in TIMES if getattr(before, _ATTRIBUTES[name]) is not None)):
        problems.add("cron", "is required, or every (ms), or at (a time)")
    if "timezone" in value:
        timing = replace(timing, timezone=_timezone(reader))
    if "startDate" in value:
        timing = replace(timing, start_ms=reader.time("startDate"))
    if "endDate" in value:
        timing = replace(timing, end_ms=reader.time("endDate"))
    if timing.at_ms is not None and (timing.start_ms is not None or timing.end_ms is not None):
        problems.add("at", "cannot be given together with startDate or endDate")
    return timing


_ATTRIBUTES = {"cron": "cron", "every": "every_ms", "at": "at_ms"}


def _cron(reader: Reader) -> str | None:
    text = reader.text("cron", MAX_CRON)
    sentence = check_cron(text) if text is not None else None
    if sentence:
        reader.problems.add("cron", sentence)
    return " ".join(text.split()) if text is not None else None


def _timezone(reader: Reader) -> str:
    name = reader.text("timezone", 100)
    if name is None:
        return "UTC"
    sentence = check_timezone(name)
    if sentence:
        reader.problems.add("timezone", sentence)
    return name


def _job(value: Any, raw: bytes, problems: Problems) -> JobSpec | None:
    """The job's submission; its time belongs to the schedule, and jobs it could depend on will be gone."""
    try:
        members = strict_json.raw_members(raw) if isinstance(value, dict) else {}
        job = parse_submission(value, members)
    except Refusal as refusal:
        for path, sentences in refusal.details.items():
            for sentence in sentences:
                problems.add(f"job.{path}" if path else "job", sentence)
        return None
    for option, given in (("runAt", job.run_at_ms is not None), ("dependsOn", bool(job.depends_on))):
        if given:
            problems.add(f"job.options.{option}", "cannot be used in a schedule")
    return job
