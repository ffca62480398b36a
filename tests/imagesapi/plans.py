"""Plans without a database: offers of an invented model, a snapshot that holds them, callers with facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from accounts.callers import Caller
from accounts.rules import KeyRules
from imagesapi import catalog, routing, values
from imagesapi.own_keys import OwnKey
from imagesapi.values import ImageRequest, Offer
from tests.imagesapi.offers import NOON, catalogue

MODEL = "gpt-image-1.5"


def offer(provider: str, number: int, *, dollars: str = "0.01", **changes: Any) -> Offer:
    """One offer of the model at an invented provider, for a price a picture."""
    found = next(iter(catalogue().values()))
    line = dataclasses.replace(found.prices[0], meter="image", conditions={}, unit_price_picos=_picos(dollars))
    capabilities = values.Capabilities(max_n=10, prompt_max_chars=1000, sizes=("1024x1024",), styles=())
    settled = {
        "id": number,
        "model": MODEL,
        "provider": provider,
        "provider_name": provider.title(),
        "adapter": "openai",
        "capabilities": capabilities,
        "prices": (line,),
        "pricing": {},
        "deprecated_on": None,
        "retires_on": None,
        "weight": 0,
        "connection": values.Connection({"OPENAI_API_KEY": "sk-of-the-operator"}, configured=True),
    }
    return dataclasses.replace(found, **{**settled, **changes})


def snapshot(offers: Iterable[Offer], *, provider_order: tuple[str, ...] = ()) -> catalog.Snapshot:
    """A catalogue with one model."""
    made = tuple(offers)
    entry = catalog.Entry(
        slug=MODEL,
        name=MODEL,
        description="",
        creator="",
        released_on=NOON.date(),
        aliases=(),
        tags=(),
        successor="",
        redirects=False,
        offers=made,
        provider_order=provider_order,
    )
    return catalog.Snapshot(
        version=1,
        models=MappingProxyType({MODEL: entry}),
        aliases=MappingProxyType({}),
        offers=MappingProxyType({one.id: one for one in made}),
        providers=frozenset(one.provider for one in made) | {"nobody"},
        mock=values.Connection(configured=True),
    )


def request(**changes: Any) -> ImageRequest:
    asked: dict[str, Any] = {"operation": "generation", "model": MODEL, "prompt": "a red fox", "size": "1024x1024"}
    return ImageRequest(**{**asked, **changes})


def caller(**facts: Any) -> Caller:
    """Somebody whose key was read with these facts."""
    return Caller(
        organization_id=1,
        organization_slug="alice",
        key_id=1,
        key_public_id="key",
        created_by_id=None,
        default_response_format="",
        link_life_minutes=60,
        scopes=frozenset(),
        rules=KeyRules(),
        key_version=1,
        facts=facts,
    )


def plan(*offers: Offer, provider_order: tuple[str, ...] = (), **more: Any) -> routing.Plan:
    """The plan for a request (`asked` changes it) among these offers."""
    asked = request(**more.pop("asked", {}))
    return routing.plan(asked, snapshot(offers, provider_order=provider_order), at=NOON, **more)


def own_plan(*offers: Offer, fallback: bool = True, at: tuple[str, ...] = (), **more: Any) -> routing.Plan:
    """The same for an organization with keys of its own at these providers, at all when none is named."""
    key = OwnKey({"OPENAI_API_KEY": "sk-of-the-organization"}, fallback=fallback)
    return plan(*offers, own=dict.fromkeys(at or [one.provider for one in offers], key), **more)


def order(found: routing.Plan) -> list[str]:
    return [one.offer.provider for one in found.candidates]


def _picos(dollars: str) -> int:
    whole, _, rest = dollars.partition(".")
    return int(whole + rest.ljust(12, "0"))
