"""Jobs of mech-queue run by an ordinary Celery worker.

    from celery import Celery
    import mech_queue.celery

    app = Celery("shop", broker="redis://localhost:6379/0")
    mech_queue.celery.install(app)

    @app.task(name="emails")
    def send_email(to, subject):
        ...

Then ``celery -A shop worker -Q celery,jobs.<application id>.emails``. Tasks stay plain, ``.delay()`` stays
Celery. See docs/native-worker.md.
"""

try:
    import celery as _celery  # noqa: F401
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("mech_queue.celery needs Celery: install mech-queue[celery]") from missing

from mech_queue.celery.current import CurrentJob, JobCancelled, current_job
from mech_queue.celery.install import install
from mech_queue.celery.options import Options

__all__ = ["CurrentJob", "JobCancelled", "Options", "current_job", "install"]
