"""A Celery app with a task that does nothing; what it is measured as comes from the environment."""

import os
import time

import redis
from celery import Celery

app = Celery("noop", broker=os.environ["BROKER_URL"])
app.conf.update(
    task_default_queue=os.environ["QUEUE"],
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
if os.environ["KIND"] == "celery, state tracked":
    app.conf.update(result_backend=os.environ["BACKEND_URL"], task_track_started=True)
elif os.environ["KIND"] == "mech-queue":
    import mech_queue.celery

    mech_queue.celery.install(app, store_url=os.environ["BROKER_URL"])


@app.task(name="noop")
def noop() -> None:
    """Nothing."""


@app.task(name="stamp")
def stamp(sent: float) -> None:
    """An ordinary task: how many seconds after it was sent it began goes to the list ``began``."""
    late = time.time() - sent
    with redis.Redis.from_url(os.environ["BROKER_URL"]) as client:
        client.rpush("began", late)
