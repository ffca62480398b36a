"""Whatever is sent as a body: never a 5xx, always OpenAI's shape, and no provider call without an image answered."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.models import Hold
from imagesapi.models import Generation
from tests.envelope import error_of
from tests.fakes.providers import ProviderFake
from tests.imagesapi.conftest import ASKED, Caller

EXAMPLES = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Texts of every kind, lone surrogates among them: JSON can spell them.
ANY_TEXT = st.text(st.characters(codec=None), max_size=40)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
ANY_VALUE = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4), max_leaves=12
)
PARAMETERS = (
    ["prompt", "model", "n", "size", "quality", "background", "output_format", "output_compression", "moderation"]
    + ["style", "response_format", "user", "safety_identifier", "metadata", "max_cost", "strict", "stream", "dryRun"]
    + ["partial_images", "image", "mask", "seed", "aspect_ratio", "resolution"]
)
WORDS = st.sampled_from(
    ["gpt-image-1", "fal/gpt-image-1", "gpt-image-2", "flux.1-schnell", "auto", "1024x1024", "1536x1024", "low", "high"]
    + ["png", "jpeg", "webp", "transparent", "url", "b64_json", "vivid", "hd", "a fox", "0.5", "", "\x00"]
)
NEARLY = st.integers(-2, 12) | WORDS | st.booleans() | st.none()


def check(caller: Caller, fake: ProviderFake, body: bytes) -> None:
    before, asked_before = fake.calls, Generation.objects.count()
    answer = caller.send(body)
    assert answer.status_code < 500, answer.content[:500]
    if answer.status_code == 200:
        document = answer.json()
        assert "error" not in document
        assert document.get("estimated") or (document["data"] and fake.calls > before)
        return
    error_of(answer)
    assert fake.calls == before
    assert Generation.objects.count() == asked_before
    assert not Hold.objects.filter(state="held").exists()


@EXAMPLES
@given(body=st.binary(max_size=200))
def test_any_bytes(caller: Caller, providers: ProviderFake, body: bytes) -> None:
    check(caller, providers, body)


@EXAMPLES
@given(document=ANY_VALUE)
def test_any_json(caller: Caller, providers: ProviderFake, document: Any) -> None:
    check(caller, providers, json.dumps(document).encode())


@EXAMPLES
@given(changes=st.dictionaries(st.sampled_from(PARAMETERS) | ANY_TEXT, ANY_VALUE | NEARLY, max_size=3))
def test_any_value_of_any_parameter(caller: Caller, providers: ProviderFake, changes: dict[str, Any]) -> None:
    check(caller, providers, json.dumps({**ASKED, **changes}).encode())


@EXAMPLES
@given(changes=st.dictionaries(st.sampled_from(PARAMETERS), NEARLY, min_size=1, max_size=5))
def test_any_mixture_of_values_that_are_nearly_right(
    caller: Caller, providers: ProviderFake, changes: dict[str, Any]
) -> None:
    check(caller, providers, json.dumps({**ASKED, **changes}).encode())
