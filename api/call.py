"""One request of a hot route, free of any framework; both lanes make it and call the same handlers."""

from dataclasses import dataclass
from typing import Any

from api import bodies
from api.runtime import Runtime
from mech_queue.model.application import Caller
from mech_queue.model.problems import invalid
from mech_queue.model.strict_json import Parsed
from mech_queue.store import Store


@dataclass(slots=True)
class Call:
    """What a handler gets. ``target`` is the variable part of the path (a job's id, a queue's name)."""

    runtime: Runtime
    caller: Caller
    environ: dict[str, Any]
    body: bytes
    target: str = ""

    @property
    def store(self) -> Store:
        """The store."""
        return self.runtime.store

    @property
    def application_id(self) -> str:
        """The application that the caller acts for."""
        return self.caller.application_id

    def query(self) -> dict[str, str]:
        """The query string, strictly read."""
        return bodies.parse_query(str(self.environ.get("QUERY_STRING", "")))

    def no_query(self) -> None:
        """Refuse any query name."""
        if self.environ.get("QUERY_STRING"):
            for name in self.query():
                raise invalid(name, "is not a known name here")

    def object(self, example: str = "") -> Parsed:
        """The body, which must be an object (like ``example``)."""
        return bodies.object_body(self.environ, self.body, example)
