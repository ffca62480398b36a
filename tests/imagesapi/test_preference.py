"""The `provider` object of a request, from its body to who is asked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.envelope import assert_refused
from tests.imagesapi.conftest import Caller


@pytest.mark.parametrize(
    "members",
    [{"only": ["fal"]}, {"order": ["fal"]}, {"ignore": ["openai"]}, {"order": ["fal", "openai"], "sort": "price"}],
)
def test_it_asks_whom_the_request_names(caller: Caller, members: dict[str, Any]) -> None:
    assert caller.ask(provider=members).json()["metadata"]["provider"] == "fal"


@pytest.mark.parametrize(
    ("members", "param", "code"),
    [
        (5, "provider", "invalid_type"),
        ({"only": "fal"}, "provider.only", "invalid_type"),
        ({"only": []}, "provider.only", "invalid_value"),
        ({"order": ["nobody"]}, "provider.order", "invalid_value"),
        ({"sort": "beauty"}, "provider.sort", "invalid_value"),
        ({"first": "fal"}, "provider", "unknown_parameter"),
    ],
)
def test_it_says_what_such_an_object_may_hold(caller: Caller, members: Any, param: str, code: str) -> None:
    assert_refused(caller.ask(provider=members), 400, code, param=param)
