"""Events: the closed list, and when each happens.

Every transition that has an occasion here writes exactly one event (an implicit start writes
``started`` and then the report's own), with a gap-free ``sequence`` per job. Promoting, postponing,
giving back unstarted, deleting and a change of priority have none.
"""

from enum import StrEnum


class EventType(StrEnum):
    """The occasions somebody can be told about."""

    CREATED = "created"  # submitted, whatever its first state
    STARTED = "started"  # a worker took it
    PROGRESS = "progress"  # its worker reported progress
    COMPLETED = "completed"
    FAILED = "failed"  # for good; a failure that will be repeated is RETRYING
    CANCELLED = "cancelled"
    RETRYING = "retrying"  # failed, and waiting for its next attempt
    STALLED = "stalled"  # its lease ran out and it went back to its queue

    @property
    def bit(self) -> int:
        """Its bit in the masks by which the scripts decide whether anybody can match."""
        return 1 << ORDER.index(self)

    @property
    def letter(self) -> str:
        """Its one-letter form in the store."""
        return LETTERS[ORDER.index(self)]


ORDER = tuple(EventType)
LETTERS = "nspcfxrt"
BY_LETTER = dict(zip(LETTERS, ORDER, strict=True))

# What a job webhook may name; "*" stands for these six (CONTRACT.md, Jobs).
WEBHOOK_EVENTS = (
    EventType.STARTED,
    EventType.PROGRESS,
    EventType.COMPLETED,
    EventType.FAILED,
    EventType.CANCELLED,
    EventType.RETRYING,
)


def mask(types: list[str]) -> int:
    """The mask of event names as subscriptions give them; ``*`` means all of them."""
    if "*" in types:
        return (1 << len(ORDER)) - 1
    bits = 0
    for name in types:
        bits |= EventType(name).bit
    return bits


def webhook_mask(webhooks: dict[str, str]) -> int:
    """The mask of the events a job's own webhooks ask for; ``*`` means the six of WEBHOOK_EVENTS."""
    bits = 0
    for name in webhooks:
        for event in WEBHOOK_EVENTS if name == "*" else (EventType(name),):
            bits |= event.bit
    return bits
