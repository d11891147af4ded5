"""A queue: what may be set on it and what is counted."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class QueueRecord:
    """A queue as the store knows it: its hash as texts, and its jobs per state."""

    name: str
    fields: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def paused(self) -> bool:
        """Nothing is started while this holds."""
        return self.fields.get("paused") == "1"

    @property
    def draining(self) -> bool:
        """Nothing new is accepted while this holds."""
        return self.fields.get("draining") == "1"

    def number(self, name: str) -> int | None:
        """A numeric field, or None."""
        value = self.fields.get(name)
        return int(float(value)) if value is not None else None
