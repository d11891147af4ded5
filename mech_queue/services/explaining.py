"""Why a job is not running: every blocker in words and codes, with numbers."""

from dataclasses import dataclass, field
from typing import Any

from mech_queue.model.job import BY_LETTER, State
from mech_queue.model.times import iso
from mech_queue.store import Store

NO_WORKER_AFTER_MS = 60_000


@dataclass(slots=True)
class Reason:
    """One blocker. ``code`` for programs, ``message`` for people, ``details`` the numbers."""

    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Explanation:
    """The job's state and what keeps it from running (empty: nothing, or it does not wait)."""

    state: State
    reasons: list[Reason]


def explain(store: Store, application_id: str, job_id: str) -> Explanation:
    """All blockers at once, so that removing the first does not only reveal the next. Raises Refusal(NOT_FOUND)."""
    facts = store.jobs.facts(application_id, job_id)
    state = BY_LETTER[facts["state"]]
    if state is State.DELAYED:
        return Explanation(state, [*_unknown_task(facts), *_delayed(facts)])
    if state is not State.WAITING:
        return Explanation(state, [Reason(state.value.upper(), f"The job is {state.value}.")])
    return Explanation(state, [*_unknown_task(facts), *_limits(facts), *_workers(facts)])


def _unknown_task(facts: dict[str, str]) -> list[Reason]:
    returns, most = int(facts["returns"]), int(facts["most_returns"])
    if not returns:
        return []
    times = "once" if returns == 1 else f"{returns} times"
    sentence = (
        f"Workers have returned it {times}, since they have no task named {facts['task']!r}; after {most} returns it "
        "fails. Start a worker that has this task, or cancel the job and submit it again with another task."
    )
    return [Reason("UNKNOWN_TASK", sentence, {"task": facts["task"], "returns": returns, "limit": most})]


def _delayed(facts: dict[str, str]) -> list[Reason]:
    reasons = []
    if facts["parents"]:
        left = int(facts["parents"])
        reasons.append(Reason("PARENTS", f"It waits for {_jobs(left)} it depends on.", {"parents": left}))
    if facts["run_at"]:
        until = iso(int(facts["run_at"]))
        reasons.append(Reason("DELAYED", f"It is not due before {until}.", {"until": until}))
    return reasons


def _limits(facts: dict[str, str]) -> list[Reason]:
    reasons = []
    if facts["paused"]:
        reasons.append(Reason("QUEUE_PAUSED", "The queue is paused; resume it to go on."))
    if reached := _reached(facts, "queue_active", "queue_limit"):
        reasons.append(
            Reason(
                "QUEUE_LIMIT",
                f"The queue runs {_jobs(reached)}, as many as its concurrency allows.",
                {"active": reached, "limit": int(facts["queue_limit"])},
            )
        )
    if facts["key"] and (reached := _reached(facts, "key_active", "key_limit")):
        reasons.append(
            Reason(
                "KEY_LIMIT",
                f"Its concurrencyKey runs {_jobs(reached)}, as many as concurrencyPerKey allows.",
                {"active": reached, "limit": int(facts["key_limit"])},
            )
        )
    if facts["application_limit"]:
        busy, limit = int(facts["application_active"]) + int(facts["held"]), int(facts["application_limit"])
        if busy >= limit:
            reasons.append(
                Reason(
                    "APPLICATION_LIMIT",
                    f"The application runs {_jobs(busy)} of the {limit} that its maxConcurrentJobs allows.",
                    {"active": busy, "limit": limit},
                )
            )
    if reached := _reached(facts, "rate_used", "rate_max"):
        until = iso(int(facts["rate_frees"]))
        reasons.append(
            Reason(
                "RATE_LIMIT",
                f"The queue has started {_jobs(reached)} in its period; the next may start at {until}.",
                {"started": reached, "max": int(facts["rate_max"]), "until": until},
            )
        )
    return reasons


def _workers(facts: dict[str, str]) -> list[Reason]:
    reasons = []
    seen, now = int(facts["seen"]), int(facts["now"])
    if not seen:
        reasons.append(Reason("NO_WORKER", "No worker has ever asked this queue for work.", {"lastSeen": None}))
    elif now - seen > NO_WORKER_AFTER_MS:
        seconds = (now - seen) // 1000
        reasons.append(
            Reason("NO_WORKER", f"No worker has asked this queue for work for {seconds} s.", {"lastSeen": iso(seen)})
        )
    if facts["ahead"] and int(facts["ahead"]):
        ahead = int(facts["ahead"])
        least = "At least " if facts["key"] else ""  # keys take turns
        verb = "is" if ahead == 1 else "are"
        reasons.append(Reason("JOBS_AHEAD", f"{least}{_jobs(ahead)} {verb} ahead of it.", {"ahead": ahead}))
    return reasons


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


def _reached(facts: dict[str, str], used: str, limit: str) -> int:
    """The number in use when it has reached its limit, else 0."""
    return int(facts[used]) if facts[limit] and int(facts[used]) >= int(facts[limit]) else 0
