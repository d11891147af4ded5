"""The Celery message that wakes a worker, rendered once here and filled in by the scripts.

Protocol 2 of Celery in the form of kombu's Redis transport (docs.celeryq.dev, "Message Protocol"). A
wake-up names a place where work waits: no job, no payload. ``@name@`` are the places the script fills.
A test compares it with what ``send_task`` writes.
"""

import json

FORMAT = 1  # of the ``mq`` header
WAKE_TASK = "mech_queue.wake"  # header mq = [FORMAT, application id, queue]
STAGE_TASKS = {"subscriptions": "mech_queue.match", "webhooks": "mech_queue.deliver"}  # args = [shard]


def template() -> str:
    """The message with its open places: @id@ @task@ @args@ @mq@ @queue@."""
    body = json.dumps([[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    headers = {
        "lang": "py",
        "task": "@task@",
        "id": "@id@",
        "root_id": "@id@",
        "parent_id": None,
        "group": None,
        "shadow": None,
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": "(@args@)",
        "kwargsrepr": "{}",
        "origin": "mech-queue",
        "ignore_result": True,
        "mq": "@mq@",
    }
    message = {
        "body": body.replace("[[],", "[[@args@],", 1),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "correlation_id": "@id@",
            "reply_to": None,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "@queue@"},
            "priority": 0,
            "delivery_tag": "@id@",
        },
    }
    return json.dumps(message, separators=(",", ":")).replace('"@mq@"', "@mq@")
