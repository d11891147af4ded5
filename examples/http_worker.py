"""A worker over HTTP: needs an address, a key, and nothing of the service's insides."""

import os

from mech_queue.client import Client
from mech_queue.worker import Worker

client = Client(os.environ.get("MECH_QUEUE_URL", "http://localhost:3003"), os.environ["APPLICATION_API_KEY"])
worker = Worker(client, concurrency=8)


@worker.queue("email")
def send_email(job):
    job.progress(50)
    print("sending to", job.data["to"], flush=True)
    return {"sent": job.data["to"]}


worker.run()  # until SIGTERM or Ctrl-C; running jobs finish first
