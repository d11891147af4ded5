"""A producer: submits a job with a webhook and waits for its result."""

import os
import sys

from mech_queue.client import Client

client = Client(os.environ.get("MECH_QUEUE_URL", "http://localhost:3003"), os.environ["APPLICATION_API_KEY"])
queue = sys.argv[1] if len(sys.argv) > 1 else "email"

job = client.submit(
    queue,
    {"to": "ada@example.com", "subject": "Welcome!"},
    metadata={"customerId": "cust-123", "type": "transactional"},
    webhooks={"completed": os.environ.get("RECEIVER_URL", "http://localhost:9000/done")},
    attempts=3,
)
print("submitted", job.id)
done = job.wait(timeout_s=60)
print(done.status, done.result)
