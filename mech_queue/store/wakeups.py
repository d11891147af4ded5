"""The Celery message that wakes a worker, rendered once here and filled in by the scripts.

Protocol 2 of Celery in the form of kombu's Redis transport (docs.celeryq.dev, "Message Protocol"). A
wake-up names a place where work waits: no job, no payload. ``@name@`` are the places the script fills.
A test compares it with what ``send_task`` writes. Another broker than the store gets the same message
from Python, which fills the places in ``message``.
"""

import json
from typing import TYPE_CHECKING, Any

from mech_queue.store import keys

if TYPE_CHECKING:
    from mech_queue.store.store import Store

FORMAT = 1  # of the ``mq`` header
WAKE_TASK = "mech_queue.wake"  # header mq = [FORMAT, application id, queue]
STAGE_TASKS = {"subscriptions": "mech_queue.match", "webhooks": "mech_queue.deliver"}  # stage: task, args = [shard]


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


COUNTED = "counted"
"""Header of a wake-up that another broker carries: its arrival is told to the store."""


def message(name: str, identifier: str) -> dict[str, Any]:
    """The wake-up of the broker queue ``name``, for a broker that no script reaches."""
    application_id, queue, shard = _place_of(name)
    places = {"id": identifier, "queue": name}
    if shard is None:
        places |= {"task": WAKE_TASK, "args": "", "mq": json.dumps([FORMAT, application_id, queue])}
    else:
        places |= {"task": STAGE_TASKS[queue], "args": str(shard), "mq": "null"}
    text = template()
    for place, filling in places.items():
        text = text.replace(f"@{place}@", filling)
    rendered: dict[str, Any] = json.loads(text)
    rendered["headers"][COUNTED] = True
    return rendered


def arrived(store: "Store", name: str, number: int) -> None:
    """So many wake-ups of the broker queue ``name`` have reached a worker. Raises Refusal."""
    _correct(store, name, {"arrived": number})


def waiting(store: "Store", name: str, number: int, generation: int) -> None:
    """So many wait in the broker; ignored when others have counted since ``generation``. Raises Refusal."""
    _correct(store, name, {"waiting": number, "generation": generation})


def _correct(store: "Store", name: str, args: dict[str, int]) -> None:
    application_id, queue, shard = _place_of(name)
    store.scripts.run("wakeups_counted", application_id, {"queue": queue, **args}, shard=shard)


def _place_of(name: str) -> tuple[str, str, int | None]:
    """(application id, queue, None), or a stage's (``~``, its name, shard)."""
    first, rest = name.split(".", 1)
    if first in STAGE_TASKS:
        return keys.DELIVERIES, first, int(rest)
    application_id, queue = rest.split(".", 1)
    return application_id, queue, None
