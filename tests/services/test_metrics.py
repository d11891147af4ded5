"""The numbers about what waits inside the service, followed from an event to the end of its delivery."""

from mech_queue.services import metrics
from tests.services.pipeline import Pipeline
from tests.support import Receiver


def test_an_event_waits_then_its_delivery_then_nothing(pipeline: Pipeline, receiver: Receiver) -> None:
    # given a completed job, of which somebody wants to hear
    job = pipeline.submit(webhooks={"completed": receiver.script("/s", [500])})
    pipeline.report(job, "complete")
    pipeline.now += 7_000
    # then its event waits to be matched
    numbers = metrics.read(pipeline.store)
    assert (numbers.events_pending, numbers.events_lag_s) == (1, 7.0)
    assert numbers.scheduler_lag_s == 6.5  # the repair of matching is due after half a second
    # then its delivery waits, first for a worker and then for its next attempt
    pipeline.match()
    numbers = metrics.read(pipeline.store)
    assert (numbers.events_pending, numbers.events_lag_s) == (0, 0.0)
    assert numbers.deliveries == {"waiting": 1, "active": 0, "delayed": 0}
    pipeline.deliver()
    assert metrics.read(pipeline.store).deliveries == {"waiting": 0, "active": 0, "delayed": 1}
    # and when it has ended and everything due is done, nothing is late
    pipeline.advance(3_600_000)
    pipeline.deliver()
    while due := pipeline.store.maintenance.due():
        for shard, application_id in due:
            pipeline.store.maintenance.run(shard, application_id)
    numbers = metrics.read(pipeline.store)
    assert numbers.deliveries == {"waiting": 0, "active": 0, "delayed": 0}
    assert numbers.scheduler_lag_s == 0.0


def test_subscriptions_that_are_switched_off_are_counted_by_reason(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.subscribe(receiver.script("/gone", [410]))
    pipeline.report(pipeline.submit(), "complete")
    pipeline.run()
    found = {one.id: one.disabled for one in metrics.read(pipeline.store).applications}
    assert found[pipeline.application_id] == {"gone": 1, "failing": 0}
