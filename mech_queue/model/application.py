"""An application: who may call, with which keys, under which limits."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mech_queue.model.checks import Reader, check_key, whole_number
from mech_queue.model.metadata import merge, problem_of
from mech_queue.model.problems import Problems, unknown
from mech_queue.model.submission import check_queue

MASTER = "master"  # the built-in application on which the master key acts by default
MAX_QUEUES = 1_000
_MOST = 2_147_483_647
_MOST_SECONDS = 315_360_000  # ten years
_DAY_MS = 86_400_000


class Scope(StrEnum):
    """What a key may do. No scope opens ``/api/applications``: that is the master key's."""

    SUBMIT = "jobs:submit"  # submit, schedules, and cancel, retry, promote, change, delete of jobs
    WORK = "jobs:work"  # claim, PUT, updates, heartbeat, logs
    READ = "jobs:read"  # every GET of jobs, queues, events
    WEBHOOKS = "webhooks"  # subscriptions, deliveries, /webhook
    ADMIN = "admin"  # settings, pause and purge of own queues, own keys


ALL_SCOPES: frozenset[Scope] = frozenset(Scope)
DEFAULT_SCOPES: frozenset[Scope] = ALL_SCOPES - {Scope.ADMIN}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``max`` requests of a key within any ``per_ms``."""

    max: int
    per_ms: int


@dataclass(frozen=True, slots=True)
class Retention:
    """How long, and how many, ended jobs are kept; None: the service's default."""

    completed_seconds: int | None = None
    completed_count: int | None = None
    failed_seconds: int | None = None
    failed_count: int | None = None
    cancelled_seconds: int | None = None
    cancelled_count: int | None = None


RETENTION_FIELDS = {  # on the wire -> here
    "completedSeconds": "completed_seconds",
    "completedCount": "completed_count",
    "failedSeconds": "failed_seconds",
    "failedCount": "failed_count",
    "cancelledSeconds": "cancelled_seconds",
    "cancelledCount": "cancelled_count",
}


@dataclass(frozen=True, slots=True)
class ApplicationSettings:
    """What holds for all jobs and keys of an application. None: no limit of its own."""

    max_concurrent_jobs: int | None = None
    max_waiting: int | None = None
    allowed_queues: tuple[str, ...] = ("*",)
    rate_limit: RateLimit | None = None
    retention: Retention = Retention()
    metadata: dict[str, Any] = field(default_factory=dict)

    def allows(self, queue: str) -> bool:
        """Whether the application may use ``queue``; names are literal, ``*`` alone means all."""
        return "*" in self.allowed_queues or queue in self.allowed_queues

    def to_json(self) -> dict[str, Any]:
        """As callers see it; absent limits are null."""
        limit = self.rate_limit
        return {
            "maxConcurrentJobs": self.max_concurrent_jobs,
            "maxWaiting": self.max_waiting,
            "allowedQueues": list(self.allowed_queues),
            "rateLimit": {"max": limit.max, "perMs": limit.per_ms} if limit else None,
            "retention": {name: getattr(self.retention, own) for name, own in RETENTION_FIELDS.items()},
            "metadata": self.metadata,
        }


def parse_settings(
    patch: Any, problems: Problems, before: ApplicationSettings | None = None, path: str = "settings"
) -> ApplicationSettings:
    """``before`` (else the defaults) with the fields of ``patch`` changed; null takes a limit away.

    ``retention`` and ``metadata`` merge key by key, null removes a key. What is wrong is added to
    ``problems`` and leaves the field as it was.
    """
    before = before or ApplicationSettings()
    if patch is None:
        return before
    if not isinstance(patch, dict):
        problems.add(path, "must be an object")
        return before
    changed: dict[str, Any] = {}
    for name, value in patch.items():
        if name not in _FIELDS:
            problems.add(f"{path}.{name}", unknown(name, _FIELDS))
            continue
        own, read = _FIELDS[name]
        changed[own] = read(value, getattr(before, own), problems, f"{path}.{name}")
    return replace(before, **changed)


def _count(value: Any, before: int | None, problems: Problems, path: str) -> int | None:
    if value is None:
        return None
    number = whole_number(value)
    if number is None or not 1 <= number <= _MOST:
        problems.add(path, f"must be an integer from 1 to {_MOST}, or null for no limit")
        return before
    return number


def _queues(value: Any, before: tuple[str, ...], problems: Problems, path: str) -> tuple[str, ...]:
    if value is None:
        return ("*",)
    if not isinstance(value, list) or len(value) > MAX_QUEUES:
        problems.add(path, f"must be a list of at most {MAX_QUEUES} names of queues")
        return before
    for index, name in enumerate(value):
        sentence = None if name == "*" else check_queue(name)
        if sentence:
            problems.add(f"{path}.{index}", f"{sentence} (or be * for all queues)")
    return tuple(dict.fromkeys(name for name in value if isinstance(name, str)))


def _rate_limit(value: Any, before: RateLimit | None, problems: Problems, path: str) -> RateLimit | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("max") is None:
        problems.add(path, "must be an object with max and perMs, or null")
        return before
    reader = Reader(value, problems, f"{path}.")
    reader.only(("max", "perMs"))
    most, per_ms = reader.integer("max", 1, _MOST), reader.integer("perMs", 1_000, _DAY_MS)
    return RateLimit(most or 1, per_ms or 60_000)


def parse_retention(value: Any, before: Retention, problems: Problems, path: str) -> Retention:
    """``before`` with the given fields changed; null (one field or all) means the default again."""
    if value is None:
        return Retention()
    if not isinstance(value, dict):
        problems.add(path, "must be an object")
        return before
    reader = Reader(value, problems, f"{path}.")
    reader.only(tuple(RETENTION_FIELDS))
    changed = {
        own: reader.integer(name, 0, _MOST_SECONDS if name.endswith("Seconds") else _MOST)
        for name, own in RETENTION_FIELDS.items()
        if name in value
    }
    return replace(before, **changed)


def _metadata(value: Any, before: dict[str, Any], problems: Problems, path: str) -> dict[str, Any]:
    if value is None:
        return {}
    merged = merge(before, value) if isinstance(value, dict) else value
    sentence = problem_of(merged)
    if sentence:
        problems.add(path, sentence)
        return before
    return dict(merged)


_FIELDS: dict[str, tuple[str, Callable[[Any, Any, Problems, str], Any]]] = {
    "maxConcurrentJobs": ("max_concurrent_jobs", _count),
    "maxWaiting": ("max_waiting", _count),
    "allowedQueues": ("allowed_queues", _queues),
    "rateLimit": ("rate_limit", _rate_limit),
    "retention": ("retention", parse_retention),
    "metadata": ("metadata", _metadata),
}


PATHS_OF_SETTINGS = tuple(f"settings.{name}" for name in _FIELDS)


def parse_name(value: Any, problems: Problems, path: str = "name") -> str:
    """A name that people read: 1 to 255 bytes, not only blanks, no control characters."""
    sentence = check_key(value)
    if sentence is None and (not value.strip() or not value.isprintable()):
        sentence = "must have visible characters and no control characters"
    if sentence:
        problems.add(path, sentence)
        return ""
    return str(value)


def parse_scopes(value: Any, problems: Problems, path: str = "scopes") -> frozenset[Scope]:
    """Scopes by their names; absent (None) means the default: all but ``admin``."""
    if value is None:
        return DEFAULT_SCOPES
    known = {scope.value: scope for scope in Scope}
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        problems.add(path, f"must be a list of scopes; known are: {', '.join(known)}")
        return DEFAULT_SCOPES
    for index, name in enumerate(value):
        if name not in known:
            problems.add(f"{path}.{index}", f"is no scope; known are: {', '.join(known)}")
    return frozenset(known[name] for name in value if name in known)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One API key, without the key: ``digest`` is its sha256, ``last_four`` what people may see of it."""

    id: str
    digest: bytes = field(repr=False)
    last_four: str = field(repr=False)
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    name: str | None = None
    created_ms: int = 0
    expires_ms: int | None = None

    def live(self, now_ms: int) -> bool:
        """Whether it opens anything at this time (unix ms)."""
        return self.expires_ms is None or now_ms < self.expires_ms


@dataclass(frozen=True, slots=True)
class Secret:
    """A webhook secret: ``expires_ms`` None for the current one, else when its overlap ends (unix ms)."""

    text: str = field(repr=False)
    expires_ms: int | None = None


def live_secrets(secrets: tuple[Secret, ...], now_ms: int | None = None) -> list[str]:
    """The texts that sign at this time (unix ms, default: now), newest first."""
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    return [one.text for one in secrets if one.expires_ms is None or now_ms < one.expires_ms]


@dataclass(frozen=True, slots=True)
class Application:
    """An application as the store knows it. Times are unix ms."""

    id: str
    name: str
    settings: ApplicationSettings = field(default_factory=ApplicationSettings)
    created_ms: int = 0
    updated_ms: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: an application's key, or the master key acting for an application."""

    application_id: str
    key_id: str
    scopes: frozenset[str] = DEFAULT_SCOPES
    settings: ApplicationSettings = field(default_factory=ApplicationSettings)
    name: str = ""
    master: bool = False
