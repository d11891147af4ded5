"""One file per noun; each makes a flask-smorest Blueprint ``blp``. List it here to serve and document it."""

from flask_smorest import Blueprint


def blueprints() -> list[Blueprint]:
    """All resources, in the order in which the documentation shows them."""
    from api.resources import events, health

    return [
        events.blp,
        health.blp,
    ]
