"""A subscription: which events of which jobs go to which endpoint, and how."""

from dataclasses import dataclass, field, replace
from typing import Any

from mech_queue.model import endpoint
from mech_queue.model.application import parse_name
from mech_queue.model.backoff import MAX_ATTEMPTS, MAX_DELAY_MS, RetryConfig
from mech_queue.model.checks import Reader
from mech_queue.model.errors import Refusal
from mech_queue.model.matching import EVENT_NAMES, NOTICES, Filters, parse_events, parse_filters
from mech_queue.model.problems import Problems

METHODS = ("POST", "PUT")
MAX_DESCRIPTION = 1_000
MASKED = "********"
DEFAULT_ATTEMPTS = 10  # of a retryConfig that leaves them out
DEFAULT_BACKOFF_MS = 5_000
MEMBERS = (
    "name",
    "endpoint",
    "events",
    "filters",
    "description",
    "method",
    "headers",
    "retryConfig",
    "active",
)
REQUIRED = ("name", "endpoint", "events")
EVENTS = (*EVENT_NAMES, *NOTICES)

PATIENCE_MS = 120 * 3_600_000
PATIENCE_FAILURES = 10
"""A subscription without success for so long, and so often, is switched off; notice is given at half of both."""


@dataclass(frozen=True, slots=True)
class SubscriptionSpec:
    """What its owner says of it, validated. ``headers`` are secrets: encrypted at rest, masked when shown."""

    name: str = ""
    endpoint: str = field(default="", repr=False)  # a URL may carry a secret
    events: tuple[str, ...] = ()
    filters: Filters = field(default_factory=Filters)
    description: str | None = None
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    retry: RetryConfig | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """What its deliveries did. Times are unix ms.

    ``failures`` counts failed attempts in a row, since ``failing_since_ms``; a success clears both.
    ``disabled_reason`` is set when the service itself switched it off (``gone``, ``failing``).
    """

    trigger_count: int = 0
    last_triggered_ms: int | None = None
    last_success_ms: int | None = None
    failures: int = 0
    failing_since_ms: int | None = None
    disabled_reason: str | None = None

    @property
    def disables_ms(self) -> int | None:
        """When the service will switch it off, unless a delivery succeeds before; None while none has failed."""
        if self.failing_since_ms is None or self.disabled_reason:
            return None
        return self.failing_since_ms + PATIENCE_MS

    @property
    def word(self) -> str:
        """One word: ``unknown`` (nothing sent yet), ``healthy``, ``failing`` or ``disabled``."""
        if self.disabled_reason:
            return "disabled"
        if self.failures:
            return "failing"
        return "healthy" if self.last_success_ms else "unknown"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as the store knows it. ``id`` is a UUID text; times are unix ms.

    ``spec.headers`` has the names only (values masked) and ``sealed`` what is encrypted, until
    ``store.subscriptions.unsealed`` opens it.
    """

    id: str
    application_id: str
    spec: SubscriptionSpec
    created_ms: int = 0
    updated_ms: int = 0
    version: int = 0
    health: Health = field(default_factory=Health)
    sealed: bytes = field(default=b"", repr=False)


def parse_subscription(
    body: dict[str, Any], problems: Problems, before: SubscriptionSpec | None = None
) -> SubscriptionSpec:
    """A spec from its wire form; with ``before``, only the fields sent change.

    What is wrong is added to ``problems``. null means the default, and is wrong for required fields.
    """
    Reader(body, problems).only(MEMBERS)
    for name in REQUIRED:
        if body.get(name) is None and (before is None or name in body):
            problems.add(name, "is required" if name not in body else "must not be null")
    spec = before or SubscriptionSpec()
    reader = Reader(body, problems)
    changed: dict[str, Any] = {}
    if body.get("name") is not None:
        changed["name"] = parse_name(body["name"], problems)
    if body.get("endpoint") is not None:
        changed["endpoint"] = _endpoint(body["endpoint"], problems)
    if body.get("events") is not None:
        changed["events"] = parse_events(body["events"], problems, known=EVENTS)
    if "filters" in body:
        changed["filters"] = parse_filters(body["filters"], problems)
    if "description" in body:
        changed["description"] = _description(body["description"], problems)
    if "method" in body:
        changed["method"] = reader.choice("method", METHODS) or "POST"
    if "headers" in body:
        changed["headers"] = _headers(body["headers"], spec.headers, problems)
    if "retryConfig" in body:
        changed["retry"] = _retry(body["retryConfig"], problems)
    if "active" in body:
        changed["active"] = reader.boolean("active") is not False
    return replace(spec, **changed)


def _endpoint(value: Any, problems: Problems) -> str:
    try:
        return endpoint.validate_url(value)
    except Refusal as refusal:
        problems.add("endpoint", refusal.message.rstrip("."))
        return ""


def _description(value: Any, problems: Problems) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_DESCRIPTION:
        problems.add("description", f"must be a string of at most {MAX_DESCRIPTION} characters")
        return None
    return value


def _headers(value: Any, before: dict[str, str], problems: Problems) -> dict[str, str]:
    """Custom headers. A value sent back masked, as GET showed it, keeps what was there."""
    if value is None:
        return {}
    if isinstance(value, dict):
        known = {name.lower(): text for name, text in before.items()}
        value = {
            name: known[name.lower()] if text == MASKED and str(name).lower() in known else text
            for name, text in value.items()
        }
    try:
        return endpoint.validate_headers(value)
    except Refusal as refusal:
        if refusal.details:
            for name, sentences in refusal.details.items():
                problems.add(f"headers.{name}", sentences[0])
        else:
            problems.add("headers", refusal.message.rstrip("."))
        return {}


def _retry(value: Any, problems: Problems) -> RetryConfig | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        problems.add("retryConfig", "must be an object with maxAttempts and backoffMs")
        return None
    reader = Reader(value, problems, "retryConfig.")
    reader.only(("maxAttempts", "backoffMs"))
    attempts = reader.integer("maxAttempts", 1, MAX_ATTEMPTS)
    backoff_ms = reader.integer("backoffMs", 1, MAX_DELAY_MS)
    return RetryConfig(attempts or DEFAULT_ATTEMPTS, backoff_ms or DEFAULT_BACKOFF_MS)
