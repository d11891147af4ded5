"""An ordinary Celery application whose workers also run mech-queue jobs.

Needs only the library with its extra ``[celery]``, and the address of the store in ``REDIS_URL``:

    celery -A examples.celery_worker worker -E -Q celery,jobs.<application id>.emails,jobs.<application id>.reports

A job runs the task that carries its ``task`` name, which is its queue's name unless the job says otherwise.
Tasks stay plain functions, and ``send_email.delay(...)`` stays ordinary Celery on the queue ``celery``.
"""

import os
import time
from typing import Any

from celery import Celery

import mech_queue.celery
from mech_queue.celery import current_job

app = Celery("examples", broker=os.environ["REDIS_URL"])
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True

# The one line. With application="*" the worker finds applications and queues by itself, and needs no -Q.
mech_queue.celery.install(app)


@app.task(name="emails", autoretry_for=(ConnectionError,), max_retries=5, retry_backoff=True)
def send_email(to: str, subject: str = "", **_: Any) -> dict[str, Any]:
    """Data that is an object arrives as keyword arguments; the return value is the job's result."""
    return {"sent": True, "to": to, "subject": subject}


@app.task(name="reports")
def build_report(pages: int = 3) -> dict[str, int]:
    """Reports progress when it runs as a job; by ``.delay()`` it is the same body without a job."""
    job = current_job()
    for page in range(1, pages + 1):
        time.sleep(0.05)  # the work
        if job is not None:
            job.check_cancelled()
            job.progress({"page": page, "of": pages})
    return {"pages": pages}


@app.task(name="failing")
def failing() -> None:
    """Its error, with the traceback, is the job's; the job's ``attempts`` decide what follows."""
    raise RuntimeError("this one always fails")
