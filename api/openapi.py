"""What the OpenAPI document says beside the routes themselves."""

from typing import Any

from flask_smorest import Api

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
            "license": {"name": "MIT"},
        },
        "security": [{"apiKey": []}, {"bearer": []}],
    },
}


def describe(api: Api) -> None:
    """Add the ways to send a key."""
    components = api.spec.components
    components.security_scheme("apiKey", {"type": "apiKey", "in": "header", "name": "x-api-key"})
    components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
