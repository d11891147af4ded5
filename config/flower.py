"""Flower's configuration file: ``celery -A tasks.app flower --conf=config/flower.py``.

Flower reads the names of this module as its options: read-only, with a login, on loopback unless
FLOWER_ADDRESS says otherwise. Its own /metrics and /healthcheck need no login, hence loopback.
"""

import logging as _logging  # not "logging": that is one of Flower's options
import os as _os
import sys

from flower import command as _command

from config import logging as logs
from config.settings import load

_settings = load()
if ":" not in _settings.flower_basic_auth:
    print(
        "Flower does not start without a login: set FLOWER_BASIC_AUTH=user:password (or its _FILE).",
        file=sys.stderr,
    )
    raise SystemExit(1)

logs.configure(_settings, "flower")
_logging.getLogger("flower.inspector").setLevel(_logging.ERROR)  # it warns of every worker that is not up yet


def _end(_signal: int, _frame: object) -> None:
    """In place of Flower's own: that raises SystemExit, which Python drops in the callback of a weak reference,
    and which waits for a thread that asks the workers for ever while the broker is away. It keeps nothing."""
    _os._exit(0)


_command.sigterm_handler = _end

address = _settings.flower_address
port = _settings.flower_port
basic_auth = [_settings.flower_basic_auth]
read_only = True
persistent = False
purge_offline_workers = 300  # seconds; else every restarted worker stays as a series for ever
max_tasks = 20_000
