"""Rate limits of the Flask routes: flask-limiter decides when, the slice counter counts.

The hot lane calls ``count`` directly; both lanes share one counter per key.
"""

import math
from typing import Any

from flask import Flask, Response, g, request
from flask_limiter import Limiter
from flask_limiter._extension import RequestLimit
from limits.storage import Storage

from api.answers import Headers, refused
from api.context import respond
from api.runtime import Runtime
from mech_queue.model.application import Caller
from mech_queue.model.errors import Code, Refusal
from mech_queue.services.rates import Standing

REPORTS_WORK = "_reports_work"
"""Mark of views that report work: they are not counted, since refused work is work done twice."""


def reports_work(view: Any) -> Any:
    """Mark a view as a report of work."""
    setattr(view, REPORTS_WORK, True)
    return view


def count(runtime: Runtime, caller: Caller | None, address: str) -> Standing:
    """One more request of this caller, by its address when it has no valid key."""
    settings = runtime.settings
    most, window_ms = settings.rate_limit_max_requests, settings.rate_limit_window_ms
    if caller is None:
        return runtime.rates.hit(f"ip:{address}", most, window_ms)
    own = caller.settings.rate_limit
    if own is not None:
        most, window_ms = own.max, own.per_ms
    return runtime.rates.hit(f"key:{caller.key_id}", most, window_ms)


def headers_of(standing: Standing) -> Headers:
    """The three headers of every counted answer."""
    return [
        ("X-RateLimit-Limit", str(standing.limit)),
        ("X-RateLimit-Remaining", str(standing.remaining)),
        ("X-RateLimit-Reset", str(standing.reset_s)),
    ]


def refusal_of(standing: Standing) -> Refusal:
    """The 429."""
    seconds = max(1, math.ceil(standing.retry_after_s))
    return Refusal(
        Code.RATE_LIMITED,
        f"More than {standing.limit} requests in this window; try again in {seconds} s.",
        {"limit": standing.limit},
        retry_after=seconds,
    )


def address_of(environ: dict[str, Any], trusted_hops: int) -> str:
    """The client's address: X-Forwarded-For is believed as far as our own proxies wrote it."""
    address = str(environ.get("REMOTE_ADDR") or "unknown")
    if trusted_hops:
        hops = [hop.strip() for hop in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",") if hop.strip()]
        if hops:
            address = hops[-trusted_hops] if len(hops) >= trusted_hops else hops[0]
    return address[:64]


class SliceStorage(Storage):
    """flask-limiter's storage: the slice counter of this process (of the current request's caller)."""

    STORAGE_SCHEME = ["slices"]

    def __init__(self, uri: str, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions)
        self._runtime: Runtime = options["runtime"]

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """The counter raises nothing."""
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count the current request; more than the limit when it is over."""
        hops = self._runtime.settings.trusted_proxy_hops
        standing = g.standing = count(self._runtime, g.caller, address_of(request.environ, hops))
        return standing.limit - standing.remaining if standing.allowed else standing.limit + 1

    def get(self, key: str) -> int:
        """How many the current request's caller made in this window, as far as this process knows."""
        return int(g.standing.limit - g.standing.remaining)

    def get_expiry(self, key: str) -> float:
        """When the window ends, unix seconds."""
        return float(g.standing.reset_s)

    def check(self) -> bool:
        """It always counts, in memory if need be."""
        return True

    def reset(self) -> int | None:
        """Windows end by themselves."""
        return None

    def clear(self, key: str) -> None:
        """Windows end by themselves."""


def register(app: Flask, runtime: Runtime) -> None:
    """Count the requests below /api/ and answer those beyond the limit with 429."""

    def limit_text() -> str:
        settings = runtime.settings
        own = g.caller.settings.rate_limit if g.caller is not None else None
        most = own.max if own else settings.rate_limit_max_requests
        window_ms = own.per_ms if own else settings.rate_limit_window_ms
        return f"{most} per {max(1, math.ceil(window_ms / 1000))} second"

    def exempt() -> bool:
        if not request.path.startswith("/api"):
            return True
        view = app.view_functions.get(request.endpoint or "")
        method = getattr(getattr(view, "view_class", None), request.method.lower(), view)
        return g.caller is not None and getattr(method, REPORTS_WORK, False)

    def breach(_: RequestLimit) -> Response:
        return respond(refused(refusal_of(g.standing), g.request_id))

    limiter = Limiter(
        key_func=lambda: g.caller.key_id if g.caller is not None else "address",
        application_limits=[limit_text],
        application_limits_exempt_when=exempt,
        storage_uri="slices://",
        storage_options={"runtime": runtime},  # type: ignore[dict-item]
        headers_enabled=False,
        on_breach=breach,
    )
    limiter.init_app(app)
