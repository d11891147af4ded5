"""Applications, their keys and webhook secrets: for the master key, and each application's own."""

from typing import Any

from flask import Response
from flask_smorest import Blueprint

from api.answers import ok
from api.context import application_id, respond, store
from api.guards import master_only, requires
from api.queries import limit_of
from api.schemas import applications as schemas
from api.schemas.jobs import DoneSchema
from api.views import PAGING, Resource, body, body_doc, no_query, query
from mech_queue.model.application import (
    PATHS_OF_SETTINGS,
    Application,
    KeyRecord,
    Scope,
    parse_name,
    parse_scopes,
    parse_settings,
)
from mech_queue.model.checks import Reader
from mech_queue.model.problems import Problems
from mech_queue.model.times import iso, iso_or_none
from mech_queue.services import applications

blp = Blueprint("applications", __name__, description="Who may use this service, with which keys and limits.")

EXAMPLE = {"name": "My Application", "settings": {"maxConcurrentJobs": 100, "metadata": {"environment": "production"}}}
YEARS_S = 315_360_000


@blp.route("/api/applications")
class Applications(Resource):
    """All applications."""

    @master_only
    @blp.doc(**body_doc(schemas.ApplicationBodySchema(), EXAMPLE))
    @blp.response(201, schemas.answer(schemas.NewApplicationSchema))
    def post(self) -> Response:
        """Create an application; its key and webhook secret are shown this once"""
        no_query()
        given, problems = body().value, Problems()
        Reader(given, problems).only(("name", "settings"), PATHS_OF_SETTINGS)
        if given.get("name") is None:
            problems.add("name", "is required")
        else:
            parse_name(given["name"], problems)
        settings = parse_settings(given.get("settings"), problems)
        problems.raise_any()
        made = applications.create(store(), given["name"], settings)
        data = {
            "id": made.application.id,
            "name": made.application.name,
            "apiKey": made.api_key,
            "keyId": made.key.id,
            "webhookSecret": made.webhook_secret,
            **_shown(made.application),
        }
        response = respond(ok(201, data=data))
        response.headers["Location"] = f"/api/applications/{made.application.id}"
        return response

    @master_only
    @blp.doc(**PAGING)
    @blp.response(200, schemas.answer(schemas.ApplicationSchema, many=True))
    def get(self) -> Response:
        """List applications, oldest first"""
        given, problems = query(), Problems()
        Reader(dict(given), problems).only(("limit", "cursor"))
        limit = limit_of(given, problems)
        cursor = given.get("cursor")
        if cursor is not None and not applications.is_cursor(cursor):
            problems.add("cursor", "is not a cursor of this service")
        problems.raise_any()
        page, following = applications.list_(store(), limit=limit, cursor=cursor)
        return respond(ok(data=[_shown(one) for one in page], count=len(page), nextCursor=following))


@blp.route("/api/applications/<target>")
class OneApplication(Resource):
    """One application."""

    @master_only
    @blp.response(200, schemas.answer(schemas.FullApplicationSchema))
    def get(self, target: str) -> Response:
        """Get an application: settings, keys, jobs by state"""
        no_query()
        return respond(ok(data=_full(target)))

    @master_only
    @blp.doc(**body_doc(schemas.ApplicationPatchSchema(), {"settings": {"maxWaiting": 10_000}}))
    @blp.response(200, schemas.answer(schemas.FullApplicationSchema))
    def patch(self, target: str) -> Response:
        """Change the name, merge settings"""
        no_query()
        given, problems = body().value, Problems()
        Reader(given, problems).only(("name", "settings"), PATHS_OF_SETTINGS)
        if "name" in given and given["name"] is None:
            problems.add("name", "must not be null")
        problems.raise_any()
        applications.change(store(), target, name=given.get("name"), settings=given.get("settings"))
        return respond(ok(data=_full(target)))

    @master_only
    @blp.response(202, DoneSchema())
    def delete(self, target: str) -> Response:
        """Delete an application: its keys stop at once, its data goes in the background"""
        no_query()
        applications.delete(store(), target)
        return respond(ok(202, message=f"Application {target} is being deleted"))


@blp.route("/api/applications/<target>/keys")
class Keys(Resource):
    """Keys of one application."""

    @master_only
    @blp.response(200, schemas.answer(schemas.KeySchema, many=True))
    def get(self, target: str) -> Response:
        """List keys, without the keys themselves"""
        return _keys(target)

    @master_only
    @blp.doc(**body_doc(schemas.KeyBodySchema(), {"name": "worker", "scopes": ["jobs:work"]}, required=False))
    @blp.response(201, schemas.answer(schemas.NewKeySchema))
    def post(self, target: str) -> Response:
        """Add a key, shown this once; `replaces` an older one after an overlap"""
        return _new_key(target)


@blp.route("/api/applications/<target>/keys/<key_id>")
class OneKey(Resource):
    """One key."""

    @master_only
    @blp.response(200, DoneSchema())
    def delete(self, target: str, key_id: str) -> Response:
        """Revoke a key; it stops within five seconds"""
        return _revoke(target, key_id)


@blp.route("/api/applications/<target>/rotate-webhook-secret")
class RotateSecret(Resource):
    """The secret that signs webhooks of jobs."""

    @master_only
    @blp.doc(**body_doc(schemas.OverlapSchema(), required=False))
    @blp.response(200, schemas.answer(schemas.NewSecretSchema))
    def post(self, target: str) -> Response:
        """Make a new webhook secret; the old one signs along for a day"""
        return _rotate(target)


@blp.route("/api/application/keys")
class OwnKeys(Resource):
    """The caller's own keys."""

    @requires(Scope.ADMIN)
    @blp.response(200, schemas.answer(schemas.KeySchema, many=True))
    def get(self) -> Response:
        """List own keys, without the keys themselves"""
        return _keys(application_id())

    @requires(Scope.ADMIN)
    @blp.doc(**body_doc(schemas.KeyBodySchema(), {"name": "worker", "scopes": ["jobs:work"]}, required=False))
    @blp.response(201, schemas.answer(schemas.NewKeySchema))
    def post(self) -> Response:
        """Add an own key, shown this once"""
        return _new_key(application_id())


@blp.route("/api/application/keys/<key_id>")
class OwnKey(Resource):
    """One own key."""

    @requires(Scope.ADMIN)
    @blp.response(200, DoneSchema())
    def delete(self, key_id: str) -> Response:
        """Revoke an own key; it stops within five seconds"""
        return _revoke(application_id(), key_id)


@blp.route("/api/application/rotate-webhook-secret")
class OwnRotateSecret(Resource):
    """The own webhook secret."""

    @requires(Scope.ADMIN)
    @blp.doc(**body_doc(schemas.OverlapSchema(), required=False))
    @blp.response(200, schemas.answer(schemas.NewSecretSchema))
    def post(self) -> Response:
        """Make a new own webhook secret; the old one signs along for a day"""
        return _rotate(application_id())


def _keys(target: str) -> Response:
    no_query()
    found = applications.keys(store(), target)
    return respond(ok(data=[_key(key) for key in found], count=len(found), nextCursor=None))


def _new_key(target: str) -> Response:
    no_query()
    given, problems = body().value, Problems()
    reader = Reader(given, problems)
    reader.only(("name", "scopes", "expiresInSeconds", "replaces", "overlapSeconds"))
    name = parse_name(given["name"], problems) if given.get("name") is not None else None
    scopes = parse_scopes(given.get("scopes"), problems)
    expires_in_s = reader.integer("expiresInSeconds", 1, YEARS_S)
    replaces = reader.key("replaces")
    overlap_s = reader.integer("overlapSeconds", 0, YEARS_S)
    problems.raise_any()
    new = applications.add_key(
        store(),
        target,
        name=name,
        scopes=scopes,
        expires_in_s=expires_in_s,
        replaces=replaces,
        overlap_s=applications.OVERLAP_S if overlap_s is None else overlap_s,
    )
    return respond(ok(201, data={"apiKey": new.api_key, **_key(new.record)}))


def _revoke(target: str, key_id: str) -> Response:
    no_query()
    applications.revoke_key(store(), target, key_id)
    return respond(ok(message=f"Key {key_id} revoked"))


def _rotate(target: str) -> Response:
    no_query()
    overlap_s = overlap_of(body().value)
    secret = applications.rotate_webhook_secret(store(), target, overlap_s=overlap_s)
    return respond(ok(data={"webhookSecret": secret, "overlapSeconds": overlap_s}))


def overlap_of(given: dict[str, Any]) -> int:
    """How many seconds an old secret signs along: ``overlapSeconds`` of a body that has nothing else."""
    problems = Problems()
    reader = Reader(given, problems)
    reader.only(("overlapSeconds",))
    seconds = reader.integer("overlapSeconds", 0, applications.MAX_OVERLAP_S)
    problems.raise_any()
    return applications.OVERLAP_S if seconds is None else seconds


def _full(target: str) -> dict[str, Any]:
    found = applications.get(store(), target)
    return {
        **_shown(found),
        "keys": [_key(key) for key in applications.keys(store(), target)],
        "usage": applications.usage(store(), target),
    }


def _shown(one: Application) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "settings": one.settings.to_json(),
        "createdAt": iso(one.created_ms),
        "updatedAt": iso(one.updated_ms),
    }


def _key(key: KeyRecord) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(scope.value for scope in key.scopes),
        "lastFour": key.last_four,
        "createdAt": iso(key.created_ms),
        "expiresAt": iso_or_none(key.expires_ms),
    }
