"""Items of one batch that depend on each other by name (``ref`` and ``#ref``).

Their ids are made before anything is submitted, names are replaced by ids, and parents go first.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from mech_queue.model.checks import check_key
from mech_queue.model.errors import Refusal
from mech_queue.model.ids import job_id_text, new_job_id
from mech_queue.model.job import JobSpec
from mech_queue.model.problems import invalid


@dataclass(slots=True)
class Linked:
    """The names of a batch. ``ids`` is empty when no item has a name."""

    names: dict[str, int] = field(default_factory=dict)  # name -> place
    doubled: set[str] = field(default_factory=set)
    ids: list[bytes] = field(default_factory=list)

    def check(self, value: dict[str, Any]) -> None:
        """Refuse an item whose own name is no good."""
        name = value.get("ref")
        if name is None:
            return
        sentence = check_key(name)
        if sentence:
            raise invalid("ref", sentence)
        if name in self.doubled:
            raise invalid("ref", "names two items of this batch")

    def ordered(self, specs: list[JobSpec | Refusal]) -> list[int]:
        """All places, parents before their dependants; replaces names by ids in ``specs``.

        What depends on itself, over any number of items, becomes a refusal.
        """
        order: list[int] = []
        done: set[int] = set()
        for first in range(len(specs)):
            self._visit(first, specs, order, done)
        for place, spec in enumerate(specs):
            if isinstance(spec, JobSpec):
                specs[place] = replace(spec, depends_on=tuple(map(self._id, spec.depends_on)))
        return order

    def _visit(self, first: int, specs: list[JobSpec | Refusal], order: list[int], done: set[int]) -> None:
        """Depth first without recursion: a chain may be as long as the batch."""
        stack: list[tuple[int, list[int]]] = [(first, self._parents(specs[first]))] if first not in done else []
        open_places = {first}
        while stack:
            place, parents = stack[-1]
            parent = parents.pop() if parents else None
            if parent is None:
                stack.pop()
                open_places.discard(place)
                done.add(place)
                order.append(place)
            elif parent in open_places:
                specs[place] = invalid("options.dependsOn", "leads back to the item itself")
            elif parent not in done:
                open_places.add(parent)
                stack.append((parent, self._parents(specs[parent])))

    def _parents(self, spec: JobSpec | Refusal) -> list[int]:
        if isinstance(spec, Refusal):
            return []
        return [self.names[one[1:]] for one in reversed(spec.depends_on) if one.startswith("#")]

    def _id(self, parent: str) -> str:
        return job_id_text(self.ids[self.names[parent[1:]]]) if parent.startswith("#") else parent


def link(values: list[Any]) -> Linked:
    """The names of these items, with an id for each item when there are any."""
    linked = Linked()
    for place, value in enumerate(values):
        name = value.get("ref") if isinstance(value, dict) else None
        if isinstance(name, str):
            if name in linked.names:
                linked.doubled.add(name)
            linked.names[name] = place
    if linked.names:
        linked.ids = [new_job_id() for _ in values]
    return linked
