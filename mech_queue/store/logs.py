"""The log lines of jobs, the newest 1,000 of each."""

from typing import TYPE_CHECKING

from mech_queue.store import keys
from mech_queue.store.connection import translated
from mech_queue.store.jobs import raw_id
from mech_queue.store.packing import unpack

if TYPE_CHECKING:
    from mech_queue.store.store import Store


class Logs:
    """Appends and reads. Both raise Refusal."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def append(self, application_id: str, job_id: str, lines: list[str]) -> int:
        """Append lines; returns how many are kept."""
        args = {"id": raw_id(job_id), "lines": lines}
        return int(self._store.scripts.run("job_log", application_id, args))

    def read(self, application_id: str, job_id: str, start: int, limit: int) -> tuple[int, list[tuple[int, str]]]:
        """The lines from number ``start`` on that are still kept: the number of the first, and (unix ms, line) each."""
        place, raw, dropped = keys.prefix(application_id), raw_id(job_id), 0
        while True:
            at = max(0, start - dropped)
            with translated():
                pipe = self._store.redis.pipeline(transaction=True)
                pipe.hget(place + b"x:" + raw, "ld")
                pipe.lrange(place + b"logs:" + raw, at, at + limit - 1)
                found, rows = pipe.execute()
            if int(found or 0) == dropped:
                lines = [(int(ms), line.decode("utf-8", "replace")) for ms, line in map(unpack, rows)]
                return dropped + at, lines
            dropped = int(found)
