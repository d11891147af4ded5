"""Bulk operations: one action on every job that a filter finds, in bounded steps that survive any kill."""

import json
from dataclasses import asdict, dataclass, replace
from typing import get_args

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.ids import job_id_text, new_job_id
from mech_queue.model.job import State
from mech_queue.model.query import JobQuery
from mech_queue.services import jobs
from mech_queue.services.jobs import Action
from mech_queue.services.searching import search_ids
from mech_queue.store import Store
from mech_queue.store.jobs import BATCH, Unmatched

ACTIONS: tuple[str, ...] = get_args(Action)


@dataclass(frozen=True, slots=True)
class Operation:
    """A bulk operation. ``failed``: jobs that refused the action (their state did not fit). Times in ms."""

    id: str
    action: str
    state: str
    done: int
    failed: int
    created_ms: int
    ended_ms: int | None


def count(store: Store, application_id: str, query: JobQuery) -> int:
    """How many jobs the filter finds now (the dry run); walks them all in bounded steps."""
    found, page_query = 0, replace(query, limit=1000, cursor=None, order="asc")
    while True:
        ids, cursor = search_ids(store, application_id, page_query)
        found += len(ids)
        if cursor is None:
            return found
        page_query = replace(page_query, cursor=cursor)


def create(store: Store, application_id: str, action: str, query: JobQuery) -> str:
    """Begin an operation; the scheduler takes its steps. Returns its id."""
    operation_id = job_id_text(new_job_id())
    found = {name: value for name, value in asdict(query).items() if name not in ("limit", "cursor", "order")}
    store.operations.create(application_id, operation_id, action, json.dumps(found).encode())
    return operation_id


def get(store: Store, application_id: str, operation_id: str) -> Operation:
    """Its progress. Raises Refusal(NOT_FOUND)."""
    row = store.operations.get(application_id, operation_id) if len(operation_id) <= 64 else None
    if row is None:
        raise Refusal(Code.NOT_FOUND, "There is no such operation.")
    return Operation(
        id=operation_id,
        action=row["action"],
        state=row["state"],
        done=int(row["done"]),
        failed=int(row["failed"]),
        created_ms=int(row["created"]),
        ended_ms=int(row["ended"]) if "ended" in row else None,
    )


def step(store: Store, application_id: str, operation_id: str) -> None:
    """Act on the next BATCH jobs. Repeated after a kill: an action that was taken already refuses, harmlessly."""
    row = store.operations.get(application_id, operation_id)
    if row is None or row["state"] != "running":
        return
    ids, cursor = search_ids(store, application_id, _query(row))
    answers = jobs.act_many(store, application_id, _action(row["action"]), ids)
    failed = sum(isinstance(answer, Refusal) for answer in answers)
    done, after, finished = len(answers) - failed, cursor or "", cursor is None
    if any(isinstance(answer, Unmatched) for answer in answers):  # the same page again, until none of them is
        after, failed, finished = row["cursor"], 0, False
    store.operations.book(application_id, operation_id, row["cursor"], after, done, failed, finished)


def _action(name: str) -> Action:
    for action in get_args(Action):
        if action == name:
            return action  # type: ignore[no-any-return]
    raise ValueError(f"no such action: {name}")


def _query(row: dict[str, str]) -> JobQuery:
    found = json.loads(row["filter"])
    query = JobQuery(
        queue=found["queue"],
        states=tuple(State(state) for state in found["states"]),
        fields=tuple((name, tuple(texts)) for name, texts in found["fields"]),
        task=found["task"],
        submitted_after=found["submitted_after"],
        submitted_before=found["submitted_before"] or int(row["before"]),
        order="asc",
        limit=BATCH,
        cursor=row["cursor"] or None,
    )
    return query
