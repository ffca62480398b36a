"""T-20: a price that changes under way. Each charge is by the lines valid when its attempt was sent, and says which."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from core import money
from imagesapi import calling
from imagesapi.models import PriceLine
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi.conftest import Caller


def line(provider: str, meter: str) -> PriceLine:
    """A price of gpt-image-1 as it is now; at fal that of the picture the tests ask for."""
    found = PriceLine.objects.filter(
        offer__provider__slug=provider, offer__model__slug="gpt-image-1", meter=meter, basis="billed"
    )
    if meter == "image":
        found = found.filter(conditions={"quality": "low", "size": "1024x1024"})
    return found.latest("valid_from")


def raise_price(provider: str, meter: str, *, valid_from: dt.datetime | None = None) -> PriceLine:
    """The same price ten times as high."""
    row = line(provider, meter)
    row.pk, row.unit_price_picos = None, row.unit_price_picos * 10
    row.valid_from = valid_from or timezone.now()
    row.save()
    return row


def during(monkeypatch: pytest.MonkeyPatch, *what: Callable[[], object]) -> None:
    """While each provider call is under way, one thing after the other."""
    run, left = calling.run, list(what)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if left:
            left.pop(0)()
        return run(*args, **kwargs)

    monkeypatch.setattr(calling, "run", wrapped)


def receipt(caller: Caller, answer: Any) -> Any:
    assert answer.status_code == 200, answer.content
    return caller.client.get(f"/v1/requests/{answer.json()['id']}/receipt").json()


def lines_of(found: Any) -> set[int]:
    return {item["price_line"] for item in found["items"]}


def test_a_price_that_comes_between_hold_and_settlement_is_for_the_next_request(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, made = line("openai", "image_output_token"), []
    during(monkeypatch, lambda: made.append(raise_price("openai", "image_output_token")))
    first = receipt(caller, caller.ask(model="openai/gpt-image-1"))
    assert old.pk in lines_of(first) and made[0].pk not in lines_of(first)
    assert money.nanos(first["charged"]) == money.nanos(first["total"])
    second = receipt(caller, caller.ask(model="openai/gpt-image-1"))
    assert made[0].pk in lines_of(second) and old.pk not in lines_of(second)
    prices = [next(item for item in found["items"] if "output" in item["meter"]) for found in (first, second)]
    assert [money.picos(item["unit_price"]) for item in prices] == [old.unit_price_picos, 10 * old.unit_price_picos]
    assert [item["quantity"] for item in prices] == ["272", "272"]


def test_a_dated_price_that_begins_while_the_provider_works_is_for_later_ones(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known beforehand, so the hold may have been by either: what counts is when the call was sent."""
    begins = timezone.now() + dt.timedelta(seconds=1)
    old, new = line("openai", "image_output_token"), raise_price("openai", "image_output_token", valid_from=begins)

    def past_it() -> None:
        assert timezone.now() < begins
        time.sleep(max((begins - timezone.now()).total_seconds(), 0) + 0.01)

    during(monkeypatch, past_it)
    assert old.pk in lines_of(receipt(caller, caller.ask(model="openai/gpt-image-1")))
    assert new.pk in lines_of(receipt(caller, caller.ask(model="openai/gpt-image-1")))


def test_a_price_that_comes_between_two_attempts_is_the_seconds(
    caller: Caller, providers: ProviderFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt is sent at the new price; what that is above the hold is the platform's."""
    providers.script(misbehaviour.status(503), on="openai")
    made: list[PriceLine] = []
    during(monkeypatch, lambda: made.append(raise_price("fal", "image")))
    found = receipt(caller, caller.ask())
    assert found["provider"] == "fal"
    assert lines_of(found) >= {made[0].pk}
    assert money.nanos(found["total"]) == 120_000_000  # ten times $0.011 and the prompt, up to the next cent
    assert money.nanos(found["charged"]) + money.nanos(found["absorbed"]) == money.nanos(found["total"])


def test_a_price_that_is_not_valid_yet_is_not_used(caller: Caller) -> None:
    later = raise_price("openai", "image_output_token", valid_from=timezone.now() + dt.timedelta(hours=1))
    assert later.pk not in lines_of(receipt(caller, caller.ask(model="openai/gpt-image-1")))
