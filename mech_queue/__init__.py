"""mech-queue: a background job service for many applications.

The library half of the service. Nothing is imported here, so that a webhook receiver or an
HTTP client pays only for what it uses:

* ``mech_queue.client.Client`` and ``mech_queue.worker.Worker`` need ``requests`` only,
* ``mech_queue.webhooks.verify`` needs the standard library only,
* ``mech_queue.celery.install`` makes a Celery app a native worker (extra ``[celery]``).
"""

__version__ = "0.1.0"
