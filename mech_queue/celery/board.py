"""What the processes of a prefork pool run right now, in memory that all of them share.

A process that goes on with its next job by itself (series.py) tells the main one through the pool's pipe, which that
reads when its loop turns. Who cannot wait for this looks here: the lease thread, and whoever stops a process because
of a job that it may have ended meanwhile.
"""

import mmap
import os
import time
from dataclasses import astuple, dataclass
from typing import Any

from mech_queue.celery.held import HeldJob

PROCESSES = 256
ENTRY_BYTES = 512
"""More of them, or longer ones, are not written: such a process asks the main one for each job."""

LENGTH_BYTES = 2
LOOKS = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """A job that process ``pid`` has: it runs it (``begun``), or has claimed it for the main process to start."""

    application_id: str
    queue: str
    job_id: str
    lease_token: str
    pid: int
    begun: bool

    @classmethod
    def of(cls, held: HeldJob, begun: bool) -> "Entry":
        """That of a job that this very process has."""
        return cls(held.application_id, held.place.queue, held.id, held.job.lease_token, os.getpid(), begun)


class Board:
    """An entry for each process of the pool, by its number there. Made before the processes are forked."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, (PROCESSES + 1) * ENTRY_BYTES)  # pages that nobody writes cost nothing

    @property
    def open(self) -> bool:
        """May processes go on by themselves? The main process says so, with each turn of its loop."""
        return self._memory[0] == 1

    @open.setter
    def open(self, value: bool) -> None:
        self._memory[0] = int(value)

    def write(self, number: int, entry: Entry) -> bool:
        """From now on process ``number`` has that job. False: there is no room to say so."""
        self.clear(number)  # a reader that comes in between finds nothing, or sees that it has changed
        text = "\0".join(map(str, astuple(entry))).encode()
        if number >= PROCESSES or len(text) > ENTRY_BYTES - LENGTH_BYTES:
            return False
        at = (number + 1) * ENTRY_BYTES
        self._memory[at + LENGTH_BYTES : at + LENGTH_BYTES + len(text)] = text
        self._memory[at : at + LENGTH_BYTES] = len(text).to_bytes(LENGTH_BYTES, "big")
        return True

    def clear(self, number: int) -> None:
        """Process ``number`` has no job, or one that the main process knows."""
        if number < PROCESSES:
            at = (number + 1) * ENTRY_BYTES
            self._memory[at : at + LENGTH_BYTES] = bytes(LENGTH_BYTES)

    def read(self, number: int) -> Entry | None:
        """What process ``number`` has; None: nothing that stands here. It may have ended meanwhile."""
        at = (number + 1) * ENTRY_BYTES
        for _ in range(LOOKS if number < PROCESSES else 0):
            once, again = self._memory[at : at + ENTRY_BYTES], self._memory[at : at + ENTRY_BYTES]
            length = int.from_bytes(once[:LENGTH_BYTES], "big")
            if once == again:
                return _entry(once[LENGTH_BYTES : LENGTH_BYTES + length]) if length else None
            time.sleep(0.0001)  # it was just being written, which takes a microsecond
        return None

    def all(self) -> list[Entry]:
        """What all of them have or, where they have ended, had."""
        return [entry for number in range(PROCESSES) if (entry := self.read(number))]

    def of(self, process: Any) -> Entry | None:
        """What this process of a pool has, and not one before it with the same number."""
        entry = self.read(process.index)
        return entry if entry and entry.pid == process.pid else None

    def running(self, pool: Any) -> list[Entry]:
        """What the processes of ``pool`` run."""
        return [entry for process in processes(pool) if (entry := self.of(process)) and entry.begun]


def _entry(text: bytes) -> Entry:
    application_id, queue, job_id, lease_token, pid, begun = text.decode().split("\0")
    return Entry(application_id, queue, job_id, lease_token, int(pid), begun == "True")


def processes(pool: Any) -> list[Any]:
    """The processes of a prefork pool; none of other pools."""
    return list(getattr(getattr(pool, "_pool", None), "_pool", ()))


def process_by(pool: Any, pid: int | None) -> Any:
    """That process of the pool, None when there is none (any more)."""
    return next((process for process in processes(pool) if process.pid == pid), None)
