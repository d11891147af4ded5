"""The smaller nouns of the API: they answer the objects of the wire, as the API's own pages show them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mech_queue._http.transport import Transport, segment

Object = dict[str, Any]


class Queues:
    """``client.queues``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Object]:
        """All queues with settings and counts."""
        return self._transport.pages("/api/queues", "queues", {})

    def get(self, queue: str) -> Object:
        """Settings and counts of one queue."""
        return dict(self._transport.request("GET", _queue(queue))["queue"])

    def stats(self, queue: str) -> Object:
        """Flat numbers for an autoscaler."""
        return self._transport.request("GET", f"{_queue(queue)}/stats")

    def change(self, queue: str, **settings: Any) -> Object:
        """Change settings (``concurrency``, ``concurrencyPerKey``, ``rateLimit``, …); makes the queue."""
        return dict(self._transport.request("PATCH", _queue(queue), settings, safe=True)["queue"])

    def pause(self, queue: str) -> Object:
        """Start no more jobs of it."""
        return self._act(queue, "pause")

    def resume(self, queue: str) -> Object:
        """Start jobs again."""
        return self._act(queue, "resume")

    def drain(self, queue: str) -> Object:
        """Refuse new jobs and finish the rest."""
        return self._act(queue, "drain")

    def purge(self, queue: str) -> Object:
        """Drop everything that waits."""
        return self._act(queue, "purge")

    def delete(self, queue: str) -> None:
        """Forget an empty queue."""
        self._transport.request("DELETE", _queue(queue))

    def _act(self, queue: str, action: str) -> Object:
        return self._transport.request("POST", f"{_queue(queue)}/{action}", safe=True)


class Collection:
    """Things that are created, listed, read, changed and deleted by id."""

    def __init__(self, transport: Transport, path: str, many: str, one: str) -> None:
        self._transport = transport
        self._path = path
        self._many = many
        self._one = one

    def create(self, **members: Any) -> Object:
        """Make one; secrets in the answer are shown only this once."""
        return dict(self._transport.request("POST", self._path, members)[self._one])

    def list(self, **filters: Any) -> Iterator[Object]:
        """All of them, page by page."""
        return self._transport.pages(self._path, self._many, filters)

    def get(self, identifier: str) -> Object:
        """One of them."""
        return dict(self._transport.request("GET", self._of(identifier))[self._one])

    def change(self, identifier: str, **members: Any) -> Object:
        """Change the members that are given."""
        return dict(self._transport.request("PATCH", self._of(identifier), members, safe=True)[self._one])

    def delete(self, identifier: str) -> None:
        """Remove one."""
        self._transport.request("DELETE", self._of(identifier))

    def act(self, identifier: str, action: str, method: str = "POST", **members: Any) -> Object:
        """Any action below one of them, such as ``act(id, "test")``."""
        return self._transport.request(method, f"{self._of(identifier)}/{action}", members or None)

    def _of(self, identifier: str) -> str:
        return f"{self._path}/{segment(identifier)}"


class Subscriptions(Collection):
    """``client.subscriptions``: told by webhook of every job that fits."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, "/api/subscriptions", "subscriptions", "subscription")

    def test(self, identifier: str) -> Object:
        """Send a test event to it."""
        return self.act(identifier, "test")

    def rotate_secret(self, identifier: str) -> Object:
        """A new secret; the old one signs along for a while."""
        return self.act(identifier, "rotate-secret")

    def replay(self, identifier: str, since: str) -> Object:
        """Send again what happened since that time."""
        return self.act(identifier, "replay", since=since)


class Schedules(Collection):
    """``client.schedules``: jobs by cron, interval or date."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, "/api/schedules", "schedules", "schedule")

    def toggle(self, identifier: str, **members: Any) -> Object:
        """Switch it on or off."""
        return self.act(identifier, "toggle", "PATCH", **members)

    def execute(self, identifier: str) -> Object:
        """Submit its job now."""
        return self.act(identifier, "execute")

    def runs(self, identifier: str) -> Iterator[Object]:
        """What it has submitted."""
        return self._transport.pages(f"{self._of(identifier)}/runs", "runs", {})


class Applications(Collection):
    """``client.applications``: needs the master key."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, "/api/applications", "data", "data")

    def create_key(self, identifier: str, **members: Any) -> Object:
        """One more key (``scopes``, ``name``); shown once."""
        return self.act(identifier, "keys", **members)

    def delete_key(self, identifier: str, key_id: str) -> None:
        """Stop a key within 5 s."""
        self._transport.request("DELETE", f"{self._of(identifier)}/keys/{segment(key_id)}")

    def rotate_webhook_secret(self, identifier: str) -> Object:
        """A new secret for the application's job webhooks."""
        return self.act(identifier, "rotate-webhook-secret")


class Deliveries(Collection):
    """``client.deliveries``: every webhook that was sent or is to be sent."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, "/api/deliveries", "deliveries", "delivery")

    def replay(self, identifier: str) -> Object:
        """Send the same bytes again."""
        return self.act(identifier, "replay")


def events(transport: Transport, last_event_id: str | None, filters: Mapping[str, Any]) -> Iterator[Object]:
    """Server-sent events until the connection ends: ``{"id", "event", "data"}`` (data parsed)."""
    headers = {"Accept": "text/event-stream"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    answer = transport.send("GET", "/api/events", query=filters, headers=headers, stream=True)
    with answer:
        found: Object = {}
        for line in answer.iter_lines(chunk_size=1):
            if not line:
                if "data" in found:
                    found["data"] = json.loads(found["data"])
                    yield found
                found = {}
                continue
            name, _, value = line.decode().partition(":")
            if name in ("id", "event"):
                found[name] = value.removeprefix(" ")
            elif name == "data":
                text = value.removeprefix(" ")
                found["data"] = f"{found['data']}\n{text}" if "data" in found else text


def _queue(queue: str) -> str:
    return f"/api/queues/{segment(queue)}"
