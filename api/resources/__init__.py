"""One file per noun; each makes a flask-smorest Blueprint ``blp``. List it here to serve and document it."""

import importlib

from flask_smorest import Blueprint

MODULES = (
    "jobs",
    "job_work",
    "job_control",
    "job_insight",
    "queues",
    "workers",
    "operations",
    "applications",
    "subscriptions",
    "deliveries",
    "schedules",
    "events",
    "application",
    "health",
)
"""In the order in which the documentation shows them."""


def blueprints() -> list[Blueprint]:
    """All resources, each once (several files may fill one blueprint)."""
    found = [importlib.import_module(f"{__name__}.{name}").blp for name in MODULES]
    return list(dict.fromkeys(found))
