"""Subscriptions: be told of events by signed webhooks."""

from typing import Any

from flask import Response
from flask_smorest import Blueprint

from api.answers import ok
from api.context import application_id, respond, store
from api.guards import requires
from api.queries import limit_of
from api.resources.applications import overlap_of
from api.schemas import subscriptions as schemas
from api.schemas.applications import OverlapSchema
from api.schemas.jobs import DoneSchema
from api.views import Resource, body, body_doc, no_fields, no_query, query, query_doc
from mech_queue.model.application import Scope
from mech_queue.model.checks import Reader
from mech_queue.model.ids import job_id_bytes
from mech_queue.model.problems import Problems
from mech_queue.model.submission import check_queue
from mech_queue.model.subscription import MASKED, Subscription
from mech_queue.model.times import iso, iso_or_none
from mech_queue.services import deliveries, subscriptions

blp = Blueprint("subscriptions", __name__, description="Be told of events of jobs by signed webhooks.")

LIST_QUERY = query_doc(
    ("active", "true or false."),
    ("queue", "Only those that hear of this queue."),
    ("limit", "1 to 1,000; default 100."),
    ("cursor", "nextCursor of the page before."),
)
EXAMPLE = {
    "name": "High Priority Email Monitor",
    "endpoint": "https://myapp.com/webhooks/priority-emails",
    "filters": {"queues": ["email"], "metadata": {"priority": "high", "type": "transactional"}},
    "events": ["created", "completed", "failed"],
}
READ_ONLY = frozenset("id health disabledReason triggerCount lastTriggeredAt createdAt updatedAt".split())
"""What GET shows beside the fields one may send; PUT lets them pass, so that what GET gave can be sent back."""


@blp.route("/api/subscriptions")
class Subscriptions(Resource):
    """The subscriptions of the caller's application."""

    @requires(Scope.WEBHOOKS)
    @blp.doc(**body_doc(schemas.SubscriptionBodySchema(), EXAMPLE))
    @blp.response(201, schemas.NewSubscriptionAnswerSchema())
    def post(self) -> Response:
        """Subscribe; the secret is shown this once"""
        no_query()
        made = subscriptions.create(store(), application_id(), body().value)
        response = respond(ok(201, subscription={**_shown(made.subscription), "secret": made.secret}))
        response.headers["Location"] = f"/api/subscriptions/{made.subscription.id}"
        return response

    @requires(Scope.WEBHOOKS)
    @blp.doc(**LIST_QUERY)
    @blp.response(200, schemas.SubscriptionsAnswerSchema())
    def get(self) -> Response:
        """List subscriptions, oldest first"""
        given, problems = query(), Problems()
        Reader(dict(given), problems).only(("active", "queue", "limit", "cursor"))
        active, queue, cursor = given.get("active"), given.get("queue"), given.get("cursor")
        if active not in (None, "true", "false"):
            problems.add("active", "must be true or false")
        if queue is not None and (sentence := check_queue(queue)):
            problems.add("queue", sentence)
        if cursor is not None and job_id_bytes(cursor) is None:
            problems.add("cursor", "is not a cursor of this service")
        limit = limit_of(given, problems)
        problems.raise_any()
        page, following = subscriptions.list_(
            store(),
            application_id(),
            active=None if active is None else active == "true",
            queue=queue,
            limit=limit,
            cursor=cursor,
        )
        return respond(ok(subscriptions=[_shown(one) for one in page], count=len(page), nextCursor=following))


@blp.route("/api/subscriptions/<subscription_id>")
class OneSubscription(Resource):
    """One subscription."""

    @requires(Scope.WEBHOOKS)
    @blp.response(200, schemas.SubscriptionAnswerSchema())
    def get(self, subscription_id: str) -> Response:
        """Get a subscription, with its health"""
        no_query()
        return respond(ok(subscription=_shown(subscriptions.get(store(), application_id(), subscription_id))))

    @requires(Scope.WEBHOOKS)
    @blp.doc(**body_doc(schemas.SubscriptionPatchSchema(), {"events": ["failed"]}))
    @blp.response(200, schemas.SubscriptionAnswerSchema())
    def put(self, subscription_id: str) -> Response:
        """Change the fields sent (as PATCH does)"""
        given = {name: value for name, value in body().value.items() if name not in READ_ONLY}
        return _change(subscription_id, given)

    @requires(Scope.WEBHOOKS)
    @blp.doc(**body_doc(schemas.SubscriptionPatchSchema(), {"active": False}))
    @blp.response(200, schemas.SubscriptionAnswerSchema())
    def patch(self, subscription_id: str) -> Response:
        """Change the fields sent; switched on again, it starts with a clean health"""
        return _change(subscription_id, body().value)

    @requires(Scope.WEBHOOKS)
    @blp.response(200, DoneSchema())
    def delete(self, subscription_id: str) -> Response:
        """Unsubscribe; deliveries that still wait are cancelled"""
        no_query()
        subscriptions.delete(store(), application_id(), subscription_id)
        return respond(ok(message=f"Subscription {subscription_id} deleted"))


@blp.route("/api/subscriptions/<subscription_id>/rotate-secret")
class RotateSecret(Resource):
    """The secret that signs its deliveries."""

    @requires(Scope.WEBHOOKS)
    @blp.doc(**body_doc(OverlapSchema(), required=False))
    @blp.response(200, schemas.RotatedSchema())
    def post(self, subscription_id: str) -> Response:
        """Make a new secret; the old one signs along for a day"""
        no_query()
        overlap_s = overlap_of(body().value)
        secret = subscriptions.rotate_secret(store(), application_id(), subscription_id, overlap_s=overlap_s)
        return respond(ok(secret=secret, overlapSeconds=overlap_s))


@blp.route("/api/subscriptions/<subscription_id>/test")
class Test(Resource):
    """Try it out."""

    @requires(Scope.WEBHOOKS)
    @blp.response(200, schemas.TestedSchema())
    def post(self, subscription_id: str) -> Response:
        """Send a made-up event `test`, whatever the filters; signed, retried and logged like any other"""
        no_fields()
        delivery_id = deliveries.send_test(store(), application_id(), subscription_id)
        return respond(ok(message=f"Test event sent to subscription {subscription_id}", deliveryId=delivery_id))


@blp.route("/api/subscriptions/<subscription_id>/replay")
class Replay(Resource):
    """Send again what it missed."""

    @requires(Scope.WEBHOOKS)
    @blp.doc(**body_doc(schemas.ReplayBodySchema(), {"since": "2030-01-31T12:00:00Z"}))
    @blp.response(200, schemas.ReplayedSchema())
    def post(self, subscription_id: str) -> Response:
        """Send again what failed, was skipped or cancelled since a time"""
        no_query()
        given, problems = body().value, Problems()
        reader = Reader(given, problems)
        reader.only(("since",))
        since_ms = reader.time("since")
        if given.get("since") is None:
            problems.add("since", "is required")
        problems.raise_any()
        assert since_ms is not None
        count, complete = deliveries.replay_since(store(), application_id(), subscription_id, since_ms)
        said = f"{count} deliveries are being sent again" + ("" if complete else "; there are more: ask again")
        return respond(ok(message=said, count=count, complete=complete))


def _change(subscription_id: str, given: dict[str, Any]) -> Response:
    no_query()
    changed = subscriptions.change(store(), application_id(), subscription_id, given)
    return respond(ok(subscription=_shown(changed)))


def _shown(one: Subscription) -> dict[str, Any]:
    spec, health, retry = one.spec, one.health, one.spec.retry
    return {
        "id": one.id,
        "name": spec.name,
        "description": spec.description,
        "endpoint": spec.endpoint,
        "events": list(spec.events),
        "filters": spec.filters.to_json(),
        "method": spec.method,
        "headers": dict.fromkeys(spec.headers, MASKED),
        "retryConfig": {"maxAttempts": retry.max_attempts, "backoffMs": retry.backoff_ms} if retry else None,
        "active": spec.active,
        "health": {
            "status": health.word,
            "consecutiveFailures": health.failures,
            "failingSince": iso_or_none(health.failing_since_ms),
            "disablesAt": iso_or_none(health.disables_ms),
            "lastSuccessAt": iso_or_none(health.last_success_ms),
        },
        "disabledReason": health.disabled_reason,
        "triggerCount": health.trigger_count,
        "lastTriggeredAt": iso_or_none(health.last_triggered_ms),
        "createdAt": iso(one.created_ms),
        "updatedAt": iso(one.updated_ms),
    }
