"""Every action against every state: allowed ones end where TRANSITIONS says, all others change nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import TRANSITIONS, Backoff, JobSpec, Report, State
from mech_queue.services import jobs
from tests.store.engine import APPLICATION, Engine

W, D, A, C, F, X = State.WAITING, State.DELAYED, State.ACTIVE, State.COMPLETED, State.FAILED, State.CANCELLED
LEASE_MS = 5_000
FAR_MS = 1_000_000  # a delay that no test reaches
GONE = "gone"


@dataclass
class Subject:
    """The job of a test, and the lease its last worker held (None: never started)."""

    engine: Engine
    id: str
    token: str | None = None


Act = Callable[[Subject], object]


@dataclass(frozen=True)
class Action:
    """What is done, by which line of TRANSITIONS, and what comes of it per state.

    ``ends``: state before -> (state after, events written). ``refused``: state before -> code, or None where
    the answer is a success that changes nothing. ``options`` of the submitted job.
    """

    line: str | None
    act: Act
    ends: dict[State, tuple[Any, list[str]]]
    refused: dict[State, Code | None]
    options: dict[str, Any]


def report(kind: Any, **more: Any) -> Act:
    """A report with the token the job's worker held; tokenless where nobody ever started it and it waits."""

    def act(subject: Subject) -> object:
        return jobs.report(
            subject.engine.store, APPLICATION, Report(subject.id, kind, lease_token=subject.token, **more)
        )

    return act


def report_with_some_token(kind: Any, **more: Any) -> Act:
    """As ``report``; with a token that was never given where the job was never started."""

    def act(subject: Subject) -> object:
        token = subject.token or "never-given"
        return jobs.report(subject.engine.store, APPLICATION, Report(subject.id, kind, lease_token=token, **more))

    return act


def simple(name: str, **more: Any) -> Act:
    """A verb of the service that takes the job's id."""

    def act(subject: Subject) -> object:
        return getattr(jobs, name)(subject.engine.store, APPLICATION, subject.id, **more)

    return act


def resubmit(subject: Subject) -> object:
    """The same submit arrives again, as after a lost answer."""
    engine = subject.engine
    return engine.store.jobs.submit(APPLICATION, [JobSpec(queue="mail")], ids=[engine.raw(subject.id)])


def claim(subject: Subject) -> object:
    """A worker asks the queue."""
    return jobs.claim(subject.engine.store, APPLICATION, ["mail"], limit=10)


def time_passes(ms: int) -> Act:
    """Nothing but the scheduler acts."""
    return lambda subject: subject.engine.advance(ms)


def postpone(subject: Subject) -> object:
    """PATCH runAt into the future."""
    return simple("change", run_at_ms=subject.engine.now + FAR_MS)(subject)


def prepone(subject: Subject) -> object:
    """PATCH runAt to now."""
    return simple("change", run_at_ms=subject.engine.now)(subject)


def heartbeat(subject: Subject) -> object:
    """The worker renews its lease."""
    return jobs.heartbeat(subject.engine.store, APPLICATION, subject.id, subject.token or "never-given")


TWO: dict[str, Any] = {"attempts": 2, "backoff": Backoff(delay_ms=1_000)}
TWO_AT_ONCE: dict[str, Any] = {"attempts": 2, "backoff": Backoff(delay_ms=0)}
LOST: dict[State, Code | None] = {C: Code.JOB_ENDED, F: Code.JOB_ENDED, X: Code.JOB_CANCELLED}
UNCHANGEABLE: dict[State, Code | None] = {A: Code.JOB_ACTIVE, **LOST}
NOBODY: dict[State, Code | None] = {W: Code.LEASE_LOST, D: Code.LEASE_LOST}
STAY: dict[State, Code | None] = dict.fromkeys((W, D, A, C, F, X))


def without(table: dict[State, Code | None], *states: State) -> dict[State, Code | None]:
    """The table without these states."""
    return {state: code for state, code in table.items() if state not in states}


ACTIONS: dict[str, Action] = {
    "submit again": Action(None, resubmit, {}, STAY, {}),
    "put started": Action(
        "start", simple("start"), {W: (A, ["started"])}, {D: Code.NOT_DUE, A: Code.JOB_TAKEN, **LOST}, {}
    ),
    "claim": Action("start", claim, {W: (A, ["started"])}, without(STAY, W), {}),
    "progress": Action(
        "start",
        report("progress", progress=b"50"),
        {W: (A, ["started", "progress"])},
        {D: Code.NOT_DUE, **LOST},
        {},
    ),
    "complete": Action(
        "complete",
        report("complete", result=b"1"),
        {W: (C, ["started", "completed"]), A: (C, ["completed"])},
        {D: Code.NOT_DUE, **LOST, C: None},
        {},
    ),
    "fail": Action(
        "fail",
        report("fail", error=b'"no"'),
        {W: (F, ["started", "failed"]), A: (F, ["failed"])},
        {D: Code.NOT_DUE, **LOST, F: None},
        {},
    ),
    "fail, to be repeated": Action("fail", report("fail"), {A: (D, ["retrying"])}, {C: Code.JOB_ENDED}, TWO),
    "fail, to be repeated at once": Action("fail", report("fail"), {A: (W, ["retrying"])}, {}, TWO_AT_ONCE),
    "fail for good": Action("fail", report("fail", retry=False), {A: (F, ["failed"])}, {}, TWO),
    "attempt runs out of time": Action(
        "fail", time_passes(4_000), {A: (F, ["failed"])}, without(STAY, A), {"timeout_ms": 4_000}
    ),
    "stall": Action("stall", report_with_some_token("stall"), {A: (W, ["stalled"])}, {**NOBODY, **LOST}, {}),
    "lease expires": Action("stall", time_passes(LEASE_MS), {A: (W, ["stalled"])}, without(STAY, A), {}),
    "last lease expires": Action("stall", time_passes(LEASE_MS), {A: (F, ["failed"])}, {}, {"max_stalls": 0}),
    "release": Action("release", report_with_some_token("release"), {A: (W, [])}, {**NOBODY, **LOST}, {}),
    "release for later": Action("release", report_with_some_token("release", delay_ms=1_000), {A: (D, [])}, {}, {}),
    "expire": Action(
        "expire",
        time_passes(4_000),
        {W: (F, ["failed"]), D: (F, ["failed"])},
        without(STAY, W, D),
        {"expires_in_ms": 4_000},
    ),
    "cancel": Action(
        "cancel",
        simple("cancel"),
        {W: (X, ["cancelled"]), D: (X, ["cancelled"]), A: (X, ["cancelled"])},
        {**LOST, X: None},
        {},
    ),
    "promote": Action("promote", simple("promote"), {D: (W, [])}, dict.fromkeys((W, A, C, F, X), Code.CONFLICT), {}),
    "retry": Action(
        "retry",
        simple("retry"),
        {C: (W, ["retrying"]), F: (W, ["retrying"]), X: (W, ["retrying"])},
        dict.fromkeys((W, D, A), Code.CONFLICT),
        {},
    ),
    "delete": Action(
        None, simple("delete"), {state: (GONE, []) for state in (W, D, C, F, X)}, {A: Code.JOB_ACTIVE}, {}
    ),
    "change priority": Action(None, simple("change", priority=7), {W: (W, []), D: (D, [])}, UNCHANGEABLE, {}),
    "postpone": Action("postpone", postpone, {W: (D, []), D: (D, [])}, UNCHANGEABLE, {}),
    "run now": Action("promote", prepone, {D: (W, [])}, UNCHANGEABLE, {}),
    "heartbeat": Action(None, heartbeat, {A: (A, [])}, {**NOBODY, C: Code.LEASE_LOST, F: Code.LEASE_LOST, X: None}, {}),
}
ALLOWED = [(name, state) for name, action in ACTIONS.items() for state in action.ends]
REFUSED = [(name, state) for name, action in ACTIONS.items() for state in action.refused]


def brought_to(engine: Engine, state: State, options: dict[str, Any]) -> Subject:
    """Given: one job in this state, reached as a worker and a user would."""
    if state is D:
        options = {**options, "delay_ms": FAR_MS}
    subject = Subject(engine, engine.submit(**options))
    if state in (A, C, F, X):
        subject.token = jobs.claim(engine.store, APPLICATION, ["mail"], lease_ms=LEASE_MS).jobs[0].lease_token
    if state is C:
        report("complete")(subject)
    elif state is F:
        report("fail", retry=False)(subject)
    elif state is X:
        simple("cancel")(subject)
    found = engine.get(subject.id)
    assert found is not None and found.state is state
    return subject


@pytest.mark.parametrize(("name", "state"), ALLOWED, ids=lambda value: str(value))
def test_an_allowed_action_ends_where_the_table_says_with_its_events(engine: Engine, name: str, state: State) -> None:
    action = ACTIONS[name]
    subject = brought_to(engine, state, action.options)
    before = engine.kinds(subject.id)
    after, events = action.ends[state]

    action.act(subject)

    found = engine.get(subject.id)
    assert (found.state if found else GONE) == after
    assert engine.kinds(subject.id) == before + events


@pytest.mark.parametrize(("name", "state"), REFUSED, ids=lambda value: str(value))
def test_any_other_action_is_refused_in_its_words_and_changes_nothing(engine: Engine, name: str, state: State) -> None:
    action = ACTIONS[name]
    subject = brought_to(engine, state, action.options)
    before = engine.dump()

    code = None
    try:
        action.act(subject)
    except Refusal as refusal:
        code = refusal.code

    assert code == action.refused[state]
    assert unscheduled(engine.dump()) == unscheduled(before)


def unscheduled(dump: dict[bytes, Any]) -> dict[bytes, Any]:
    """Without the scheduler's own marks (repair of a queue with work), which time moves."""
    return {
        key: {name: value for name, value in found.items() if name not in (b"idle", b"repair")}
        if isinstance(found, dict)
        else found
        for key, found in dump.items()
        if not key.endswith((b":due", b":next"))
    }


NAMING = [  # actions that name one job; the others ask a queue, bring the job along, or are time itself
    name
    for name, action in ACTIONS.items()
    if action.act not in (claim, resubmit) and not action.act.__qualname__.startswith("time_passes")
]


@pytest.mark.parametrize("name", NAMING)
def test_a_job_that_is_not_there_is_not_found(engine: Engine, name: str) -> None:
    engine.submit()
    subject = Subject(engine, "01936d3c-0000-7000-8000-000000000000", "some-token")
    before = engine.dump()

    with pytest.raises(Refusal) as refused:
        ACTIONS[name].act(subject)

    assert refused.value.code is Code.NOT_FOUND
    assert engine.dump() == before


def test_the_actions_above_cover_the_whole_table() -> None:
    tested = set()
    for action in ACTIONS.values():
        for before, (after, events) in action.ends.items():
            if action.line is None:
                continue
            # a report on a waiting job starts it first: two lines of the table
            implicit = action.line not in ("start",) and before is W and "started" in events
            if implicit:
                assert A in TRANSITIONS["start"][W]
            tested.add((action.line, A if implicit else before, after))
    whole = {
        (line, before, after) for line, table in TRANSITIONS.items() for before, ends in table.items() for after in ends
    }
    assert whole - tested == {("orphan", D, F)}  # see test_parents
    assert tested <= whole
