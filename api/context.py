"""The current request, for the Flask routes: ``store()``, ``caller()``, ``runtime()``, ``answer(…)``."""

from typing import cast

from flask import Response, current_app, g

from api.answers import JSON_TYPE, Answer
from api.runtime import Runtime
from mech_queue.model.application import Caller
from mech_queue.store import Store

KEY = "mech_queue"


def runtime() -> Runtime:
    """What this process has."""
    return cast(Runtime, current_app.extensions[KEY])


def store() -> Store:
    """The store, first argument of every service."""
    return runtime().store


def caller() -> Caller:
    """Who asks; routes that need a key have ``@requires(scope)`` or ``@master_only``."""
    return cast(Caller, g.caller)


def application_id() -> str:
    """The application that the caller acts for."""
    return caller().application_id


def request_id() -> str:
    """The id of this request, as in X-Request-Id."""
    return cast(str, g.request_id)


def respond(answer: Answer) -> Response:
    """A finished answer as Flask's response."""
    response = Response(answer.body, answer.status)
    response.headers["Content-Type"] = JSON_TYPE[1]
    for name, value in answer.headers:
        response.headers[name] = value
    return response
