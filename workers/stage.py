"""One stage's Celery worker: ``python -m workers.stage webhooks`` (or ``subscriptions``) becomes it."""

import os
import sys

from config.settings import load
from mech_queue.store.wakeups import STAGE_TASKS
from workers.commands import celery_worker


def main() -> None:
    """Check the settings, then become the Celery worker."""
    if len(sys.argv) != 2 or sys.argv[1] not in STAGE_TASKS:
        print(f"usage: python -m workers.stage {'|'.join(STAGE_TASKS)}", file=sys.stderr)
        raise SystemExit(2)
    command = celery_worker(sys.argv[1], load())
    # As root in a container Celery warns at length of pickled messages; these stages accept JSON only.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:You're running the worker with superuser privileges")
    sys.stdout.flush()
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
