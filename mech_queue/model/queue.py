"""A queue: what may be set on it and what is counted."""

from dataclasses import dataclass, field

SAMPLE_MS = 10_000
"""The scripts keep the counters at most this often (``sample`` in lua/lib/job.lua), so rates are exact to it."""

COUNTERS = ("submitted", "completed", "failed")


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

    def within(self, ms: int, totals: dict[str, int], now_ms: int) -> dict[str, int]:
        """How much each of COUNTERS has grown in the last ``ms`` (at most 60,000); ``totals``: what they are now."""
        lines = self.fields.get("samples", "").split(";")
        samples = [[int(number) for number in line.split(",")] for line in lines if line]
        samples.append([now_ms, *(totals.get(name, 0) for name in COUNTERS)])
        since = now_ms - ms
        at = max((place for place, sample in enumerate(samples) if sample[0] <= since), default=0)
        before, after = samples[at], samples[min(at + 1, len(samples) - 1)]
        # a sample is taken before a change, and the next one by the first change 10 s later: so what came between
        # two samples came within 10 s of the first
        share = min(1.0, max(0, since - before[0]) / SAMPLE_MS)
        return {
            name: samples[-1][place] - round(before[place] + share * (after[place] - before[place]))
            for place, name in enumerate(COUNTERS, 1)
        }
