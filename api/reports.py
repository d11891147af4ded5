"""What a worker's PUT or update says, validated (CONTRACT.md, ``PUT /api/jobs/{id}``)."""

from dataclasses import dataclass
from typing import Any

from mech_queue.model import metadata
from mech_queue.model.checks import Reader
from mech_queue.model.job import Report, ReportKind
from mech_queue.model.problems import Problems

MEMBERS = (
    "status",
    "progress",
    "result",
    "error",
    "metadata",
    "leaseToken",
    "leaseSeconds",
    "workerId",
    "retry",
)
STATUSES = ("started", "progress", "completed", "failed")
KINDS: dict[str, ReportKind] = {"progress": "progress", "completed": "complete", "failed": "fail"}
LEASE_S = (5, 86_400)  # shortest and longest


@dataclass(slots=True)
class Update:
    """One update: ``started`` takes the job, everything else is a report."""

    started: bool
    report: Report

    @property
    def has_more(self) -> bool:
        """Whether a ``started`` also carries something to keep."""
        told = self.report
        return told.result is not None or told.progress is not None or told.metadata is not None


def parse_update(
    job_id: str, value: dict[str, Any], members: dict[str, bytes], *, extra: tuple[str, ...] = ()
) -> Update:
    """A validated update of one job. Raises Refusal INVALID."""
    problems = Problems()
    reader = Reader(value, problems)
    reader.only((*extra, *MEMBERS))
    status = reader.choice("status", STATUSES)
    if value.get("status") is None:
        problems.add("status", f"is required: one of {', '.join(STATUSES)}")
    report = Report(
        job_id,
        KINDS.get(status or "", "progress"),
        lease_token=reader.key("leaseToken"),
        progress=_present(value, members, "progress"),
        result=members.get("result"),
        error=_present(value, members, "error"),
        retry=reader.boolean("retry") is not False,
        metadata=_patch(value.get("metadata"), problems),
        lease_ms=lease_ms(reader),
        worker_id=reader.key("workerId"),
    )
    problems.raise_any()
    return Update(status == "started", report)


def lease_ms(reader: Reader) -> int | None:
    """``leaseSeconds`` in ms."""
    seconds = reader.integer("leaseSeconds", *LEASE_S)
    return None if seconds is None else seconds * 1000


def _present(value: dict[str, Any], members: dict[str, bytes], name: str) -> bytes | None:
    """The exact text of a member; null counts as not given."""
    return None if value.get(name) is None else members[name]


def _patch(value: Any, problems: Problems) -> dict[str, Any] | None:
    if value is None:
        return None
    sentence = metadata.problem_of(value)
    if sentence:
        problems.add("metadata", sentence)
        return None
    found: dict[str, Any] = value
    return found
