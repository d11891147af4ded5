"""A queue's settings: between the wire's names and those that the scripts read."""

from typing import Any

from api.reports import LEASE_S
from mech_queue.model.checks import Reader
from mech_queue.model.problems import Problems
from mech_queue.model.queue import QueueRecord
from mech_queue.model.submission import MAX_ATTEMPTS, MAX_RETENTION_S, parse_backoff

MOST = 2_147_483_647
DAY_MS = 86_400_000
MEMBERS = (
    "concurrency",
    "concurrencyPerKey",
    "rateLimit",
    "leaseSeconds",
    "startedLeaseSeconds",
    "retention",
    "attempts",
    "backoff",
    "paused",
)
RETENTION = tuple(f"{state}{kind}" for state in ("completed", "failed", "cancelled") for kind in ("Seconds", "Count"))
_BACKOFF = ("backoff_type", "backoff_delay", "backoff_max", "backoff_jitter")


def parse_patch(value: dict[str, Any]) -> dict[str, Any]:
    """PATCH -> field of the store -> value, None clears. Raises INVALID."""
    problems = Problems()
    reader = Reader(value, problems)
    reader.only(MEMBERS)
    patch: dict[str, Any] = {
        "concurrency": reader.integer("concurrency", 1, MOST),
        "per_key": reader.integer("concurrencyPerKey", 1, MOST),
        "attempts": reader.integer("attempts", 1, MAX_ATTEMPTS),
        "paused": reader.boolean("paused"),
        "lease": _ms(reader.integer("leaseSeconds", *LEASE_S)),
        "started_lease": _ms(reader.integer("startedLeaseSeconds", *LEASE_S)),
    }
    given = {"concurrencyPerKey": "per_key", "leaseSeconds": "lease", "startedLeaseSeconds": "started_lease"}
    sent = {given.get(name, name) for name in value}
    patch = {name: setting for name, setting in patch.items() if name in sent}
    if "rateLimit" in value:
        patch |= _rate_limit(value["rateLimit"], problems)
    if "backoff" in value:
        patch |= _backoff(value["backoff"], problems)
    if "retention" in value:
        patch |= _retention(value["retention"], problems)
    problems.raise_any()
    return patch


def _ms(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000


def _rate_limit(value: Any, problems: Problems) -> dict[str, Any]:
    if value is None:
        return {"rate_max": None, "rate_per": None}
    given = problems.object("rateLimit", value, ("max", "perMs"))
    return {
        "rate_max": problems.integer("rateLimit.max", given.get("max"), 1, MOST),
        "rate_per": problems.integer("rateLimit.perMs", given.get("perMs"), 1, DAY_MS),
    }


def _backoff(value: Any, problems: Problems) -> dict[str, Any]:
    found = parse_backoff(value, "backoff", problems)
    if found is None:
        return dict.fromkeys(_BACKOFF)
    return dict(zip(_BACKOFF, (found.type, found.delay_ms, found.max_delay_ms, found.jitter), strict=True))


def _retention(value: Any, problems: Problems) -> dict[str, Any]:
    if value is None:
        return {_kept(name): None for name in RETENTION}
    found: dict[str, Any] = {}
    for name, number in problems.object("retention", value, RETENTION).items():
        most = MAX_RETENTION_S if name.endswith("Seconds") else MOST
        if number is not None:
            number = problems.integer(f"retention.{name}", number, 0, most)
        found[_kept(name)] = number
    return found


def _kept(name: str) -> str:
    """completedSeconds -> keep_completed_s"""
    state = name.removesuffix("Seconds").removesuffix("Count")
    return f"keep_{state}_{'s' if name.endswith('Seconds') else 'n'}"


def to_json(record: QueueRecord) -> dict[str, Any]:
    """The queue as callers see it; absent settings are null."""
    fields, number = record.fields, record.number
    rate, backoff = number("rate_max"), fields.get("backoff_type")
    lease, started = number("lease"), number("started_lease")
    return {
        "name": record.name,
        "settings": {
            "concurrency": number("concurrency"),
            "concurrencyPerKey": number("per_key"),
            "rateLimit": None if rate is None else {"max": rate, "perMs": number("rate_per")},
            "leaseSeconds": None if lease is None else lease // 1000,
            "startedLeaseSeconds": None if started is None else started // 1000,
            "attempts": number("attempts"),
            "backoff": None
            if backoff is None
            else {
                "type": backoff,
                "delay": number("backoff_delay"),
                "maxDelay": number("backoff_max"),
                "jitter": float(fields.get("backoff_jitter", 0)),
            },
            "retention": {name: number(_kept(name)) for name in RETENTION},
            "paused": record.paused,
        },
        "paused": record.paused,
        "draining": record.draining,
        "counts": record.counts,
    }
