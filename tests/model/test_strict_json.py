"""Strict JSON: what is refused, what is kept byte for byte, and that nothing is slow."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mech_queue.model import strict_json
from mech_queue.model.errors import Code, Refusal

MIB = 1 << 20

GOOD = [
    b"null",
    b" 1 ",
    b"[" * 64 + b"]" * 64,
    b'{"a":' * 64 + b"1" + b"}" * 64,
    b"[" + b"[]," * 1000 + b"[]]",
    b'["[[[[", "{{{{", "\\"[[["]' + b"",
    b"9" * 4300,
    b"-" + b"9" * 4300,
    b"1e-999",
    b"0." + b"1" * 10_000,
    b'"\\ud83d\\ude00"',
    b'"\\\\ud800"',
    b'"\\u0000"',
    '"\U0001f600"'.encode(),
]

BAD = {
    b"": "Expecting value",
    b"{": "property name",
    b"[1,]": "Illegal trailing comma",
    b"{'a':1}": "property name",
    b"1 2": "Extra data",
    b"NaN": "NaN is not JSON",
    b"[Infinity]": "Infinity is not JSON",
    b"[-Infinity]": "-Infinity is not JSON",
    b"1e999": "too large",
    b"-1e999": "too large",
    b"9" * 400 + b".0": "too large",
    b'{"a":1,"b":2,"a":3}': 'the key "a" stands twice',
    b'[{"x":{"k":1,"k":1}}]': 'the key "k" stands twice',
    b'"\\ud800"': "surrogate",
    b'"\\uDFFF"': "surrogate",
    b'{"\\ud800":1}': "surrogate",
    b'["\\ud83d", "\\ude00"]': "surrogate",
    b'"\xe9"': "not UTF-8 (byte 1)",
    b'"\xed\xa0\x80"': "not UTF-8",
    b"\xef\xbb\xbf{}": "byte order mark",
    "{}".encode("utf-16"): "byte order mark",
    '{"a":1}'.encode("utf-16-le"): "property name",
    b"[" * 65 + b"]" * 65: "deeper than 64",
    b'{"a":[' * 33 + b"]}" * 33: "deeper than 64",
    b"[" * 100_000: "deeper than 64",
    b"[" * 100_000 + b"]" * 100_000: "deeper than 64",
    b"9" * 4301: "4300 digits",
    b'"a\nb"': "control character",
}


@pytest.mark.parametrize("body", GOOD)
def test_good_json_reads_as_pythons_own_reader_does(body: bytes) -> None:
    assert strict_json.load(body) == json.loads(body)


@pytest.mark.parametrize(("body", "why"), BAD.items(), ids=list(BAD.values()))
def test_bad_json_is_refused_with_the_reason(body: bytes, why: str) -> None:
    if why == "Illegal trailing comma":
        why = ""  # its words differ between releases of Python
    with pytest.raises(Refusal) as caught:
        strict_json.parse(body)
    assert caught.value.code is Code.BAD_JSON
    assert why in caught.value.message


def test_members_keep_their_exact_text() -> None:
    parsed = strict_json.parse(b'{ "a" : [1.10,  2e5 ] , "\\u0062":{"z":1,"a":2}, "c":null }')
    assert parsed.members == {"a": b"[1.10,  2e5 ]", "b": b'{"z":1,"a":2}', "c": b"null"}
    assert strict_json.raw_items(b'[ 1.0 ,"x" , {"a" : 1}]') == [b"1.0", b'"x"', b'{"a" : 1}']


SLOW = {
    "nested": b"[" * (MIB // 2) + b"]" * (MIB // 2),
    "flat lists": b"[" + b"[]," * (MIB // 3 - 1) + b"[]]",
    "64 levels": b"[" + (b"[" * 63 + b"]" * 63 + b",") * 8_300 + b"1]",
    "escapes": b'"' + b'\\"' * (MIB // 2) + b'"',
    "open escapes": b'"' + b'\\"' * (MIB // 2),
    "brackets in strings": b"[" + b'"[",' * (MIB // 4) + b'"["]',
    "quotes": b'"' * MIB,
    "blanks": b" " * MIB,
    "long integers": b"[" + (b"9" * 4300 + b",") * 240 + b"1]",
    "long float": b"0." + b"1" * MIB,
    "long exponent": b"1e" + b"9" * MIB,
    "floats": b"[" + b"1.5," * (MIB // 4) + b"1]",
    "doubled keys": b"{" + b'"a":1,' * (MIB // 6) + b'"a":1}',
    "surrogates": b'"' + b"\\ud83d\\ude00" * (MIB // 12) + b'"',
}


@pytest.mark.parametrize("body", SLOW.values(), ids=SLOW)
def test_a_megabyte_of_anything_is_read_or_refused_quickly(body: bytes) -> None:
    began = time.process_time()
    try:
        strict_json.parse(body)
    except Refusal as refusal:
        assert refusal.code is Code.BAD_JSON
    assert time.process_time() - began < 3  # of processor time; the slowest takes some 0.3 s


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        strict_json.parse(body)
    except Refusal as refusal:
        assert refusal.code is Code.BAD_JSON


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.sampled_from([None, 1]))
def test_what_python_writes_is_read_and_members_join_to_the_whole(value: dict[str, object], indent: int | None) -> None:
    try:
        body = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    parsed = strict_json.parse(body)
    assert parsed.value == value
    assert {name: json.loads(text) for name, text in parsed.members.items()} == value
    assert json.loads(strict_json.dump(parsed.value)) == value
