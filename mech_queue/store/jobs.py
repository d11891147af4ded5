"""Jobs in the store: one method per entry point of ``lua/job_*.lua``."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from mech_queue.model import strict_json
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.event import webhook_mask
from mech_queue.model.ids import job_id_bytes, job_id_text, new_job_id, new_lease_token
from mech_queue.model.job import (
    BY_LETTER,
    Claim,
    JobRecord,
    JobSpec,
    Report,
    Reported,
    Started,
    State,
    Submitted,
)
from mech_queue.model.metadata import fields_of, merge
from mech_queue.store import job_codec, keys
from mech_queue.store.connection import translated
from mech_queue.store.digest import digest
from mech_queue.store.packing import unpack
from mech_queue.store.scripts import refusal

if TYPE_CHECKING:
    from mech_queue.store.store import Store

BATCH = 100  # jobs per script run; the store answers nobody else meanwhile (some 5 ms)
STEP = 25  # … where each costs more: bulk operations, reports
MERGES = 20  # tries of a metadata merge against concurrent ones


def missing() -> Refusal:
    """The refusal for a job that does not exist, or is another application's."""
    return Refusal(Code.NOT_FOUND, "There is no such job.")


def raw_id(job_id: str) -> bytes:
    """The 16 bytes of a job id; raises Refusal(NOT_FOUND) for what cannot be one."""
    found = job_id_bytes(job_id)
    if found is None:
        raise missing()
    return found


class Unmatched(Refusal):
    """A job cannot be retried yet: its last events are still being matched, which takes a moment."""

    def __init__(self) -> None:
        super().__init__(
            Code.CONFLICT, "The last events of this job are still being handed out; try again in a moment."
        )


class Jobs:
    """All transitions of jobs. Every method raises Refusal; nothing here is cached."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def _run(
        self, name: str, application_id: str, args: dict[str, Any], *, idempotent: bool = False, alone: bool = False
    ) -> Any:
        return self._store.scripts.run(name, application_id, args, idempotent=idempotent, alone=alone)

    def _unpacked(self, name: str, application_id: str, args: dict[str, Any], **how: bool) -> Any:
        """As ``_run``, where the script packs its answer: value by value the store needs far longer for one."""
        return unpack(self._run(name, application_id, args, **how))

    # -- submit ------------------------------------------------------------------------------

    def submit(
        self,
        application_id: str,
        specs: list[JobSpec],
        *,
        idempotency: tuple[str, str] | None = None,
        ids: list[bytes] | None = None,
    ) -> list[Submitted | Refusal]:
        """Up to BATCH jobs in one step. ``ids``: made by the caller, so that a repeated call is harmless."""
        made = ids or [new_job_id() for _ in specs]
        jobs = []
        for spec, job_id in zip(specs, made, strict=True):
            parents = [raw_id(parent) for parent in spec.depends_on]
            jobs.append(job_codec.packed(spec, job_id, parents))
        args: dict[str, Any] = {"jobs": jobs}
        if idempotency:
            args["idempotency"] = [digest(idempotency[0]), digest(idempotency[1])]
        answers = self._unpacked("job_submit", application_id, args, idempotent=True)
        return [
            refusal(answer) if answer[0] == b"!" else Submitted(job_id_text(answer[1]), answer[0] == 1, answer[0] == 2)
            for answer in answers
        ]

    # -- read --------------------------------------------------------------------------------

    def get(self, application_id: str, job_id: str) -> JobRecord | None:
        """The job, or None."""
        raw = job_id_bytes(job_id)
        if raw is None:
            return None
        view = self._unpacked("job_get", application_id, {"ids": [raw]}, idempotent=True)[0]
        return job_codec.record(view) if view else None

    def get_many(self, application_id: str, job_ids: list[str]) -> list[JobRecord | None]:
        """Several jobs in one step (at most BATCH)."""
        args = {"ids": [raw_id(job_id) for job_id in job_ids]}
        views = self._unpacked("job_get", application_id, args, idempotent=True, alone=True)
        return [job_codec.record(view) if view else None for view in views]

    def search(self, application_id: str, args: dict[str, Any]) -> tuple[list[JobRecord], bytes]:
        """One bounded step; see job_search.lua for ``args``. Returns (jobs, cursor or b"")."""
        views, cursor = self._unpacked("job_search", application_id, args, idempotent=True, alone=True)
        return [job_codec.record(view) for view in views], cursor

    def search_ids(self, application_id: str, args: dict[str, Any]) -> tuple[list[str], bytes]:
        """The same, but only the ids of the jobs."""
        found, cursor = self._unpacked("job_search", application_id, {**args, "ids": True}, idempotent=True, alone=True)
        return [job_id_text(job_id) for job_id in found], cursor

    def upcoming(self, application_id: str, args: dict[str, Any]) -> tuple[list[JobRecord], bytes]:
        """Waiting jobs as workers will get them, one bounded step; see job_next.lua. Returns (jobs, cursor or b"")."""
        views, cursor = self._unpacked("job_next", application_id, args, idempotent=True, alone=True)
        return [job_codec.record(view) for view in views], cursor

    def held(self, application_id: str) -> list[tuple[str, str, int]]:
        """(worker, queue, last heartbeat in ms) of every active job whose worker has a name, BATCH jobs at a time."""
        place, found, cursor = keys.prefix(application_id), {}, 0
        while True:
            with translated():
                cursor, leases = self._store.redis.zscan(place + b"act", cursor, count=BATCH)
                pipe = self._store.redis.pipeline(transaction=False)
                for job_id, _ in leases:
                    pipe.hmget(place + b"j:" + job_id, "w", "q", "th")
                rows = pipe.execute()
            for (job_id, _), (worker, queue, at) in zip(leases, rows, strict=True):
                if worker:
                    found[job_id] = (worker.decode(), queue.decode(), int(at))  # a scan may show one twice
            if not cursor:
                return list(found.values())

    # -- work --------------------------------------------------------------------------------

    def claim(
        self,
        application_id: str,
        queues: list[str],
        *,
        limit: int,
        lease_ms: int | None,
        worker_id: str | None,
        nonce: str | None,
        kind: Literal["http", "native"],
    ) -> Claim:
        """Take up to ``limit`` jobs. With a nonce it may be repeated after a lost answer."""
        args = _claim_args(queues, limit, lease_ms, worker_id, nonce, kind)
        answer = self._unpacked("job_claim", application_id, args, idempotent=nonce is not None, alone=limit > 10)
        return self._claimed(application_id, answer)

    def exchange(
        self, application_id: str, report: Report, *, queue: str, lease_ms: int, worker_id: str, nonce: str
    ) -> tuple[Reported | Refusal, Claim]:
        """A native worker's ended job for the next one of its queue: a report and a claim in one step.

        No claim is made when the report is refused. May be repeated.
        """
        args = _claim_args([queue], 1, lease_ms, worker_id, nonce, "native")
        args["report"] = self._packed_report(application_id, report)
        reported, answer = self._unpacked("job_exchange", application_id, args, idempotent=True)
        claim = self._claimed(application_id, answer)
        return refusal(reported) if reported[0] == b"!" else _reported(report.job_id, reported), claim

    def _claimed(self, application_id: str, answer: Any) -> Claim:
        runnable, rows = answer
        jobs = [job_codec.claimed(row) for row in rows]
        for job in jobs:
            if job.parents:
                job.parents = self._results(application_id, job.parents)
        return Claim(jobs, runnable)

    def _results(self, application_id: str, packed: bytes) -> bytes:
        """16-byte ids -> a JSON object of their results (null where the job is gone or has none)."""
        ids = [packed[at : at + 16] for at in range(0, len(packed), 16)]
        views = self._unpacked("job_get", application_id, {"ids": ids}, idempotent=True, alone=True)
        records = [job_codec.record(view) if view else None for view in views]
        members = [
            b'"%s":%s' % (job_id_text(job_id).encode(), (found.result if found else None) or b"null")
            for job_id, found in zip(ids, records, strict=True)
        ]
        return b"{" + b",".join(members) + b"}"

    def parents(self, application_id: str, job: JobRecord) -> bytes | None:
        """The results of the jobs that this one depends on, as a JSON object; None when there are none."""
        if not job.depends_on:
            return None
        return self._results(application_id, b"".join(raw_id(parent) for parent in job.depends_on))

    def start(
        self,
        application_id: str,
        job_id: str,
        *,
        lease_token: str | None,
        lease_ms: int | None,
        worker_id: str | None,
    ) -> Started:
        """Take one named job under the limits of a claim."""
        args: dict[str, Any] = {"id": raw_id(job_id), "token": new_lease_token()}
        for name, value in (("given", lease_token), ("lease", lease_ms), ("worker", worker_id)):
            if value is not None:
                args[name] = value
        token, ends, attempt = self._run("job_start", application_id, args)
        return Started(job_id, token.decode(), int(ends), int(attempt))

    def report(self, application_id: str, reports: list[Report]) -> list[Reported | Refusal]:
        """Up to BATCH reports in one step, each by itself, in order."""
        answers: list[Reported | Refusal] = [missing()] * len(reports)
        todo = [place for place, report in enumerate(reports) if job_id_bytes(report.job_id)]
        for _ in range(MERGES):
            if not todo:
                return answers
            args = {"reports": [self._packed_report(application_id, reports[place]) for place in todo]}
            again = []
            for place, answer in zip(todo, self._unpacked("job_report", application_id, args), strict=True):
                if answer[0] == b"~":
                    again.append(place)
                elif answer[0] == b"!":
                    answers[place] = refusal(answer)
                else:
                    answers[place] = _reported(reports[place].job_id, answer)
            todo = again
        for place in todo:
            answers[place] = _contended()
        return answers

    def _packed_report(self, application_id: str, report: Report) -> dict[str, Any]:
        args: dict[str, Any] = {
            "id": raw_id(report.job_id),
            "kind": report.kind,
            "fresh": new_lease_token(),
            "token": report.lease_token,
            "progress": report.progress,
            "result": report.result,
            "error": report.error,
            "code": report.error_code,
            "loser": True if report.error and b"409" in report.error else None,
            "retry": None if report.retry else False,
            "delay": report.delay_ms,
            "allowed": report.allowed_failures,
            "data": report.data,
            "lease": report.lease_ms,
            "worker": report.worker_id,
            "random": random.random(),
            "unknown": True if report.error_code == "UNKNOWN_TASK" else None,
        }
        if report.metadata is not None:
            args["metadata"] = self._merged(application_id, report.job_id, report.metadata)
        return {name: value for name, value in args.items() if value is not None}

    def _merged(self, application_id: str, job_id: str, patch: dict[str, Any]) -> list[Any] | None:
        """Python computes the merge, the script compares the version."""
        job = self.get(application_id, job_id)
        if job is None:
            return None
        metadata = merge(strict_json.load(job.metadata), patch)
        text = strict_json.dump(metadata)
        return [text, job_codec.hashes_of(fields_of(metadata)), job.version]

    def renew(
        self, application_id: str, leases: list[tuple[str, str | None]], lease_ms: int | None
    ) -> list[tuple[str, int | None]]:
        """Heartbeats: per lease ("ok" | "cancelled" | "lost" | "missing", lease end in ms or None)."""
        args: dict[str, Any] = {"leases": [[raw_id(job_id), token or ""] for job_id, token in leases]}
        if lease_ms is not None:
            args["lease"] = lease_ms
        answers = self._run("job_renew", application_id, args, idempotent=True)
        return [(answer[0].decode(), int(answer[1]) if len(answer) > 1 else None) for answer in answers]

    # -- looking closer ----------------------------------------------------------------------

    def facts(self, application_id: str, job_id: str) -> dict[str, str]:
        """What decides whether the job may start, see job_explain.lua."""
        flat = self._run("job_explain", application_id, {"id": raw_id(job_id)}, idempotent=True)
        texts = [str(value) if isinstance(value, int) else value.decode("utf-8", "replace") for value in flat]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    # -- control -----------------------------------------------------------------------------

    def act(
        self, action: Literal["cancel", "promote", "retry", "delete"], application_id: str, job_ids: list[str]
    ) -> list[State | Refusal | None]:
        """One action on up to BATCH jobs: per job its state afterwards (None: deleted) or a Refusal."""
        ids = [job_id_bytes(job_id) or b"" for job_id in job_ids]
        answers = self._run(f"job_{action}", application_id, {"ids": ids}, idempotent=action == "cancel")
        return [_acted(answer) for answer in answers]

    def change(
        self,
        application_id: str,
        job_id: str,
        *,
        priority: int | None = None,
        run_at_ms: int | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> State:
        """PATCH of a job that waits."""

        def attempt() -> Any:
            args: dict[str, Any] = {"id": raw_id(job_id)}
            if priority is not None:
                args["priority"] = priority
            if run_at_ms is not None:
                args["run_at"] = run_at_ms
            if metadata is not None:
                merged = self._merged(application_id, job_id, metadata)
                if merged is None:
                    raise missing()
                args["metadata"] = merged
            return self._run("job_change", application_id, args)

        return BY_LETTER[self._until_merged(attempt).decode()]

    def set_webhooks(self, application_id: str, job_id: str, patch: dict[str, str | None]) -> dict[str, str]:
        """Merge webhooks into an unfinished job's; None removes. Returns all it has now."""
        merged: dict[str, str] = {}

        def attempt() -> Any:
            job = self.get(application_id, job_id)
            if job is None:
                raise missing()
            merged.clear()
            merged.update({event: url for event, url in {**job.webhooks, **patch}.items() if url is not None})
            args = {
                "id": raw_id(job_id),
                "webhooks": job_codec.webhooks_json(merged) or b"{}",
                "mask": webhook_mask(merged),
                "version": job.version,
            }
            return self._run("job_webhooks", application_id, args)

        self._until_merged(attempt)
        return merged

    @staticmethod
    def _until_merged(attempt: Callable[[], Any]) -> Any:
        for _ in range(MERGES):
            answer = attempt()
            if not isinstance(answer, list):
                return answer
        raise _contended()


def _acted(answer: bytes | list[bytes]) -> State | Refusal | None:
    if isinstance(answer, bytes):
        return BY_LETTER.get(answer.decode())  # 'gone' -> None
    return Unmatched() if answer[0] == b"~" else refusal(answer)


def _contended() -> Refusal:
    return Refusal(Code.CONFLICT, "The job is being changed by too many others at once; try again.", retry_after=1)


def _claim_args(
    queues: list[str], limit: int, lease_ms: int | None, worker_id: str | None, nonce: str | None, kind: str
) -> dict[str, Any]:
    args = {
        "queues": queues,
        "limit": limit,
        "lease": lease_ms,
        "token": new_lease_token(),
        "worker": worker_id or "",
        "nonce": digest(nonce) if nonce else None,
        "kind": kind,
    }
    return {name: value for name, value in args.items() if value is not None}


def _reported(job_id: str, answer: list[Any]) -> Reported:
    state, attempt, ignored, token, ends = answer
    return Reported(
        job_id=job_id,
        state=BY_LETTER[state.decode()],
        ignored=bool(ignored),
        attempt=int(attempt),
        lease_token=token.decode() or None,
        lease_expires_ms=int(ends) if ends else None,
    )
