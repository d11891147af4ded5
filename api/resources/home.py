"""``/`` leads to everything; ``/docs`` is Swagger UI, from our own files, without any other server."""

import html
from pathlib import Path

from flask import Blueprint, Response, current_app, g, request

import mech_queue
from api.answers import ok
from api.context import respond
from api.views import no_query
from mech_queue.model.errors import Code, Refusal

blp = Blueprint("home", __name__)

STATIC = Path(__file__).parent.parent / "static"
FILES = {
    "swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css; charset=utf-8"),
    "start.js": ("start.js", "text/javascript; charset=utf-8"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

LINKS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "health": "/health",
    "live": "/health/live",
    "ready": "/health/ready",
    "jobs": "/api/jobs",
    "queues": "/api/queues",
    "workers": "/api/workers",
    "schedules": "/api/schedules",
    "events": "/api/events",
    "subscriptions": "/api/subscriptions",
    "deliveries": "/api/deliveries",
    "application": "/api/application",
    "applications": "/api/applications",
}
PUBLIC = ("docs", "openapi", "health")


def _page(body: str, status: int = 200) -> Response:
    return Response(body, status, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICY})


@blp.get("/")
def home() -> Response:
    """Where everything is: JSON, or a small page for browsers."""
    no_query()
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) != "text/html":
        served = {rule.rule for rule in current_app.url_map.iter_rules()}
        links = {name: path for name, path in LINKS.items() if path in served}
        return respond(ok(name="mech-queue", version=mech_queue.__version__, links=links))
    items = "".join(f'<li><a href="{html.escape(LINKS[name])}">{html.escape(name)}</a></li>' for name in PUBLIC)
    return _page(
        "<!doctype html><html lang=en><meta charset=utf-8><title>mech-queue</title>"
        f"<h1>mech-queue {html.escape(mech_queue.__version__)}</h1><ul>{items}</ul>"
        "<p>Every other address needs an API key: send it as the header <code>x-api-key</code>.</p></html>"
    )


@blp.get("/docs")
def docs() -> Response:
    """Swagger UI."""
    return _page((STATIC / "docs.html").read_text(encoding="utf-8"))


@blp.get("/docs/<name>")
def docs_file(name: str) -> Response:
    """One of the files of Swagger UI."""
    if name not in FILES:
        raise Refusal(Code.NOT_FOUND, "There is nothing at this address; / lists what there is.")
    path, content_type = FILES[name]
    g.cacheable = True
    response = Response((STATIC / path).read_bytes(), content_type=content_type)
    response.add_etag()
    response.headers["Cache-Control"] = "no-cache"  # may be kept, must be asked for (ETag)
    response.make_conditional(request.environ)
    return response
