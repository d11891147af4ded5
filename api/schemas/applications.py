"""Shapes of applications and keys. Bodies are read by ``mech_queue.model.application``, described here."""

from functools import cache
from typing import Any

import marshmallow as ma

from api.queue_settings import DAY_MS, MOST
from api.schemas.base import Schema
from api.schemas.jobs import about
from api.schemas.queues import RetentionSchema
from mech_queue.model.application import DEFAULT_SCOPES, MAX_QUEUES, Scope
from mech_queue.services.applications import MAX_OVERLAP_S

f = ma.fields
OneOf, Range, Length = ma.validate.OneOf, ma.validate.Range, ma.validate.Length
SCOPES = [scope.value for scope in Scope]
NAME = Length(1, 255)


class RequestRateSchema(Schema):
    """Requests of one key: at most ``max`` in ``perMs``."""

    max = f.Integer(required=True, validate=Range(1, MOST))
    per_ms = f.Integer(allow_none=True, validate=Range(1_000, DAY_MS), metadata=about("Default 60,000."))


class SettingsSchema(Schema):
    """What holds for all jobs and keys of an application; null takes a limit away."""

    max_concurrent_jobs = f.Integer(
        allow_none=True, validate=Range(1, MOST), metadata=about("Jobs that run at a time, over all queues.")
    )
    max_waiting = f.Integer(
        allow_none=True, validate=Range(1, MOST), metadata=about("Backlog: further jobs are refused (429).")
    )
    allowed_queues = f.List(
        f.String(), allow_none=True, validate=Length(0, MAX_QUEUES), metadata=about('Names, or ["*"] for all.')
    )
    rate_limit = f.Nested(RequestRateSchema(), allow_none=True)
    retention = f.Nested(RetentionSchema(), allow_none=True)
    metadata = f.Dict(keys=f.String(), allow_none=True, metadata=about("Your own; merged key by key."))


class ApplicationBodySchema(Schema):
    """A new application."""

    name = f.String(required=True, validate=NAME)
    settings = f.Nested(SettingsSchema(), allow_none=True)


class ApplicationPatchSchema(Schema):
    """Changes; settings are merged."""

    name = f.String(validate=NAME)
    settings = f.Nested(SettingsSchema(), allow_none=True)


class KeyBodySchema(Schema):
    """A new API key."""

    name = f.String(validate=NAME, allow_none=True)
    scopes = f.List(
        f.String(validate=OneOf(SCOPES)),
        allow_none=True,
        validate=Length(1),
        metadata=about(f"Default: {', '.join(sorted(DEFAULT_SCOPES))}."),
    )
    expires_in_seconds = f.Integer(validate=Range(1), allow_none=True)
    replaces = f.String(allow_none=True, metadata=about("Id of an older key, which stops after overlapSeconds."))
    overlap_seconds = f.Integer(allow_none=True, validate=Range(0), metadata=about("Default 86,400."))


class OverlapSchema(Schema):
    """How long the old secret signs along."""

    overlap_seconds = f.Integer(
        allow_none=True, validate=Range(0, MAX_OVERLAP_S), metadata=about("Default 86,400; at most a week.")
    )


class KeySchema(Schema):
    """A key, without the key itself."""

    id = f.String(required=True)
    name = f.String(allow_none=True)
    scopes = f.List(f.String(), required=True)
    last_four = f.String()
    created_at = f.DateTime()
    expires_at = f.DateTime(allow_none=True)


class NewKeySchema(KeySchema):
    """A new key, shown this once."""

    api_key = f.String(required=True)


class ApplicationSchema(Schema):
    """An application."""

    id = f.String(required=True)
    name = f.String(required=True)
    settings = f.Nested(SettingsSchema(), required=True)
    created_at = f.DateTime()
    updated_at = f.DateTime()


class NewApplicationSchema(ApplicationSchema):
    """A new application; its key and webhook secret are shown this once."""

    api_key = f.String(required=True)
    key_id = f.String(required=True)
    webhook_secret = f.String(required=True, metadata=about("Signs the webhooks of its jobs."))


class FullApplicationSchema(ApplicationSchema):
    """An application with its keys and its jobs by state."""

    keys = f.List(f.Nested(KeySchema()), required=True)
    usage = f.Dict(keys=f.String(), values=f.Integer(), required=True)


class NewSecretSchema(Schema):
    """A new webhook secret, shown this once."""

    webhook_secret = f.String(required=True)
    overlap_seconds = f.Integer(required=True)


@cache
def answer(schema: type[Schema], *, many: bool = False) -> ma.Schema:
    """``{"success", "data": …}`` around a schema, as the seed shows applications; one per schema."""
    data = f.List(f.Nested(schema()), required=True) if many else f.Nested(schema(), required=True)
    fields: dict[str, Any] = {"success": f.Boolean(required=True), "data": data}
    if many:
        fields |= {"count": f.Integer(required=True), "nextCursor": f.String(allow_none=True)}
    name = schema.__name__.removesuffix("Schema") + ("ListAnswer" if many else "Answer")
    return Schema.from_dict(fields, name=name)()
