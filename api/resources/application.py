"""GET /api/application: the caller's own settings, usage and key."""

from flask import Response
from flask_smorest import Blueprint

from api.answers import ok
from api.context import application_id, caller, respond, store
from api.guards import any_key
from api.schemas.application import OwnApplicationAnswerSchema
from api.views import Resource, no_query
from mech_queue.model.times import iso
from mech_queue.services import applications

blp = Blueprint("application", __name__, description="The caller's own application.")


@blp.route("/api/application")
class OwnApplication(Resource):
    """The application that the key belongs to."""

    @any_key
    @blp.response(200, OwnApplicationAnswerSchema())
    def get(self) -> Response:
        """The caller's own settings, usage and key"""
        no_query()
        found = applications.get(store(), application_id())
        who = caller()
        return respond(
            ok(
                application={
                    "id": found.id,
                    "name": found.name,
                    "settings": found.settings.to_json(),
                    "usage": applications.usage(store(), found.id),
                    "key": {"id": who.key_id, "scopes": sorted(who.scopes), "master": who.master},
                    "createdAt": iso(found.created_ms),
                }
            )
        )
