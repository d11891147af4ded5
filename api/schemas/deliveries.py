"""Shapes of deliveries."""

import marshmallow as ma

from api.schemas.base import Schema
from api.schemas.jobs import about
from mech_queue.model.delivery import DeliveryState, ErrorCode

f = ma.fields
OneOf = ma.validate.OneOf

STATUSES = [state.value for state in DeliveryState]
ERROR_CODES = [code.value for code in ErrorCode]


class DeliveryAttemptSchema(Schema):
    """One request, or the reason why there was none."""

    attempt = f.Integer(required=True, metadata=about("Counts from 1."))
    at = f.DateTime(required=True)
    duration_ms = f.Integer(required=True)
    success = f.Boolean(required=True)
    response_status = f.Integer(allow_none=True, metadata=about("null: there was no answer."))
    error_code = f.String(allow_none=True, metadata=about(f"One of: {', '.join(ERROR_CODES)}."))
    error = f.String(allow_none=True)
    response_body = f.String(allow_none=True, metadata=about("The first 16 KiB of the answer."))
    truncated = f.Boolean(required=True, metadata=about("True: the answer was longer."))
    manual = f.Boolean(required=True, metadata=about("True: asked for by a replay."))


class ListedDeliverySchema(Schema):
    """A delivery as lists show it."""

    id = f.String(required=True, metadata=about("Also the webhook-id of every attempt."))
    job_id = f.String(required=True, allow_none=True, metadata=about("null: a notice about a subscription."))
    subscription_id = f.String(allow_none=True, metadata=about("null: a job webhook."))
    event = f.String(required=True)
    sequence = f.Integer(required=True)
    queue = f.String(required=True)
    url = f.String(required=True, metadata=about("Where it was addressed to; its query is masked."))
    status = f.String(required=True, validate=OneOf(STATUSES))
    attempt = f.Integer(required=True, metadata=about("Attempts so far."))
    response_status = f.Integer(allow_none=True, metadata=about("Of the last attempt."))
    error_code = f.String(allow_none=True, metadata=about("Of the last attempt."))
    created_at = f.DateTime(required=True)
    next_attempt_at = f.DateTime(allow_none=True)
    ended_at = f.DateTime(allow_none=True)


class DeliverySchema(ListedDeliverySchema):
    """A delivery with its body and attempts."""

    request_body = f.String(required=True, metadata=about("What every attempt sends, as it is signed."))
    attempts = f.List(f.Nested(DeliveryAttemptSchema()), required=True)


class DeliveryAnswerSchema(Schema):
    """One delivery."""

    success = f.Boolean(required=True)
    delivery = f.Nested(DeliverySchema(), required=True)


class DeliveriesAnswerSchema(Schema):
    """A page of deliveries."""

    success = f.Boolean(required=True)
    deliveries = f.List(f.Nested(ListedDeliverySchema()), required=True)
    count = f.Integer(required=True)
    next_cursor = f.String(allow_none=True, metadata=about("Pass as cursor for the next page; null: the end."))
