"""Logs: JSON lines, or coloured lines for people on a terminal. Everything goes to stderr.

Log events are constants, data goes into fields: ``log.info("delivery failed", delivery=id)``. The
standard library's loggers (Celery, granian, Flower) pass through the same lines. A request binds
its id with ``bind_request``; every line that the request causes then carries it.
"""

import logging
import sys
from contextvars import ContextVar
from typing import Any

import structlog

from config.settings import Settings

_NOISY = ("urllib3", "kombu", "amqp", "tornado.access", "asyncio", "celery.worker.strategy", "celery.app.trace")
"""Libraries that log each step; a wake-up is no news; only their warnings are of use."""


def configure(settings: Settings, process: str) -> None:
    """Set up logging of this process; ``process`` (api, webhooks, scheduler …) stands in every line."""
    shared: list[Any] = [
        _with_request,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with(process),
    ]
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if _for_people(settings):
        last.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0))
    else:
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    logging.captureWarnings(True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for sentence in settings.warnings:
        logging.getLogger("config").warning(sentence)


_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def bind_request(request_id: str) -> None:
    """Put the request id into every line of this thread until ``unbind_request``."""
    _request_id.set(request_id)


def unbind_request() -> None:
    """Forget what ``bind_request`` bound."""
    _request_id.set(None)


def _with_request(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    request_id = _request_id.get()
    if request_id is not None:
        event["request_id"] = request_id
    return event


def _for_people(settings: Settings) -> bool:
    return settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())


def _with(process: str) -> Any:
    def add(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
        event["process"] = process
        return event

    return add
