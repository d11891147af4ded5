"""Every refusal and accident of a Flask route in one envelope; never a traceback."""

import logging
from typing import Any

from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException

from api.answers import refused
from api.context import respond
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.problems import sentence_of

log = logging.getLogger(__name__)

SENTENCES: dict[int, tuple[Code, str]] = {
    400: (Code.BAD_JSON, "The request could not be read."),
    401: (Code.UNAUTHENTICATED, "No valid API key. Send it as the header x-api-key."),
    403: (Code.FORBIDDEN, "This is not allowed."),
    404: (Code.NOT_FOUND, "There is nothing at this address; / lists what there is."),
    405: (
        Code.METHOD_NOT_ALLOWED,
        "This address does not know the method; the header Allow lists those it knows.",
    ),
    413: (Code.TOO_LARGE, "The body is too large."),
    415: (Code.NOT_JSON, "The body must be JSON: add -H 'Content-Type: application/json' to the curl line."),
    422: (Code.INVALID, "The request is not valid; details name each field."),
    429: (Code.RATE_LIMITED, "Too many requests; wait as long as Retry-After says."),
}


def register(app: Flask) -> None:
    """Answer refusals, HTTP errors and accidents of this app in the envelope."""
    app.register_error_handler(Refusal, answer_refusal)
    app.register_error_handler(HTTPException, answer_http_exception)
    app.register_error_handler(Exception, answer_accident)


def answer_refusal(refusal: Refusal) -> Response:
    """A refusal of a service or of the API itself."""
    return respond(refused(refusal, g.request_id))


def answer_http_exception(error: HTTPException) -> Response:
    """What Flask, smorest and webargs raise."""
    if isinstance(error.response, Response):  # finished already, as flask-limiter's 429 is
        return error.response
    status = error.code or 500
    if status < 400:
        return Response(status=status, headers=error.get_headers())
    code, sentence = SENTENCES.get(status, (Code.INVALID, "The request is not valid."))
    messages = _field_errors(getattr(error, "data", None))
    refusal = Refusal(code, sentence_of(messages) if messages else sentence, messages)
    response = respond(refused(refusal, g.request_id))
    response.status_code = status
    allow = error.get_headers()
    response.headers.extend((name, value) for name, value in allow if name == "Allow")
    return response


def answer_accident(error: Exception) -> Response:
    """A fault of ours: logged with its traceback, answered without."""
    log.exception("request failed")
    return respond(refused(ACCIDENT, g.request_id))


ACCIDENT = Refusal(
    Code.INTERNAL,
    "Something went wrong on our side and was logged; please report it with the requestId.",
)


def _field_errors(data: Any) -> dict[str, list[str]]:
    """webargs' nested messages as field path -> sentences."""
    found: dict[str, list[str]] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                part = "" if name == "_schema" else str(name)
                walk(f"{path}.{part}" if path and part else path or part, inner)
        elif isinstance(value, list):
            found.setdefault(path, []).extend(_lower(str(one)) for one in value)
        else:
            found.setdefault(path, []).append(_lower(str(value)))

    for location, messages in ((data or {}).get("messages") or {}).items():
        walk("", messages if location in ("json", "query", "query_string", "path") else {location: messages})
    return found


def _lower(sentence: str) -> str:
    """marshmallow's sentence in the form that follows a field's name: ``is missing``."""
    known = {
        "Missing data for required field.": "is required",
        "Unknown field.": "is not a known name here",
        "Field may not be null.": "must not be null",
        "Not a valid integer.": "must be an integer",
        "Not a valid string.": "must be a string",
        "Not a valid boolean.": "must be true or false",
        "Not a valid list.": "must be a list",
        "Not a valid mapping type.": "must be an object",
        "Invalid input type.": "must be an object",
    }
    text = known.get(sentence, sentence)
    text = text.removesuffix(".")
    return text[0].lower() + text[1:] if text else text
