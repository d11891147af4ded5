"""Random histories: the store equals the reference model after every step, and drains at the end of some."""

import os

import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from mech_queue.store import Store
from tests.store.hands import WINDOW
from tests.store.machine import machine_on

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "0"))  # more, and other ones each time, for a long run
SUITE_EXAMPLES = 500
STEPS = 25


def test_the_store_equals_the_model_after_every_step(redis_url: str, admin: redis.Redis) -> None:
    store = Store.open(redis_url, window=WINDOW)
    run_state_machine_as_test(
        machine_on(store, admin),
        settings=settings(
            max_examples=EXAMPLES or SUITE_EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=not EXAMPLES,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )
    store.close()
