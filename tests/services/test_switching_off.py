"""Receivers that want no more, or fail for too long, and who hears of it."""

import pytest
from standardwebhooks.webhooks import Webhook

from mech_queue.model.delivery import DeliveryState
from mech_queue.model.errors import Code, Refusal
from mech_queue.services import deliveries, subscriptions
from tests.services.pipeline import Pipeline
from tests.support import Answer, Receiver


def test_410_switches_the_subscription_off_and_cancels_what_waits(pipeline: Pipeline, receiver: Receiver) -> None:
    made = pipeline.subscribe(receiver.script("/s", [410]))
    for _ in range(3):
        pipeline.report(pipeline.submit(), "complete")
    pipeline.run()
    states = sorted(one.state for one in pipeline.find())
    assert states == [DeliveryState.CANCELLED, DeliveryState.CANCELLED, DeliveryState.FAILED]
    assert len(receiver.requests) == 1
    shown = subscriptions.get(pipeline.store, pipeline.application_id, made.subscription.id)
    assert (shown.spec.active, shown.health.disabled_reason) == (False, "gone")
    # And what happens from now on is written down and can be replayed once it is active again
    job = pipeline.submit()
    pipeline.report(job, "complete")
    assert pipeline.run() == 0
    (skipped,) = pipeline.find(states=(DeliveryState.SKIPPED,))
    assert skipped.job_id == job
    with pytest.raises(Refusal) as refused:
        deliveries.replay(pipeline.store, pipeline.application_id, skipped.id)
    assert refused.value.code is Code.CONFLICT
    subscriptions.change(pipeline.store, pipeline.application_id, made.subscription.id, {"active": True})
    assert deliveries.replay_since(pipeline.store, pipeline.application_id, made.subscription.id, 0) == (4, True)
    assert pipeline.deliver() == 4
    assert {one.state for one in pipeline.find()} == {DeliveryState.SUCCEEDED}


def test_what_waits_for_a_subscription_that_is_gone_ends_at_once(pipeline: Pipeline, receiver: Receiver) -> None:
    """Also what is due in hours, in steps, and nothing of anybody else."""
    # Given more deliveries than one step takes, of which one waits for its next attempt, and another subscription
    leaving, staying = pipeline.subscribe(receiver.script("/leaving", [500])), pipeline.subscribe(receiver.url("/s"))
    for _ in range(60):
        pipeline.report(pipeline.submit(), "complete")
    pipeline.match()
    while not receiver.of("/leaving"):
        deliveries.deliver_next(pipeline.store, pipeline.sender, pipeline.shard)
    # When it is deleted
    subscriptions.delete(pipeline.store, pipeline.application_id, leaving.subscription.id)
    pipeline.advance(0)
    # Then its deliveries have ended, without an attempt
    gone = pipeline.find(subscription_id=leaving.subscription.id)
    assert {one.state for one in gone} == {DeliveryState.CANCELLED} and sum(one.attempt for one in gone) == 1
    pipeline.deliver()
    pipeline.advance(86_400_000)
    pipeline.deliver()
    kept = pipeline.find(subscription_id=staying.subscription.id)
    assert (len(gone), len(kept), len(receiver.of("/leaving"))) == (60, 60, 1)
    assert {one.state for one in kept} == {DeliveryState.SUCCEEDED}


def test_410_ends_what_waits_at_once(pipeline: Pipeline, receiver: Receiver) -> None:
    made = pipeline.subscribe(receiver.script("/s", [500, 410]))
    for _ in range(3):
        pipeline.report(pipeline.submit(), "complete")
    pipeline.match()
    for _ in range(2):
        deliveries.deliver_next(pipeline.store, pipeline.sender, pipeline.shard)
    pipeline.advance(0)
    states = sorted(one.state for one in pipeline.find(subscription_id=made.subscription.id))
    assert states == [DeliveryState.CANCELLED, DeliveryState.CANCELLED, DeliveryState.FAILED]
    assert pipeline.deliver() == 0 and len(receiver.requests) == 2


def test_switched_on_again_meanwhile_it_keeps_what_waits(pipeline: Pipeline, receiver: Receiver) -> None:
    made = pipeline.subscribe(receiver.script("/s", [410]))
    for _ in range(2):
        pipeline.report(pipeline.submit(), "complete")
    pipeline.match()
    deliveries.deliver_next(pipeline.store, pipeline.sender, pipeline.shard)
    subscriptions.change(pipeline.store, pipeline.application_id, made.subscription.id, {"active": True})
    pipeline.advance(0)
    assert pipeline.deliver() == 1


def test_a_receiver_that_fails_for_five_days_is_switched_off(pipeline: Pipeline, receiver: Receiver) -> None:
    receiver.default = Answer(500)
    made = pipeline.subscribe(receiver.url(), retryConfig={"maxAttempts": 20, "backoffMs": 40_000_000})
    pipeline.report(pipeline.submit(), "complete")
    pipeline.run()
    for _ in range(13):
        pipeline.advance(30 * 3_600_000)  # longer than any wait: a day and its jitter
        pipeline.deliver()
    shown = subscriptions.get(pipeline.store, pipeline.application_id, made.subscription.id)
    assert (shown.spec.active, shown.health.disabled_reason) == (False, "failing")


def test_others_hear_before_a_failing_receiver_is_switched_off_and_when_it_is(
    pipeline: Pipeline, receiver: Receiver
) -> None:
    # Given a receiver that fails, one that asked for notices, and one whose filters no notice can meet
    with Receiver(500) as failing:
        made = pipeline.subscribe(failing.url("/x?token=1"), retryConfig={"maxAttempts": 20, "backoffMs": 20_000_000})
        asked = {"events": ["subscription.failing", "subscription.disabled"]}
        watcher = pipeline.subscribe(receiver.url("/notices"), **asked)
        pipeline.subscribe(receiver.url("/filtered"), **asked, filters={"queues": ["email"]})
        pipeline.report(pipeline.submit(), "complete")
        pipeline.run()
        # When half of its five days are over
        heard = []
        for hours in range(0, 240, 10):
            pipeline.advance(10 * 3_600_000)
            pipeline.deliver()
            heard.append((hours + 10, [one.json()["status"] for one in receiver.requests]))
    # Then that is said once, and at their end that it is off
    first = next(hours for hours, words in heard if words)
    assert 60 <= first < 120, heard
    assert heard[-1][1] == ["subscription.failing", "subscription.disabled"], heard
    for request in receiver.of("/notices"):
        assert Webhook(watcher.secret).verify(request.body, request.headers)
        assert request.headers["x-job-status"] == request.json()["event"]["type"]
        assert "x-job-id" not in request.headers
    before, after = (one.json()["about"] for one in receiver.of("/notices"))
    assert (before["id"], before["endpoint"]) == (made.subscription.id, failing.url("/x?…"))
    assert before["disablesAt"] is not None and before["disabledReason"] is None
    assert (after["disablesAt"], after["disabledReason"]) == (None, "failing")
    assert receiver.of("/filtered") == []


def test_410_is_told_at_once(pipeline: Pipeline, receiver: Receiver) -> None:
    pipeline.subscribe(receiver.script("/gone", [410]))
    pipeline.subscribe(receiver.url("/notices"), events=["subscription.disabled"])
    pipeline.report(pipeline.submit(), "complete")
    pipeline.run()
    (request,) = receiver.of("/notices")
    assert request.json()["about"]["disabledReason"] == "gone"
