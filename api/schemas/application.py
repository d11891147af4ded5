"""Shape of the caller's own application."""

import marshmallow as ma

from api.schemas.base import Schema

f = ma.fields


class OwnKeySchema(Schema):
    """The key that sent the request; never the key itself."""

    id = f.String(required=True)
    scopes = f.List(f.String(), required=True)
    master = f.Boolean(required=True)


class OwnApplicationSchema(Schema):
    """An application as its own keys see it."""

    id = f.String(required=True)
    name = f.String(required=True)
    settings = f.Dict(required=True)
    usage = f.Dict(keys=f.String(), values=f.Integer(), required=True)
    key = f.Nested(OwnKeySchema(), required=True)
    created_at = f.DateTime(required=True)


class OwnApplicationAnswerSchema(Schema):
    """The caller's application."""

    success = f.Boolean(required=True)
    application = f.Nested(OwnApplicationSchema(), required=True)
