"""Filters of subscriptions: comparison by JSON type, literal queues, and the places of the index."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mech_queue.model import matching
from mech_queue.model.event import EventType
from mech_queue.model.matching import ANY_FIELD, Filters, matches, places, same
from mech_queue.model.metadata import fields_hash, fields_of
from mech_queue.model.problems import Problems
from mech_queue.store.subscriptions import index_fields

SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, -2.5, 10**20, "", "1", "true", "é"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (3, "3", False),
        (True, 1, False),
        (False, 0, False),
        (1, 1.0, True),
        ("007", "7", False),
        (None, None, True),
        (None, "", False),
        (None, False, False),
        (10**20, 10**20, True),
        (10**20 + 1, 10**20, False),
        ("é", "e\u0301", False),
        ([1, {"a": [True]}], [1.0, {"a": [True]}], True),
        ([1, {"a": [True]}], [1, {"a": [1]}], False),
        ([1], [1, 2], False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({}, [], False),
    ],
)
def test_values_are_compared_by_json_type(one: Any, other: Any, equal: bool) -> None:
    assert same(one, other) is equal
    assert same(other, one) is equal


def match(filters: dict[str, Any], metadata: dict[str, Any], queue: str = "email") -> bool:
    problems = Problems()
    parsed = matching.parse_filters(filters, problems)
    assert not problems, problems.found
    return matches(("completed",), parsed, EventType.COMPLETED, queue, metadata)


def test_no_filter_matches_everything() -> None:
    assert match({}, {})
    assert match({"queues": [], "metadata": {}}, {"a": 1})


def test_all_conditions_must_hold() -> None:
    filters = {"queues": ["email"], "metadata": {"priority": "high", "type": "transactional"}}
    assert match(filters, {"priority": "high", "type": "transactional", "more": 1})
    assert not match(filters, {"priority": "high"})
    assert not match(filters, {"priority": "high", "type": "transactional"}, queue="email-bulk")


def test_null_matches_only_an_explicit_null() -> None:
    assert match({"metadata": {"a": None}}, {"a": None})
    assert not match({"metadata": {"a": None}}, {})
    assert not match({"metadata": {"a": None}}, {"a": 0})


def test_queues_are_literal() -> None:
    for pattern in ("email.", "e.ail"):
        assert not match({"queues": [pattern]}, {}, queue="email")


def test_a_path_is_tried_after_the_literal_key() -> None:
    assert match({"metadata": {"a.b": 1}}, {"a": {"b": 1}})
    assert match({"metadata": {"a.b": 2}}, {"a": {"b": 1}, "a.b": 2})
    assert not match({"metadata": {"a.b": 1}}, {"a": {"b": 1}, "a.b": 2})
    assert match({"metadata": {"x.y.z": 1}}, {"x.y": {"z": 1}})


def test_statuses_are_names_of_events() -> None:
    filters = Filters(statuses=("failed",))
    assert matches(("*",), filters, EventType.FAILED, "q", {})
    assert not matches(("*",), filters, EventType.COMPLETED, "q", {})
    assert not matches(("completed",), filters, EventType.FAILED, "q", {})


@pytest.mark.parametrize(
    "filters",
    [
        {"metadata": {"amount": {"$gt": 5}}},
        {"metadata": {"$or": [1]}},
        {"metadata": {"a": [{"$in": []}]}},
        {"metadata": []},
        {"queue": ["email"]},
        {"queues": "email"},
        {"queues": [1]},
        {"queues": ["em*"]},
        {"statuses": ["done"]},
        {"statuses": ["*"]},
        [],
        "x",
    ],
)
def test_what_cannot_match_is_refused(filters: Any) -> None:
    problems = Problems()
    matching.parse_filters(filters, problems)
    assert problems


@pytest.mark.parametrize("events", [[], ["done"], "completed", [1], ["completed", "Failed"]])
def test_unknown_events_are_refused(events: Any) -> None:
    problems = Problems()
    matching.parse_events(events, problems)
    assert problems


def test_places_are_the_pairs_that_can_match() -> None:
    assert places(("created", "failed"), Filters(queues=("a", "b"), statuses=("failed",))) == [
        ("f", "a"),
        ("f", "b"),
    ]
    assert len(places(("*",), Filters())) == len(EventType)
    assert places(("completed",), Filters(statuses=("failed",))) == []


def test_conditions_that_the_index_can_hold_are_scalars_the_longest_first() -> None:
    filters = Filters(metadata={"urgent": True, "customer": "c-123456", "list": [1, 2, 3, 4, 5, 6]})
    assert index_fields(filters) == [fields_hash("customer", '"c-123456"'), fields_hash("urgent", "true")]
    assert index_fields(Filters(metadata={"list": [1], "none": None})) == [ANY_FIELD]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b", "a.b", "a.b.a", "b.a"]), VALUES, max_size=3),
    st.dictionaries(st.sampled_from(["a", "b", "a.b", "a.b.a", "b.a"]), VALUES, max_size=2),
)
def test_the_index_never_hides_a_match(metadata: dict[str, Any], conditions: dict[str, Any]) -> None:
    filters = Filters(metadata=conditions)
    if matches(("completed",), filters, EventType.COMPLETED, "q", metadata):
        places = {ANY_FIELD, *(fields_hash(*pair) for pair in fields_of(metadata))}
        assert places.issuperset(index_fields(filters))  # whichever of them it stands under


def test_notices_are_for_subscriptions_without_filters_and_not_for_streams() -> None:
    asked = ("completed", "subscription.failing")
    assert matching.wanted(asked, Filters()) == EventType.COMPLETED.bit
    assert places(asked, Filters()) == [("c", "*"), ("!", "*")]
    assert places(asked, Filters(queues=("a",))) == [("c", "a")]
    assert ("!", "*") not in places(("*",), Filters())
    problems = Problems()
    matching.parse_events(list(asked), problems)
    assert "subscription.failing" in str(problems.found)
