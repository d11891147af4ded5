"""Settings of a native worker: each has an environment name, a default and a reason.

The library knows no settings file: what is not passed to ``install`` comes from the environment of the
worker's process, so one image can run with different settings.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

ENVIRONMENT_PREFIX = "MECH_QUEUE_"


@dataclass(frozen=True, slots=True)
class Options:
    """How a native worker works. Every field but the first two is read from ``MECH_QUEUE_<NAME>``.

    ``applications`` and ``queues`` (patterns as in a shell, ``*`` for all) name what the worker looks for by
    itself; with no application it serves what ``-Q`` says. Times are in the unit of their name.
    """

    applications: tuple[str, ...] = ()
    queues: tuple[str, ...] = ("*",)
    # The store. Empty: REDIS_URL, else the Celery broker, when that is a Redis.
    store_url: str = ""
    # How long a job may stay silent before others may have it, and how often we say that it lives. A third,
    # so that two lost renewals do not lose the job.
    lease_seconds: float = 30.0
    renew_seconds: float = 10.0
    # Wake-ups serve job after job; this often one of the worker's ends, so that the next message gets its slot.
    # 0: each serves one job.
    chain_ms: float = 30.0
    # A cancelled body that ignores SIGTERM is killed after this (prefork).
    kill_after_seconds: float = 5.0
    # How long a job rests whose task is not registered in this worker; at the fifth return it fails. Long
    # enough, all together, for the other workers of a rolling deployment to come up.
    unknown_task_delay_ms: int = 5_000
    # How often to look for new applications and queues.
    discover_seconds: float = 5.0
    # A larger result fails the job: what an HTTP worker may report (MAX_BODY_BYTES) holds here too.
    max_result_bytes: int = 1024 * 1024
    # Flower shows application, queue and metadata of a job as its kwargs; False leaves the metadata out.
    show_metadata: bool = True

    @property
    def lease_ms(self) -> int:
        """The lease as the store wants it."""
        return int(self.lease_seconds * 1000)


def options_from(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Options:
    """Combine arguments of ``install`` (``None``: not given), the environment, and the defaults.

    Raises ``ValueError`` with one sentence for a value that makes no sense.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for field in fields(Options):
        name = ENVIRONMENT_PREFIX + field.name.upper()
        if given.get(field.name) is not None:
            values[field.name] = given[field.name]
        elif field.name not in ("applications", "queues") and environment.get(name):
            values[field.name] = _parsed(name, environment[name], type(field.default))
    if "renew_seconds" not in values and "lease_seconds" in values:
        values["renew_seconds"] = float(values["lease_seconds"]) / 3
    values.setdefault("store_url", environment.get("REDIS_URL", ""))
    unknown = set(given) - {field.name for field in fields(Options)}
    if unknown:
        raise ValueError(f"mech_queue.celery knows no option {', '.join(sorted(unknown))}.")
    return _checked(Options(**values))


def _parsed(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError(f"{name} must be true or false, not {text!r}.")
        return text.lower() in ("true", "1", "yes")
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, not {text!r}.") from None


def _checked(options: Options) -> Options:
    if options.lease_seconds < 1:
        raise ValueError("lease_seconds must be at least 1: a busy machine pauses longer than that.")
    if not 0 < options.renew_seconds <= options.lease_seconds / 2:
        raise ValueError("renew_seconds must be more than 0 and at most half of lease_seconds.")
    return options
