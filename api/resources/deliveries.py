"""Deliveries: what was sent to whom, how each attempt ended, and sending again."""

from typing import Any

from flask import Response
from flask_smorest import Blueprint

from api.answers import ok
from api.context import application_id, respond, store
from api.guards import requires
from api.queries import MAX_CURSOR, limit_of, time_of
from api.schemas import deliveries as schemas
from api.views import Resource, no_fields, no_query, query, query_doc
from mech_queue.model.application import Scope
from mech_queue.model.checks import Reader
from mech_queue.model.delivery import (
    Attempt,
    DeliveryQuery,
    DeliveryRecord,
    DeliveryState,
    excerpt_text,
    shown_url,
)
from mech_queue.model.ids import job_id_bytes
from mech_queue.model.problems import Problems
from mech_queue.model.times import iso, iso_or_none
from mech_queue.services import deliveries

blp = Blueprint("deliveries", __name__, description="What was sent to whom; kept for seven days after its end.")

LIST_QUERY = query_doc(
    ("jobId", "Only those about this job."),
    ("subscriptionId", "Only those to this subscription."),
    ("status", f"A comma list of: {', '.join(schemas.STATUSES)}."),
    ("createdAfter", "ISO-8601 time, inclusive."),
    ("createdBefore", "ISO-8601 time, exclusive."),
    ("limit", "1 to 1,000; default 100."),
    ("cursor", "nextCursor of the page before."),
)
NAMES = ("jobId", "subscriptionId", "status", "createdAfter", "createdBefore", "limit", "cursor")


@blp.route("/api/deliveries")
class Deliveries(Resource):
    """The deliveries of the caller's application."""

    @requires(Scope.WEBHOOKS)
    @blp.doc(**LIST_QUERY)
    @blp.response(200, schemas.DeliveriesAnswerSchema())
    def get(self) -> Response:
        """List deliveries, newest first"""
        page = deliveries.search(store(), application_id(), _query_of(query()))
        shown = [_shown(one) for one in page.deliveries]
        return respond(ok(deliveries=shown, count=len(shown), nextCursor=page.next_cursor))


@blp.route("/api/deliveries/<delivery_id>")
class OneDelivery(Resource):
    """One delivery."""

    @requires(Scope.WEBHOOKS)
    @blp.response(200, schemas.DeliveryAnswerSchema())
    def get(self, delivery_id: str) -> Response:
        """Get a delivery: what it sends, and every attempt"""
        no_query()
        return respond(ok(delivery=_whole(deliveries.get(store(), application_id(), delivery_id))))


@blp.route("/api/deliveries/<delivery_id>/replay")
class Replay(Resource):
    """Send it again."""

    @requires(Scope.WEBHOOKS)
    @blp.response(200, schemas.DeliveryAnswerSchema())
    def post(self, delivery_id: str) -> Response:
        """Send a delivery again, now: same bytes, same webhook-id; a pending retry is superseded"""
        no_fields()
        return respond(ok(delivery=_whole(deliveries.replay(store(), application_id(), delivery_id))))


def _query_of(given: dict[str, str]) -> DeliveryQuery:
    problems = Problems()
    Reader(dict(given), problems).only(NAMES)
    for name in ("jobId", "subscriptionId"):
        if name in given and job_id_bytes(given[name]) is None:
            problems.add(name, "is not an id of this service")
    if len(given.get("cursor", "")) > MAX_CURSOR:
        problems.add("cursor", "is not a cursor of this service")
    found = DeliveryQuery(
        job_id=given.get("jobId"),
        subscription_id=given.get("subscriptionId"),
        states=_states(given.get("status"), problems),
        after_ms=time_of(given, "createdAfter", problems),
        before_ms=time_of(given, "createdBefore", problems),
        limit=limit_of(given, problems),
        cursor=given.get("cursor"),
    )
    problems.raise_any()
    return found


def _states(text: str | None, problems: Problems) -> tuple[DeliveryState, ...]:
    names = [] if text is None else [name.strip() for name in text.split(",")]
    if all(name in schemas.STATUSES for name in names):
        return tuple(DeliveryState(name) for name in dict.fromkeys(names))
    problems.add("status", f"must be a comma list of: {', '.join(schemas.STATUSES)}")
    return ()


def _shown(one: DeliveryRecord) -> dict[str, Any]:
    return {
        "id": one.id,
        "jobId": one.job_id or None,
        "subscriptionId": one.subscription_id,
        "event": one.event,
        "sequence": one.sequence,
        "queue": one.queue,
        "url": shown_url(one.url),
        "status": one.state.value,
        "attempt": one.attempt,
        "responseStatus": one.last_status,
        "errorCode": one.last_error_code if one.last_error_code in schemas.ERROR_CODES else None,
        "createdAt": iso(one.created_ms),
        "nextAttemptAt": iso_or_none(one.next_attempt_ms),
        "endedAt": iso_or_none(one.ended_ms),
    }


def _whole(one: DeliveryRecord) -> dict[str, Any]:
    attempts = [_attempt(attempt) for attempt in one.attempts]
    return {**_shown(one), "requestBody": one.body.decode("utf-8", "replace"), "attempts": attempts}


def _attempt(one: Attempt) -> dict[str, Any]:
    return {
        "attempt": one.number,
        "at": iso(one.at_ms),
        "durationMs": one.duration_ms,
        "success": one.success,
        "responseStatus": one.status,
        "errorCode": one.error_code,
        "error": one.error,
        "responseBody": excerpt_text(one.excerpt) if one.status is not None else None,
        "truncated": one.truncated,
        "manual": one.manual,
    }
