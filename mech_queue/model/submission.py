"""What a caller submits -> JobSpec, with every problem named (CONTRACT.md, "Jobs").

Used for single jobs, for items of a batch and for the job of a schedule. The value says what is
valid; the raw members keep the exact text of data and metadata, which come back as they were sent.
"""

import re
from typing import Any, Literal, cast

from mech_queue.model import endpoint, metadata
from mech_queue.model.checks import MAX_DURATION_MS, Reader
from mech_queue.model.errors import Refusal
from mech_queue.model.event import WEBHOOK_EVENTS
from mech_queue.model.ids import job_id_bytes
from mech_queue.model.job import Backoff, JobSpec
from mech_queue.model.problems import Problems

QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
QUEUE_SENTENCE = "must start with a letter or digit and have at most 128 of A-Z a-z 0-9 . _ -"

PRIORITY_MIN, PRIORITY_MAX = -(2**31), 2**31 - 1
MAX_ATTEMPTS = 1_000
MAX_STALLS = 1_000
MAX_PARENTS = 100
MAX_TASK_NAME = 255
MAX_RETENTION_S = MAX_DURATION_MS // 1000

WEBHOOK_NAMES = (*(event.value for event in WEBHOOK_EVENTS), "*")

MEMBERS = ("queue", "data", "metadata", "webhooks", "task", "options")
OPTIONS = (
    "priority",
    "delay",
    "runAt",
    "attempts",
    "backoff",
    "timeout",
    "expiresIn",
    "maxStalls",
    "retentionSeconds",
    "concurrencyKey",
    "dedupeKey",
    "dedupeTtl",
    "debounce",
    "dependsOn",
    "onParentFailure",
)
_PATHS_OF_OPTIONS = tuple(f"options.{name}" for name in OPTIONS)


def parse_submission(value: Any, members: dict[str, bytes], *, refs: frozenset[str] | None = None) -> JobSpec:
    """A validated JobSpec. Raises Refusal INVALID whose details name every field that is wrong.

    ``refs``: the names of the other items of the same batch, which ``dependsOn`` may give as ``#name``.
    """
    problems = Problems()
    if not isinstance(value, dict):
        problems.add("", "must be a JSON object with at least queue and data")
        raise problems.refusal()
    reader = Reader(value, problems)
    reader.only(MEMBERS if refs is None else (*MEMBERS, "ref"), _PATHS_OF_OPTIONS)
    spec = JobSpec(queue=_queue(reader), data=_data(value, members, problems))
    if value.get("metadata") is not None:
        _metadata(value["metadata"], members["metadata"], spec, problems)
    if value.get("webhooks") is not None:
        spec.webhooks = parse_webhooks(value["webhooks"], problems)
    spec.task = reader.text("task", longest=MAX_TASK_NAME)
    if value.get("options") is not None:
        _options(value["options"], spec, problems, refs)
    problems.raise_any()
    return spec


def check_queue(name: Any) -> str | None:
    """What is wrong with the name of a queue, as a sentence after ``queue``; None when it is fine."""
    if not isinstance(name, str):
        return "must be a string"
    return None if QUEUE_NAME.fullmatch(name) else QUEUE_SENTENCE


def parse_webhooks(value: Any, problems: Problems, *, removable: bool = False) -> dict[str, Any]:
    """Event -> normalised URL; with ``removable`` also event -> None."""
    if not isinstance(value, dict):
        problems.add("webhooks", "must be an object of event names and URLs")
        return {}
    found: dict[str, str | None] = {}
    for name, url in value.items():
        path = f"webhooks.{name}"
        if name not in WEBHOOK_NAMES:
            problems.add(path, f"is no event; webhooks may name: {', '.join(WEBHOOK_NAMES)}")
        elif url is None and removable:
            found[name] = None
        elif not isinstance(url, str):
            problems.add(path, "must be a URL (a string)")
        else:
            try:
                found[name] = endpoint.validate_url(url)
            except Refusal as refusal:
                problems.add(path, refusal.message.rstrip("."))
    return found


def _queue(reader: Reader) -> str:
    name = reader.value.get("queue")
    if name is None:
        reader.problems.add("queue", "is required")
        return ""
    sentence = check_queue(name)
    if sentence:
        reader.problems.add("queue", sentence)
    return cast(str, name)


def _data(value: dict[str, Any], members: dict[str, bytes], problems: Problems) -> bytes:
    if "data" not in value:
        problems.add("data", "is required (any JSON value, also null)")
        return b"null"
    return members["data"]


def _metadata(value: Any, raw: bytes, spec: JobSpec, problems: Problems) -> None:
    sentence = metadata.problem_of(value)
    if sentence:
        problems.add("metadata", sentence)
        return
    spec.metadata = raw
    spec.fields = metadata.fields_of(value)


def _options(value: Any, spec: JobSpec, problems: Problems, refs: frozenset[str] | None) -> None:
    if not isinstance(value, dict):
        problems.add("options", "must be an object")
        return
    reader = Reader(value, problems, "options.")
    reader.only(OPTIONS)
    spec.priority = reader.integer("priority", PRIORITY_MIN, PRIORITY_MAX) or 0
    spec.delay_ms = reader.duration("delay")
    spec.run_at_ms = reader.time("runAt")
    if spec.delay_ms is not None and spec.run_at_ms is not None:
        problems.add("options.runAt", "cannot be given together with delay")
    spec.attempts = reader.integer("attempts", 1, MAX_ATTEMPTS)
    spec.backoff = parse_backoff(value.get("backoff"), "options.backoff", problems)
    spec.timeout_ms = reader.duration("timeout", least=1)
    spec.expires_in_ms = reader.duration("expiresIn", least=1)
    spec.max_stalls = reader.integer("maxStalls", 0, MAX_STALLS)
    spec.retention_seconds = reader.integer("retentionSeconds", 0, MAX_RETENTION_S)
    spec.concurrency_key = reader.key("concurrencyKey")
    _dedupe(reader, spec)
    _parents(reader, spec, refs)


def _dedupe(reader: Reader, spec: JobSpec) -> None:
    spec.dedupe_key = reader.key("dedupeKey")
    spec.dedupe_ttl_ms = reader.duration("dedupeTtl", least=1)
    spec.debounce = cast(Literal["replace", "extend"] | None, reader.choice("debounce", ("replace", "extend")))
    for name in ("dedupeTtl", "debounce"):
        if reader.value.get(name) is not None and reader.value.get("dedupeKey") is None:
            reader.problems.add(f"options.{name}", "needs dedupeKey")


def _parents(reader: Reader, spec: JobSpec, refs: frozenset[str] | None) -> None:
    spec.on_parent_failure = cast(Literal["fail", "run"], reader.choice("onParentFailure", ("fail", "run")) or "fail")
    parents = reader.value.get("dependsOn")
    if parents is None:
        return
    path = "options.dependsOn"
    if not isinstance(parents, list) or len(parents) > MAX_PARENTS:
        reader.problems.add(path, f"must be a list of at most {MAX_PARENTS} job ids")
        return
    for position, parent in enumerate(parents):
        if not isinstance(parent, str):
            reader.problems.add(f"{path}.{position}", "must be a job id (a string)")
        elif parent.startswith("#") and refs is not None:
            if parent[1:] not in refs:
                reader.problems.add(f"{path}.{position}", "names no other item (ref) of this batch")
        elif job_id_bytes(parent) is None:
            reader.problems.add(f"{path}.{position}", "is no job id")
    spec.depends_on = tuple(dict.fromkeys(one for one in parents if isinstance(one, str)))


def parse_backoff(value: Any, path: str, problems: Problems) -> Backoff | None:
    """A number of ms, or ``{"type", "delay", "maxDelay", "jitter"}``."""
    if value is None:
        return None
    if not isinstance(value, dict):
        delay = Reader({"ms": value}, Problems()).duration("ms")
        if delay is None:
            problems.add(path, "must be a number of ms, or an object with type, delay, maxDelay, jitter")
            return None
        return Backoff(delay_ms=delay)
    reader = Reader(value, problems, f"{path}.")
    reader.only(("type", "delay", "maxDelay", "jitter"))
    return Backoff(
        type=cast(
            Literal["exponential", "fixed"],
            reader.choice("type", ("exponential", "fixed")) or "exponential",
        ),
        delay_ms=reader.duration("delay"),
        max_delay_ms=reader.duration("maxDelay"),
        jitter=reader.number("jitter", 0, 1) or 0.0,
    )
