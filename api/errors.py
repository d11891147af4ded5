"""Every refusal and accident of a Flask route in one envelope; never a traceback."""

import logging

from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException

from api.answers import refused
from api.context import respond
from mech_queue.model.errors import Code, Refusal

log = logging.getLogger(__name__)

SENTENCES: dict[int, tuple[Code, str]] = {
    400: (Code.BAD_JSON, "The request could not be read."),
    404: (Code.NOT_FOUND, "There is nothing at this address; / lists what there is."),
    405: (
        Code.METHOD_NOT_ALLOWED,
        "This address does not know the method; the header Allow lists those it knows.",
    ),
    413: (Code.TOO_LARGE, "The body is too large."),
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
    """What Flask raises."""
    if isinstance(error.response, Response):  # finished already, as flask-limiter's 429 is
        return error.response
    status = error.code or 500
    if status < 400:
        return Response(status=status, headers=error.get_headers())
    code, sentence = SENTENCES.get(status, (Code.INVALID, "The request is not valid."))
    response = respond(refused(Refusal(code, sentence), g.request_id))
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
