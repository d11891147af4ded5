"""The base of all schemas: camelCase on the wire, unknown names refused."""

from typing import Any

import marshmallow as ma


def camel_case(name: str) -> str:
    """max_concurrent_jobs -> maxConcurrentJobs"""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


class Schema(ma.Schema):
    """Use instances, never the class: webargs would make a new one for each request."""

    class Meta:
        unknown = ma.RAISE

    def on_bind_field(self, field_name: str, field_obj: Any) -> None:
        """Give each field its camelCase name on the wire."""
        field_obj.data_key = field_obj.data_key or camel_case(field_name)


class ErrorSchema(Schema):
    """Every refusal has this shape."""

    success = ma.fields.Constant(False)
    error = ma.fields.String(required=True, metadata={"description": "One sentence to act on."})
    code = ma.fields.String(required=True, metadata={"description": "UPPER_SNAKE, from a closed list."})
    details = ma.fields.Dict(metadata={"description": "For INVALID: field path -> sentences."})
    request_id = ma.fields.String(metadata={"description": "Also in X-Request-Id and in the logs."})
