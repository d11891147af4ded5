"""Shapes of /health."""

import marshmallow as ma

from api.schemas.base import Schema


class ServiceHealthSchema(Schema):
    """The state of the service; ``queues`` are jobs per status over all applications."""

    status = ma.fields.String(required=True, validate=ma.validate.OneOf(["healthy", "unhealthy"]))
    version = ma.fields.String(required=True)
    uptime = ma.fields.Float(required=True, metadata={"description": "Seconds since this process started."})
    redis = ma.fields.String(required=True, validate=ma.validate.OneOf(["connected", "disconnected"]))
    queues = ma.fields.Dict(keys=ma.fields.String(), values=ma.fields.Integer(), allow_none=True)
    error = ma.fields.String(metadata={"description": "Why it is unhealthy."})


class LiveSchema(Schema):
    """This process answers."""

    status = ma.fields.String(required=True, validate=ma.validate.OneOf(["alive"]))
    version = ma.fields.String(required=True)
