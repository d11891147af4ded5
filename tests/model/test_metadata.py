"""Metadata: what can be searched and when two values are the same."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mech_queue.model import metadata

SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def test_scalars_and_one_nested_level_are_fields() -> None:
    found = metadata.fields_of(
        {"s": "x", "n": 1.0, "b": True, "z": None, "l": [1], "o": {"i": 2, "d": {"e": 1}, "t": ""}}
    )
    assert found == (("s", '"x"'), ("n", "1"), ("b", "true"), ("o.i", "2"), ("o.t", '""'))


def test_a_literal_key_hides_the_path_whatever_its_value() -> None:
    assert metadata.fields_of({"a": {"b": 1}, "a.b": 2}) == (("a.b", "2"),)
    assert metadata.fields_of({"a": {"b": 1}, "a.b": None}) == ()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (1, 1.0, True),
        (100, 1e2, True),
        (0, -0.0, True),
        (1, True, False),
        (0, False, False),
        (1, "1", False),
        (True, "true", False),
        (0.1, 0.1, True),
        (10**20, 1e20, True),
        (10**20 + 1, 1e20, False),
        ("é", "e\u0301", False),
        ("A", "a", False),
    ],
)
def test_values_are_the_same_by_type_and_value(first: object, second: object, same: bool) -> None:
    assert (metadata.canonical(first) == metadata.canonical(second)) is same


@settings(deadline=None)
@given(SCALARS)
def test_a_value_is_found_by_what_json_writes_for_it(value: object) -> None:
    written = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, str) and len(value) >= 2 and value[0] == value[-1] == '"':
        written = json.dumps(value)
    assert metadata.canonical(value) in metadata.accepted(str(written))


@settings(deadline=None)
@given(st.text(max_size=50))
def test_any_query_text_is_accepted_without_an_accident(text: str) -> None:
    assert metadata.accepted(text)


@pytest.mark.parametrize("text", ["1e999", "-1e999", "9" * 5000, "9" * 4301, "1e" + "9" * 4000])
def test_numbers_without_a_value_are_strings_only(text: str) -> None:
    assert metadata.accepted(text) == (json.dumps(text),)


def test_hashes_do_not_depend_on_where_name_and_value_meet() -> None:
    pairs = [("a", '"b=c"'), ("a=b", '"c"'), ("a", '"b"'), ("1:a", "1"), ("a", "1"), ("\ud800", "1")]
    hashes = [metadata.fields_hash(name, text) for name, text in pairs]
    assert len(set(hashes)) == len(pairs)
    assert {len(one) for one in hashes} == {6}


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ({str(n): n for n in range(50)}, True),
        ({str(n): n for n in range(51)}, False),
        ({"a": {str(n): n for n in range(50)}}, True),
        ({"a": {str(n): n for n in range(51)}}, False),
        ([], False),
        ("x", False),
    ],
)
def test_keys_are_bounded(value: object, good: bool) -> None:
    assert (metadata.problem_of(value) is None) is good


def test_merging_replaces_and_null_removes() -> None:
    assert metadata.merge({"a": 1, "b": None, "c": {"x": 1}}, {"a": None, "c": {"y": 2}, "d": 0}) == {
        "b": None,
        "c": {"y": 2},
        "d": 0,
    }
