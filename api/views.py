"""The base of all resources: strict bodies and query strings for flask-smorest."""

from typing import Any

import marshmallow as ma
from flask import request
from flask.views import MethodView

from api import bodies
from api.call import Call
from api.context import caller, runtime
from mech_queue.model.checks import Reader
from mech_queue.model.problems import Problems, invalid
from mech_queue.model.strict_json import Parsed


class Resource(MethodView):
    """A view per address; one instance serves all requests, so keep nothing on ``self``."""

    init_every_request = False


def raw_body() -> bytes:
    """The bytes of this request's body (at most MAX_BODY_BYTES)."""
    return bodies.read_body(request.environ, runtime().settings.max_body_bytes)


def body() -> Parsed:
    """The body of this request, which must be an object; with the exact text of its members."""
    return bodies.object_body(request.environ, raw_body())


def query() -> dict[str, str]:
    """The query string of this request."""
    return bodies.parse_query(str(request.environ.get("QUERY_STRING", "")))


def no_query() -> None:
    """Refuse any query name, for addresses that know none."""
    for name in query():
        raise invalid(name, "is not a known name here")


def no_fields() -> None:
    """Refuse any query name and any body field, for actions that know none; an empty body is fine."""
    no_query()
    problems = Problems()
    Reader(body().value, problems).only(())
    problems.raise_any()


def call(target: str = "") -> Call:
    """This request as the handlers of the hot lane take it."""
    return Call(runtime(), caller(), request.environ, raw_body(), target)


def body_doc(schema: ma.Schema, example: Any = None, *, required: bool = True) -> dict[str, Any]:
    """For ``@blp.doc(**body_doc(…))``: a body that the route reads itself, with its exact texts."""
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": required, "content": {"application/json": content}}}


_TIME = {"type": "string", "format": "date-time"}
_ID = {"type": "string", "format": "uuid"}
QUERY_SCHEMAS: dict[str, dict[str, Any]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "wait": {"type": "number", "minimum": 0, "maximum": 30, "default": 0},
    "active": {"type": "boolean"},
    "order": {"enum": ["asc", "desc"]},
    "jobId": _ID,
    "subscriptionId": _ID,
    **dict.fromkeys(("createdAfter", "createdBefore", "submittedAfter", "submittedBefore"), _TIME),
}
"""What the documented query names hold; those that are not here are plain strings."""


def query_doc(*names: tuple[str, str]) -> dict[str, Any]:
    """For ``@blp.doc(**query_doc((name, description), …))``: query names that the route reads itself."""
    return {
        "parameters": [
            {
                "in": "query",
                "name": name,
                "required": False,
                "description": text,
                "schema": QUERY_SCHEMAS.get(name, {"type": "string"}),
            }
            for name, text in names
        ]
    }


PAGING = query_doc(("limit", "1 to 1,000; default 100."), ("cursor", "nextCursor of the page before."))
"""Of lists that know no filters."""
