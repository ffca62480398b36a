"""Long base64 in JSON: seen in place, never confused with anything else, written back as it came."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import bigjson

LONG = "A" * bigjson.LONG_BYTES


def plain(value: object) -> object:
    """The document with every view read."""
    if isinstance(value, memoryview):
        return bytes(value).decode()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def test_it_leaves_long_texts_in_place_and_parses_the_rest() -> None:
    body = json.dumps({"created": 1, "data": [{"b64_json": LONG}, {"b64_json": LONG + "B", "n": [None]}]}).encode()
    found = bigjson.loads(body, key="b64_json")
    assert isinstance(found["data"][0]["b64_json"], memoryview)
    assert plain(found) == json.loads(body)


@pytest.mark.parametrize("text", ["short", LONG + "\\u0041", LONG.replace("AAAA", "AA\\/A", 1)])
def test_it_parses_what_is_short_or_escaped(text: str) -> None:
    body = f'{{"b64_json": "{text}"}}'.encode()
    found = bigjson.loads(body, key="b64_json")
    assert isinstance(found["b64_json"], str)
    assert found == json.loads(body)


def test_a_text_that_talks_about_the_key_is_no_key() -> None:
    document = {"note": f'say "b64_json": "{LONG}" twice', "b64_json": LONG}
    body = json.dumps(document).encode()
    assert plain(bigjson.loads(body, key="b64_json")) == document


@pytest.mark.parametrize(
    "body", [b'{"b64_json": "' + LONG.encode(), b'{"b64_json": "' + LONG.encode() + b'"', b"[", b""]
)
def test_broken_documents_stay_broken(body: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        bigjson.loads(body, key="b64_json")


def test_it_writes_views_back_without_touching_them() -> None:
    first, second = memoryview(b"QUJD" * 2000), memoryview(b"REVG" * 3000)
    document = {"data": [{"b64_json": first, "note": "a"}, {"b64_json": second}], "end": 1}
    assert orjson.loads(bigjson.dumps(document)) == plain(document)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20) | st.just(LONG),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["b64_json", "url", "x"]), inner),
        max_leaves=8,
    )
)
def test_any_document_comes_back_as_it_is(document: object) -> None:
    body = orjson.dumps(document)
    assert plain(bigjson.loads(body, key="b64_json")) == orjson.loads(body)
