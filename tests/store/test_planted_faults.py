"""The machine notices: with a fault planted in the scripts it must fail. `make machine` tries them all."""

import os
from dataclasses import dataclass

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from mech_queue.model.errors import Refusal
from mech_queue.store import Store
from mech_queue.store.library import Library, entry_points, joined, named
from mech_queue.store.scripts import Scripts
from tests.store.hands import WINDOW
from tests.store.machine import machine_on
from tests.store.test_machine import STEPS

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "0"))
SUITE_EXAMPLES = 60  # more than each of the quick ones needs


@dataclass(frozen=True)
class Fault:
    """``right`` in any script is replaced by ``wrong``. ``quick``: found fast enough for the suite."""

    name: str
    right: str
    wrong: str
    quick: bool = False


FAULTS = [
    Fault(
        "an ended job leaves its key blocked",
        "key_counted(queue, key, -1)\n  regroup(queue, key)",
        "key_counted(queue, key, -1)",
    ),
    Fault(
        "no queue is woken for a free slot of the application",
        "  wake_application()\n  refill_queues",
        "  refill_queues",
    ),
    Fault(
        "nobody is woken when the rate limit frees a slot",
        "due_at('due', queue.rate_head + queue.rate_per, 'r' .. queue.name) return",
        "return",
    ),
    Fault(
        "the window of the rate limit is 1 ms short",
        "if tonumber(at) + queue.rate_per > now then queue.rate_head",
        "if tonumber(at) + queue.rate_per > now + 1 then queue.rate_head",
    ),
    Fault("the sum of the rate log is not written", "if queue.rate_used ~= was then", "if false then", quick=True),
    Fault("a served key keeps its turn", "call('HSET', queue.turns, key, seq8(tick()))  ", "", quick=True),
    Fault(
        "wake-ups are pushed without counting those that wait",
        "startable(queue, most) - waiting or 0",
        "startable(queue, most) or 0",
        quick=True,
    ),
    Fault(
        "a claim takes slots held for other queues",
        "queue.concurrency - queue.active, app.max - app.active - app.held)",
        "queue.concurrency - queue.active, app.max - app.active)",
    ),
    Fault(
        "PUT started does not ask for the limit of the key",
        "if job.k and key_running(queue, job.k) >= key_limit(queue, job.k) then\n",
        "if false then\n",
    ),
    Fault(
        "a stale lease token is accepted",
        "(report.token and report.token ~= job.l) or (not",
        "(not",
    ),
    Fault("a held slot never lapses", "if drop_held(queue) then queue.lap", "if false then queue.lap"),
    Fault("a lost lease is not told", "  event(job, 'stalled')\n", ""),
    Fault("an attempt may run for ever", "if job:option('timeout') then due_at(", "if false then due_at(", quick=True),
    Fault(
        "a job expires though it was started",
        "'x' .. job.id) end\n  observe",
        "'y' .. job.id) end\n  observe",
        quick=True,
    ),
    Fault("a dedupe key outlives its job", "  free_dedupe(job)\n  if kind", "  if kind", quick=True),
    Fault("a dedupe key for a time ends with its job", "(not job.te or call('PTTL', key) < 0)", "true"),
    Fault(
        "children are not told of their parent's end",
        "if job.ch then due_at('due', now, 'c' .. job.id) end",
        "",
    ),
    Fault("the first parent that ends lets a child run", "    if left > 0 then return end\n", "", quick=True),
    Fault(
        "the failure of a parent is forgotten", "if not well and job:option('orphan') ~= 'run' then", "if false then"
    ),
    Fault("the scheduler is not told of a due time", "  due_soon(score)\n", ""),
]


class FaultyScripts(Scripts):
    """Scripts with one fault."""

    def __init__(self, store: Store, fault: Fault) -> None:
        super().__init__(store.nodes, WINDOW)
        self._fault = fault

    def _library(self, name: str) -> Library:
        return named(name, joined(name, WINDOW).replace(self._fault.right, self._fault.wrong))


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault.quick or EXAMPLES], ids=lambda fault: fault.name.replace(" ", "-")
)
def test_the_machine_notices(redis_url: str, admin: redis.Redis, fault: Fault) -> None:
    store = Store.open(redis_url, window=WINDOW)
    store.scripts = FaultyScripts(store, fault)
    with pytest.raises((AssertionError, Refusal, redis.ResponseError)):
        run_state_machine_as_test(
            machine_on(store, admin),
            settings=settings(
                max_examples=EXAMPLES or SUITE_EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=True,
                deadline=None,
                database=None,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.generate,),
            ),
        )
    store.close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_each_fault_is_planted_somewhere(fault: Fault) -> None:
    assert any(fault.right in joined(name, WINDOW) for name in entry_points())
