"""One application with its receivers, on a real store, and a clock that only the test moves."""

import json
from typing import Any

import pytest

from mech_queue.model.address import AddressPolicy
from mech_queue.model.delivery import DeliveryQuery, DeliveryRecord
from mech_queue.model.errors import Refusal
from mech_queue.model.job import JobSpec, Report
from mech_queue.model.metadata import fields_of
from mech_queue.outbound import Sender
from mech_queue.services import applications, deliveries, events, subscriptions
from mech_queue.store import Store, keys

LOOPBACK = AddressPolicy(["127.0.0.0/8"])


class Pipeline:
    """One application, its receiver, and a clock that only the test moves."""

    def __init__(self, store: Store, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mech_queue.model.address._policy", LOOPBACK)
        self.store = store
        self.sender = sender
        made = applications.create(store, "test")
        self.application_id = made.application.id
        self.secret = made.webhook_secret
        self.shard = keys.shard_of(self.application_id)
        self.now = 1_764_000_000_000
        store.scripts.clock = lambda: self.now

    def submit(self, **spec: Any) -> str:
        """A job; metadata as a dict."""
        metadata = spec.pop("metadata", {})
        full = JobSpec(
            queue=spec.pop("queue", "email"),
            data=spec.pop("data", b'{"to": "a", "n": 100000000000000000000, "a": []}'),
            metadata=json.dumps(metadata).encode(),
            fields=fields_of(metadata),
            **spec,
        )
        answer = self.store.jobs.submit(self.application_id, [full])[0]
        assert not isinstance(answer, Refusal)
        return answer.job_id

    def report(self, job_id: str, kind: Any, **more: Any) -> None:
        """What its worker says."""
        answer = self.store.jobs.report(self.application_id, [Report(job_id, kind, **more)])[0]
        assert not isinstance(answer, Refusal), answer

    def subscribe(self, url: str, **body: Any) -> subscriptions.Created:
        """A subscription to ``completed``, unless told otherwise."""
        return subscriptions.create(
            self.store,
            self.application_id,
            {"name": "watch", "endpoint": url, "events": ["completed"], **body},
        )

    def match(self) -> int:
        """Match everything."""
        return events.match(self.store, self.shard, 10)

    def deliver(self) -> int:
        """Send everything that may be sent now."""
        sent = 0
        while deliveries.deliver_next(self.store, self.sender, self.shard):
            sent += 1
        return sent

    def advance(self, ms: int) -> None:
        """Let time pass and run what is due."""
        self.now += ms
        while self.store.maintenance.run(self.shard, keys.DELIVERIES)[0]:
            pass

    def run(self) -> int:
        """Match and deliver."""
        self.match()
        return self.deliver()

    def find(self, **query: Any) -> list[DeliveryRecord]:
        """Deliveries, newest first."""
        return deliveries.search(self.store, self.application_id, DeliveryQuery(**query)).deliveries

    def neighbour(self) -> str:
        """Another application in the same shard."""
        while True:
            made = applications.create(self.store, "stranger").application.id
            if keys.shard_of(made) == self.shard:
                return made

    def only(self) -> DeliveryRecord:
        """The one delivery there is, with its attempts."""
        (found,) = self.find()
        return deliveries.get(self.store, self.application_id, found.id)
