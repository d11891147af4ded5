"""A user's Celery app, whose plain task serves the queue ``native``."""

import os
import time

from celery import Celery

import mech_queue.celery

app = Celery("user", broker=os.environ["BROKER_URL"])
if os.environ.get("BROKER_PRIMARY"):
    app.conf.broker_transport_options = {"master_name": os.environ["BROKER_PRIMARY"]}
mech_queue.celery.install(app)


@app.task(name="native")
def native(number: int) -> dict[str, int]:
    """What the HTTP worker of these tests does, too: a little time, and the data back."""
    time.sleep(0.01)
    return {"number": number}
