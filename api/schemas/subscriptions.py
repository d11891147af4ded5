"""Shapes of subscriptions. Bodies are read by ``mech_queue.model.subscription``, described here."""

import marshmallow as ma

from api.schemas.base import Schema
from api.schemas.jobs import about
from mech_queue.model.backoff import MAX_ATTEMPTS, MAX_DELAY_MS
from mech_queue.model.endpoint import MAX_HEADERS, MAX_URL
from mech_queue.model.matching import EVENT_NAMES, MAX_VALUES
from mech_queue.model.subscription import EVENTS, MAX_DESCRIPTION, METHODS

f = ma.fields
OneOf, Range, Length = ma.validate.OneOf, ma.validate.Range, ma.validate.Length


class FiltersSchema(Schema):
    """All that are given must hold."""

    queues = f.List(
        f.String(), validate=Length(0, MAX_VALUES), allow_none=True, metadata=about("Names, compared literally.")
    )
    statuses = f.List(f.String(validate=OneOf(EVENT_NAMES[:-1])), allow_none=True, metadata=about("Names of events."))
    metadata = f.Dict(keys=f.String(), allow_none=True, metadata=about('Compared by JSON type: 3 is not "3".'))


class RetryConfigSchema(Schema):
    """Wait ``backoffMs`` · 2^(n-1) after failure n, at most a day, ± 20 %."""

    max_attempts = f.Integer(allow_none=True, validate=Range(1, MAX_ATTEMPTS), metadata=about("Default 10."))
    backoff_ms = f.Integer(allow_none=True, validate=Range(1, MAX_DELAY_MS), metadata=about("Default 5,000."))


class SubscriptionPatchSchema(Schema):
    """Only the fields sent change."""

    name = f.String(validate=Length(1, 255))
    endpoint = f.String(validate=Length(1, MAX_URL), metadata=about("http or https; not a private address."))
    events = f.List(f.String(validate=OneOf(EVENTS)), validate=Length(1), metadata=about("Names, or *."))
    filters = f.Nested(FiltersSchema(), allow_none=True)
    description = f.String(allow_none=True, validate=Length(0, MAX_DESCRIPTION))
    method = f.String(allow_none=True, validate=OneOf(METHODS), metadata=about("Default POST."))
    headers = f.Dict(
        keys=f.String(),
        values=f.String(),
        allow_none=True,
        metadata=about(f"At most {MAX_HEADERS}; encrypted in the store, masked whenever they are shown."),
    )
    retry_config = f.Nested(
        RetryConfigSchema(), allow_none=True, metadata=about("Default: ten attempts in three days.")
    )
    active = f.Boolean(allow_none=True)


class SubscriptionBodySchema(SubscriptionPatchSchema):
    """A new subscription."""

    name = f.String(required=True, validate=Length(1, 255))
    endpoint = f.String(required=True, validate=Length(1, MAX_URL))
    events = f.List(f.String(validate=OneOf(EVENTS)), required=True, validate=Length(1))


class HealthSchema(Schema):
    """What its deliveries did lately."""

    status = f.String(required=True, validate=OneOf(["unknown", "healthy", "failing", "disabled"]))
    consecutive_failures = f.Integer(required=True)
    failing_since = f.DateTime(allow_none=True)
    disables_at = f.DateTime(
        allow_none=True, metadata=about("When it will be switched off, unless a delivery succeeds before.")
    )
    last_success_at = f.DateTime(allow_none=True)


class SubscriptionSchema(Schema):
    """A subscription; header values are masked."""

    id = f.String(required=True)
    name = f.String(required=True)
    description = f.String(allow_none=True)
    endpoint = f.String(required=True)
    events = f.List(f.String(), required=True)
    filters = f.Nested(FiltersSchema(), required=True)
    method = f.String(required=True)
    headers = f.Dict(keys=f.String(), values=f.String(), required=True)
    retry_config = f.Nested(RetryConfigSchema(), allow_none=True)
    active = f.Boolean(required=True)
    health = f.Nested(HealthSchema(), required=True)
    disabled_reason = f.String(allow_none=True, metadata=about("Why the service itself switched it off."))
    trigger_count = f.Integer(required=True)
    last_triggered_at = f.DateTime(allow_none=True)
    created_at = f.DateTime()
    updated_at = f.DateTime()


class NewSubscriptionSchema(SubscriptionSchema):
    """A new subscription; its secret is shown this once."""

    secret = f.String(required=True, metadata=about("Checks the signatures of its deliveries."))


class SubscriptionAnswerSchema(Schema):
    """One subscription."""

    success = f.Boolean(required=True)
    subscription = f.Nested(SubscriptionSchema(), required=True)


class NewSubscriptionAnswerSchema(Schema):
    """A new subscription."""

    success = f.Boolean(required=True)
    subscription = f.Nested(NewSubscriptionSchema(), required=True)


class SubscriptionsAnswerSchema(Schema):
    """A page of subscriptions, oldest first."""

    success = f.Boolean(required=True)
    subscriptions = f.List(f.Nested(SubscriptionSchema()), required=True)
    count = f.Integer(required=True)
    next_cursor = f.String(allow_none=True)


class RotatedSchema(Schema):
    """A new secret, shown this once."""

    success = f.Boolean(required=True)
    secret = f.String(required=True)
    overlap_seconds = f.Integer(required=True)


class TestedSchema(Schema):
    """A test is on its way."""

    success = f.Boolean(required=True)
    message = f.String(required=True)
    delivery_id = f.String(required=True, metadata=about("GET /api/deliveries/{id} shows what became of it."))


class ReplayBodySchema(Schema):
    """From when on."""

    since = f.DateTime(required=True, metadata=about("ISO-8601."))


class ReplayedSchema(Schema):
    """Deliveries are being sent again."""

    success = f.Boolean(required=True)
    message = f.String(required=True)
    count = f.Integer(required=True)
    complete = f.Boolean(required=True, metadata=about("False: there are more, ask again."))
