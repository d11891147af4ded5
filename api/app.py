"""``create_app(settings, store)``: the WSGI application. Nothing happens at import."""

import time
from typing import cast

from flask import Flask, Response, g, request
from flask_smorest import Api

import mech_queue
from api import answers, auth, errors, limits, openapi
from api.context import KEY
from api.health import Probe
from api.hot.lane import HotLane
from api.metrics import HttpMetrics
from api.resources import blueprints, home
from api.runtime import Runtime
from api.schemas.base import ErrorSchema
from config import logging as log_config
from config.settings import Settings
from mech_queue.services.rates import Limiter, Rates
from mech_queue.services.streams import Streams
from mech_queue.services.waiting import Waiters
from mech_queue.store import Store
from mech_queue.store.rates import RateCounters

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def create_app(
    settings: Settings,
    store: Store,
    *,
    rates: Limiter | None = None,
    hot_lane: bool = True,
) -> Flask:
    """Everything wired: routes, keys, limits, errors, documentation, metrics.

    ``hot_lane`` False sends also the hot routes through Flask (the tests compare both).
    """
    store.secrets_key = settings.secrets_key or None
    runtime = Runtime(
        settings=settings,
        store=store,
        rates=rates or Rates(RateCounters.open(settings.redis_url), aside=store.aside),
        metrics=HttpMetrics(),
        waiters=Waiters(store, settings.max_waiters),
        streams=Streams(store),
        probe=Probe(store),
    )
    app = Flask("api", static_folder=None)
    app.extensions[KEY] = runtime
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    app.url_map.redirect_defaults = False
    app.url_map.merge_slashes = False
    _register_hooks(app, runtime)
    _register_resources(app)
    errors.register(app)
    if hot_lane:
        app.wsgi_app = HotLane(runtime, app.wsgi_app)  # type: ignore[method-assign]
    return app


def runtime_of(app: Flask) -> Runtime:
    """What ``create_app`` gave to this app."""
    return cast(Runtime, app.extensions[KEY])


def _register_hooks(app: Flask, runtime: Runtime) -> None:
    """In this order: request id and caller, metrics, rate limit, and at the end the common headers."""

    def begin() -> None:
        g.caller = None
        g.standing = None
        g.began = time.perf_counter()
        g.request_id = answers.request_id_of(request.environ)
        log_config.bind_request(g.request_id)
        if request.method not in METHODS:  # else each invented method would make metrics of its own
            request.prom_do_not_track = True  # type: ignore[attr-defined]

    def identify() -> Response | None:
        if request.method == "OPTIONS" and request.headers.get("Access-Control-Request-Method"):
            return preflight()
        if request.path.startswith("/api"):
            g.caller = auth.authenticate(runtime, request.environ)
        return None

    def preflight() -> Response:
        """What browsers ask before they send a key; only configured origins get an allowing answer."""
        answer = Response(status=204)
        if answers.cors_headers(runtime.settings.cors_origins, request.environ)[1:]:
            answer.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE"
            answer.headers["Access-Control-Allow-Headers"] = answers.ACCEPTED
            answer.headers["Access-Control-Max-Age"] = "600"
        return answer

    def finish(response: Response) -> Response:
        for name, value in common_headers():
            response.headers[name] = value
        return response

    def common_headers() -> answers.Headers:
        found: answers.Headers = [("X-Request-Id", g.request_id)]
        if g.standing is not None:
            found += limits.headers_of(g.standing)
        found += [one for one in answers.SAFE if not getattr(g, "cacheable", False) or one[0] != "Cache-Control"]
        return found + answers.cors_headers(runtime.settings.cors_origins, request.environ)

    app.before_request(begin)
    runtime.metrics.install(app)
    app.before_request(identify)
    limits.register(app, runtime)
    app.after_request(finish)
    app.teardown_request(lambda _: log_config.unbind_request())


def _register_resources(app: Flask) -> None:
    app.config.update(openapi.CONFIG, API_VERSION=mech_queue.__version__)

    class Documented(Api):
        ERROR_SCHEMA = ErrorSchema

    api = Documented(app)
    openapi.describe(api)
    for blueprint in blueprints():
        api.register_blueprint(blueprint)
    app.register_blueprint(home.blp)
    openapi.complete(api, app)
