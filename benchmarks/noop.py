"""A Celery app with one task that does nothing; what it is measured as comes from the environment."""

import os

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
