"""What the OpenAPI document says beside the routes themselves."""

import re
from typing import Any

from flask import Flask
from flask_smorest import Api

from api.guards import SCOPE
from mech_queue.model.application import MASTER

CONFIG: dict[str, Any] = {
    "API_TITLE": "mech-queue",
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": "/",
    "OPENAPI_JSON_PATH": "openapi.json",
    "API_SPEC_OPTIONS": {
        "info": {
            "description": "Background jobs for many applications: submit over HTTP, work over HTTP or with "
            "Celery, be told by signed webhooks. Names are camelCase, times ISO-8601 UTC, durations ms "
            "unless the name says Seconds. Unknown body fields and query names are answered 422.",
            "license": {"name": "MIT", "url": "https://opensource.org/license/mit"},
        },
        "security": [{"apiKey": []}, {"bearer": []}],
    },
}


def describe(api: Api) -> None:
    """Add the ways to send a key."""
    components = api.spec.components
    components.security_scheme("apiKey", {"type": "apiKey", "in": "header", "name": "x-api-key"})
    components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})


def complete(api: Api, app: Flask) -> None:
    """Say of each operation which scope it needs, and give it a stable id."""
    views = {}
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        for method in rule.methods or ():
            function = getattr(getattr(view, "view_class", None), method.lower(), view)
            views[re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower()] = function
    for path, operations in api.spec._paths.items():
        for method, operation in operations.items():
            if not isinstance(operation, dict) or method == "parameters":
                continue
            scope = getattr(views.get((path, method)), SCOPE, None)
            sentence = _sentence(scope)
            said = operation.get("description", "")
            operation["description"] = f"{said} {sentence}".strip()
            operation["operationId"] = _operation_id(method, path)


def _sentence(scope: str | None) -> str:
    if scope is None:
        return "No key is needed."
    if scope == MASTER:
        return "Needs the master key."
    return f"Needs a key with the scope `{scope}`." if scope else "Needs any valid key."


def _operation_id(method: str, path: str) -> str:
    words = [word for word in re.split(r"[^A-Za-z0-9]+", path.removeprefix("/api")) if word]
    return method + "".join(word[0].upper() + word[1:] for word in words)
