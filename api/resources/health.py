"""GET /health, /health/live, /health/ready: without a key."""

import time

from flask import Response
from flask_smorest import Blueprint

import mech_queue
from api.answers import Answer, encode
from api.context import respond, runtime
from api.schemas.health import LiveSchema, ServiceHealthSchema
from api.views import Resource

blp = Blueprint("health", __name__, description="Whether the service is well. No key is needed.")

OPEN: dict[str, list[str]] = {"security": []}


def _report() -> Answer:
    current = runtime()
    finding = current.probe.ask()
    well = finding.trouble is None
    body = {
        "status": "healthy" if well else "unhealthy",
        "version": mech_queue.__version__,
        "uptime": round(time.monotonic() - current.started_at, 3),
        "redis": "connected" if well else "disconnected",
        "queues": finding.totals if well else None,
    }
    if not well:
        body["error"] = finding.trouble
    return Answer(200 if well else 503, encode(body), [] if well else [("Retry-After", "1")])


@blp.route("/health")
class Health(Resource):
    """The whole picture."""

    @blp.doc(**OPEN)
    @blp.response(200, ServiceHealthSchema())
    @blp.alt_response(503, schema=ServiceHealthSchema(), description="The store cannot be reached")
    def get(self) -> Response:
        """Health of the service, within one second"""
        return respond(_report())


@blp.route("/health/ready")
class Ready(Resource):
    """For load balancers: whether requests should come here."""

    @blp.doc(**OPEN)
    @blp.response(200, ServiceHealthSchema())
    @blp.alt_response(503, schema=ServiceHealthSchema(), description="Not ready")
    def get(self) -> Response:
        """Whether this process should get requests"""
        return respond(_report())


@blp.route("/health/live")
class Live(Resource):
    """For supervisors: whether this process is alive, whatever the store does."""

    @blp.doc(**OPEN)
    @blp.response(200, LiveSchema())
    def get(self) -> Response:
        """Whether this process answers at all"""
        return respond(Answer(200, encode({"status": "alive", "version": mech_queue.__version__})))
